"""An MLflow tracking server as a process, which also stores artifacts, and can be stopped and restarted."""

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.home import Home
from study.system.backups import copy_database
from tests.support.fork_server import Forked, fork_server
from tests.support.process import TIMEOUT

MLFLOW = """
import os
from mlflow import cli, server
from uvicorn.main import main as uvicorn

def serve(command, extra_env, **options):
    os.environ.update(extra_env)
    uvicorn(command[command.index("uvicorn") + 1 :])

server._exec_cmd = serve
cli.cli()
"""
"""MLflow's command, with its server in the same process: two new ones would import for 18 seconds."""


class Server:
    """`mlflow server` on a database, by default an SQLite file in `folder`."""

    def __init__(self, folder: Path, database: str = ""):
        self.folder, self.database = folder, database or f"sqlite:///{folder}/mlflow.db"
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.port = unused.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: Forked | None = None

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        command = ["-c", MLFLOW, "server", "--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "kept"), "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self.port)]
        settings = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as log, Path(os.devnull).open() as nothing:
            streams = nothing.fileno(), log.fileno(), log.fileno()
            self.process = fork_server().start(command, settings, streams)
        self._wait(self.process)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stops the server with its child processes."""
        if self.process:
            os.killpg(self.process.pid, number)
            self.process.wait(TIMEOUT)
            self.process = None

    def _wait(self, process: Forked) -> None:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"The server never answered: {(self.folder / 'log').read_text()[-2000:]}")


@pytest.fixture(scope="module")
def server_folder(migrated: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for a server, with its database, which the server would take seconds to create."""
    folder = tmp_path_factory.mktemp("server")
    copy_database(migrated.tracking_uri, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[str]:
    server = Server(server_folder)
    try:
        server.start()
        yield server.address
    finally:
        server.stop()
