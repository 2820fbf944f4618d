"""The folder of all results."""

from dataclasses import dataclass
from pathlib import Path

SQLITE = "sqlite:///"


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
    def tracking_uri(self) -> str:
        """MLflow's database, where no other is named."""
        return SQLITE + str(self.store / "mlflow.db")

    @property
    def storage_url(self) -> str:
        """Optuna's database, where no other is named: never MLflow's own, since both would migrate it."""
        return SQLITE + str(self.store / "optuna.db")

    @property
    def reports(self) -> Path:
        """Reports, one folder per analysed run."""
        return self.root / "reports"


def default_home() -> Home:
    """The root of the project; the current folder for an installed wheel."""
    project = Path(__file__).resolve().parents[1]
    return Home(root=project if (project / "pyproject.toml").is_file() else Path.cwd())
