"""Package versions and git commit of a run."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "mlflow", "optuna", "numpy", "scikit-learn")


def provenance() -> dict[str, str]:
    """Versions and git commit, recorded as params of every run; the commit ends in "+" with uncommitted changes."""
    versions = {f"version_{package}": version(package) for package in PACKAGES}
    return {**versions, "version_python": platform.python_version(), "git_commit": git_commit()}


def short_commit(commit: str) -> str:
    """The first ten characters of a recorded commit, with the "+" of uncommitted changes."""
    return commit[:10] + ("+" if commit.endswith("+") else "")


def git_commit() -> str:
    """The commit of the source tree, or "unknown" for an installed wheel."""
    command = ["git", "-C", str(Path(__file__).parent)]
    # Git names another repository to the hooks that it runs: GIT_DIR, GIT_INDEX_FILE.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, env=environment)
        return done.stdout

    try:
        # An installed wheel may lie inside another repository.
        git("ls-files", "--error-unmatch", __file__)
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
