"""Stores of a case: SQLite files, PostgreSQL databases, or an MLflow server that can be stopped and restarted."""

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import sqlalchemy

from pipelines.upkeep.relocate import LOCATIONS
from tests.support.postgres import Cluster, for_mlflow, for_optuna
from tests.support.server import Server


@dataclass(frozen=True)
class Place:
    """The stores of one case."""

    home: Path
    tracking: str
    """The URL of MLflow's database."""
    storage: str
    """The URL of Optuna's database."""
    options: tuple[str, ...] = ()
    """Options that select the tracking store."""
    kept: Path | None = None
    """The folder in which a server keeps artifacts."""

    @property
    def stores(self) -> tuple[str, ...]:
        """Options that select both stores."""
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
    """Updates the paths in the database of `place`, a copy of `base`."""
    engine = sqlalchemy.create_engine(place.tracking, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for table, column in LOCATIONS:
            change = f"UPDATE {table} SET {column} = replace({column}, :old, :new)"
            connection.execute(sqlalchemy.text(change), {"old": str(base) + "/", "new": str(place.home) + "/"})
    return place


class SQLiteKind:
    """Two SQLite files in the home folder."""

    name = "SQLite"

    def __init__(self, folder: Path):
        self.empty = folder / "empty"
        (self.empty / "mlruns").mkdir(parents=True)
        for_mlflow(f"sqlite:///{self.empty}/mlruns/mlflow.db")
        for_optuna(f"sqlite:///{self.empty}/mlruns/optuna.db")

    def place(self, home: Path, base: Place | None = None) -> Place:
        """A new place: a copy of `base`, or one with empty databases."""
        _new_home(home, base.home if base else self.empty)
        place = Place(home, f"sqlite:///{home}/mlruns/mlflow.db", f"sqlite:///{home}/mlruns/optuna.db")
        return _moved(place, base.home) if base else place

    def clear(self, place: Place) -> None:
        """Removes a place."""
        shutil.rmtree(place.home)


class PostgresKind:
    """Two databases on a PostgreSQL server."""

    name = "PostgreSQL"

    def __init__(self, cluster: Cluster):
        self.cluster = cluster

    def place(self, home: Path, base: Place | None = None) -> Place:
        """A new place: a copy of `base`, or one with empty databases."""
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
    """An MLflow server, shared by all cases; Optuna's trials are in SQLite files."""

    name = "server"

    def __init__(self, folder: Path):
        folder.mkdir()
        self.server = Server(folder)
        self.start()

    def place(self, home: Path, base: Place | None = None) -> Place:
        """A new home on the same server, whose contents stay."""
        (home / "mlruns").mkdir(parents=True)
        storage = f"sqlite:///{home}/mlruns/optuna.db"
        for_optuna(storage)
        database = f"sqlite:///{self.server.folder}/mlflow.db"
        return Place(home, database, storage, ("--tracking-uri", self.server.address), self.server.folder / "kept")

    def clear(self, place: Place) -> None:
        """Removes the home, but no contents of the server."""
        shutil.rmtree(place.home)

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        self.server.start()

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Stops the server with its child processes."""
        self.server.stop(number)


Kind = SQLiteKind | PostgresKind | ServerKind
