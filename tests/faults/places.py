"""Where a case keeps its study: SQLite files, a PostgreSQL, or an MLflow server that can be stopped and started."""

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
        folder.mkdir()
        self.server = Server(folder)
        self.start()

    def place(self, home: Path, base: Place | None = None) -> Place:
        """A new home; what the server has stays there."""
        (home / "mlruns").mkdir(parents=True)
        storage = f"sqlite:///{home}/mlruns/optuna.db"
        for_optuna(storage)
        database = f"sqlite:///{self.server.folder}/mlflow.db"
        return Place(home, database, storage, ("--tracking-uri", self.server.address), self.server.folder / "kept")

    def clear(self, place: Place) -> None:
        """Removes a place, but not what the server has."""
        shutil.rmtree(place.home)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.server.start()

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Stops it with its children."""
        self.server.stop(number)


Kind = SQLiteKind | PostgresKind | ServerKind
