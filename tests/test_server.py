"""The whole path against a tracking server in another process, which keeps the artifacts itself."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import PATIENCE, STUDY, environment


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{found.getsockname()[1]}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "kept"), "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", address.rpartition(":")[2]]
    settings = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=settings) as process:
        try:
            _wait(address, process, folder / "log")
            yield address
        finally:
            process.terminate()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not answer: {log.read_text()}")


def run(*arguments: str, home: Path, server: str) -> str:
    """What `study` said, working with `server`."""
    home.mkdir()
    made = environment(home, MLFLOW_TRACKING_URI=server)
    ended = subprocess.run([STUDY, *arguments], env=made, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_study_recorded_on_a_server_is_analysed_from_another_folder(server: str, tmp_path: Path) -> None:
    settings = ("--dataset", "digits", "--trials", "2", "--epochs", "1", "--retrain-epochs", "1")
    said = run("tune", *settings, home=tmp_path / "trained", server=server)
    assert f"{server}/#/experiments/" in said, "page addresses are given where a server answers"

    run("analyse", "--only", "table2,image,kernel_conv2,explorer", home=tmp_path / "analysed", server=server)
    (page,) = (tmp_path / "analysed" / "reports").glob("*/only.html")
    assert (page.parent / "kernel_conv2_filter12.png").is_file()
    assert not (tmp_path / "trained" / "mlruns" / "artifacts").exists(), "artifacts went to the server"
