"""The versions of study and of the libraries that its results depend on, told without importing them."""

import platform
import runpy
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import typer

LIBRARIES = ("torch", "torchvision", "mlflow", "optuna")


def versions() -> str:
    """A line each for study, Python and the libraries; torch's names the CUDA version that it was built for."""
    lines = [f"study {version('tracing-convolutions')}", f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        lines.append(f"{name} {version(name)}{f' ({_cuda()})' if name == 'torch' else ''}")
    return "\n".join(lines)


def show_versions(is_wanted: bool) -> None:
    """Callback of --version: prints the versions and ends the command."""
    if is_wanted:
        print(versions())
        raise typer.Exit


def _cuda() -> str:
    """The CUDA version that torch was built for."""
    origin = (found := find_spec("torch")) and found.origin
    # Importing torch takes seconds.
    built_for = runpy.run_path(str(Path(origin).with_name("version.py")))["cuda"] if origin else None
    return f"CUDA {built_for}" if built_for else "without CUDA"
