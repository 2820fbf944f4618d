"""The folder of all results."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Home:
    """The folder of all results: `mlruns/`, `reports/` and `data/`."""

    root: Path

    @property
    def data(self) -> Path:
        """Downloaded archives and decoded images."""
        return self.root / "data"

    @property
    def store(self) -> Path:
        """The default stores: `mlflow.db`, `optuna.db` and the artifacts."""
        return self.root / "mlruns"

    @property
    def reports(self) -> Path:
        """Reports, one folder per analysed run."""
        return self.root / "reports"


def default_home() -> Home:
    """The root of the project; the current folder for an installed wheel."""
    project = Path(__file__).resolve().parents[1]
    return Home(root=project if (project / "pyproject.toml").is_file() else Path.cwd())
