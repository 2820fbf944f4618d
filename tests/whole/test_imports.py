"""What each command imports: seconds of processor time at every start."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Finished
from tests.support.process import TIMEOUT, environment

COMMANDS = """
import json, os, sys
from pipelines.cli.app import main

# `ui` ends by becoming MLflow's server.
os.execv = lambda path, arguments: None
commands, codes = map(json.loads, sys.argv[1:])
for command in commands:
    sys.argv = ["study", *command]
    try:
        main()
    except SystemExit as end:
        assert end.code in codes, (command, end.code)
print("\\nimported", *{name.partition(".")[0] for name in sys.modules})
"""
HEAVY = {"torch", "torchvision", "mlflow", "optuna", "sklearn", "matplotlib", "pandas"}


def imported(*commands: tuple[str, ...], home: Path, codes: tuple[int | None, ...] = (None, 0)) -> set[str]:
    """Those of the heavy packages that the commands import, one after another in a new process.

    Each has to end with one of the exit `codes`.
    """
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands), json.dumps(codes)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    packages = set(done.stdout.rpartition("imported ")[2].split())
    assert "typer" in packages
    return packages & HEAVY


@pytest.mark.parametrize("command", [(), ("tune",), ("analyse",), ("doctor",)])
def test_the_help_imports_nothing_heavy(command: tuple[str, ...], tmp_path: Path):
    assert imported((*command, "--help"), home=tmp_path) == set()


def test_the_refusal_to_serve_others_without_a_login_imports_nothing_heavy(tmp_path: Path):
    assert imported(("ui", "--host", "0.0.0.0"), home=tmp_path, codes=(2,)) == set()


@pytest.mark.parametrize(
    "options",
    [("--dataset", "digitz"), ("--device", "gpu"), ("--precision", "half"), ("--space", "all"), ("--prefer", "size")],
)
def test_a_mistyped_value_is_refused_before_anything_heavy_is_imported(options: tuple[str, str], tmp_path: Path):
    assert imported(("tune", *options), home=tmp_path, codes=(2,)) == set()


def test_a_mistyped_value_that_may_be_drawn_is_refused_without_torch_and_mlflow(tmp_path: Path):
    commands = [("tune", "--epochs", "0"), ("tune", "--kernel", "x"), ("tune", "--schedule", "linear")]
    assert imported(*commands, home=tmp_path, codes=(2,)) == {"optuna"}


def test_what_is_done_with_the_stores_alone_imports_no_torch(finished_study: Finished, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [("runs",), ("ui", "--port", str(port)), ("doctor",), ("export", str(tmp_path / "exported"))]
    assert imported(*commands, home=finished_study.context.home.root) == {"mlflow", "optuna", "pandas"}
    assert (tmp_path / "exported").is_dir()


def test_the_images_are_shown_without_stores_and_figures(tmp_path: Path):
    assert imported(("data", "--dataset", "digits"), home=tmp_path).isdisjoint(
        {"mlflow", "optuna", "matplotlib", "torchvision"}
    )


def test_pages_are_refused_to_others_and_versions_told_at_once(tmp_path: Path):
    assert imported(("ui", "--host", "0.0.0.0"), home=tmp_path, codes=(2,)) == set()
    assert imported(("--version",), home=tmp_path) == set()
