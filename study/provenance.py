"""Package versions and git commit of a run."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "mlflow", "optuna", "numpy", "scikit-learn")


def provenance() -> dict[str, str]:
    """Versions and git commit, recorded as params of every run; the commit ends in "+" with uncommitted changes."""
    versions = {f"version_{package}": version(package) for package in PACKAGES}
    return {**versions, "version_python": platform.python_version(), "git_commit": git_commit()}


def git_commit() -> str:
    """The commit of the source tree, or "unknown" for an installed wheel."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        # An installed wheel may lie inside another repository.
        git("ls-files", "--error-unmatch", __file__)
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
