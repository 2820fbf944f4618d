"""The `study` command as a process, and the baseline that it is compared with."""

import os
import sys
from pathlib import Path

from study.home import default_home

STUDY = str(Path(sys.executable).with_name("study"))
IMPORTS = (sys.executable, "-c", "import torch, mlflow, optuna, torchvision")
"""Baseline of start-up time and memory: a process that only imports."""


def environment(home: Path) -> dict[str, str]:
    """Environment of a process that keeps everything in `home`, without this process's own settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("STUDY_", "MLFLOW_", "OPTUNA_"))}
    return {**clean, "STUDY_HOME": str(home)}


def with_data(home: Path) -> Path:
    """Creates `home`, with the downloads and decoded images of the default home."""
    shared = default_home().data
    shared.mkdir(parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    (home / "data").symlink_to(shared)
    return home
