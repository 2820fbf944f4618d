"""Where a case keeps its study: SQLite files, a PostgreSQL, or an MLflow server that can be stopped and started."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import sqlalchemy

from tests.postgres import Cluster, for_mlflow, for_optuna

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow writes down absolute paths."""


@dataclass(frozen=True)
class Place:
    """The stores of one case."""

    home: Path
    tracking: str
    """The URL of MLflow's database."""
    storage: str
    """That of Optuna's."""
    options: tuple[str, ...] = ()
    """What tells the stages of it, but for --storage."""
    kept: Path | None = None
    """Where a server keeps artifacts."""

    @property
    def stores(self) -> tuple[str, ...]:
        """What tells a search of it."""
        return (*self.options, "--storage", self.storage)

    def artifacts(self, uri: str) -> Path:
        """The folder of a run's artifacts."""
        path = urlparse(uri).path
        return self.kept / path.lstrip("/") if self.kept else Path(path)


def _new_home(home: Path, base: Path | None) -> Path:
    if base:
        shutil.copytree(base, home)
    else:
        (home / "mlruns").mkdir(parents=True)
    return home


def _moved(place: Place, base: Path) -> Place:
    """The copy of `base`, once its database says where it now lies."""
    engine = sqlalchemy.create_engine(place.tracking, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for table, column in LOCATIONS:
            change = f"UPDATE {table} SET {column} = replace({column}, :old, :new)"
            connection.execute(sqlalchemy.text(change), {"old": str(base) + "/", "new": str(place.home) + "/"})
    return place


class SQLiteKind:
    """Two files in the home folder."""

    name = "SQLite"

    def __init__(self, folder: Path):
        self.empty = folder / "empty"
        (self.empty / "mlruns").mkdir(parents=True)
        for_mlflow(f"sqlite:///{self.empty}/mlruns/mlflow.db")
        for_optuna(f"sqlite:///{self.empty}/mlruns/optuna.db")

    def place(self, home: Path, base: Place | None = None) -> Place:
        """A new place, as empty as can be or like `base`."""
        _new_home(home, base.home if base else self.empty)
        place = Place(home, f"sqlite:///{home}/mlruns/mlflow.db", f"sqlite:///{home}/mlruns/optuna.db")
        return _moved(place, base.home) if base else place

    def clear(self, place: Place) -> None:
        """Removes a place."""
        shutil.rmtree(place.home)


class PostgresKind:
    """Two databases of a server."""

    name = "PostgreSQL"

    def __init__(self, cluster: Cluster):
        self.cluster = cluster

    def place(self, home: Path, base: Place | None = None) -> Place:
        """A new place, as empty as can be or like `base`."""
        _new_home(home, base.home if base else None)
        tracking = self.cluster.copy(base.tracking) if base else self.cluster.new(for_mlflow)
        storage = self.cluster.copy(base.storage) if base else self.cluster.new(for_optuna)
        place = Place(home, tracking, storage, ("--tracking-uri", tracking))
        return _moved(place, base.home) if base else place

    def clear(self, place: Place) -> None:
        """Removes a place."""
        self.cluster.drop(place.tracking)
        self.cluster.drop(place.storage)
        shutil.rmtree(place.home)


class ServerKind:
    """An MLflow server, which keeps everything but Optuna's trials, for all cases."""

    name = "server"

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def place(self, home: Path, base: Place | None = None) -> Place:
        """A new home; what the server has stays there."""
        (home / "mlruns").mkdir(parents=True)
        storage = f"sqlite:///{home}/mlruns/optuna.db"
        for_optuna(storage)
        database = f"sqlite:///{self.folder}/mlflow.db"
        return Place(home, database, storage, ("--tracking-uri", self.address), self.folder / "kept")

    def clear(self, place: Place) -> None:
        """Removes a place, but not what the server has."""
        shutil.rmtree(place.home)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            f"sqlite:///{self.folder}/mlflow.db",
        ]
        command += ["--artifacts-destination", str(self.folder / "kept"), "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self.port)]
        settings = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=settings, start_new_session=True)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"The server never answered: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Stops it with its children."""
        assert self.process
        os.killpg(self.process.pid, number)
        self.process.wait()


Kind = SQLiteKind | PostgresKind | ServerKind
