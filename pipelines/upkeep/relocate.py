"""Relocates artifacts in MLflow's tables after a folder was moved, which MLflow's API cannot do."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

import sqlalchemy
from sqlalchemy import Connection, TableClause, select, update
from sqlalchemy.exc import SQLAlchemyError

from study.home import SQLITE
from study.system.faults import explanation
from study.system.files import atomic_write, remove_unfinished, temporary_path
from study.tracking.registry import DESCRIBED

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The columns of MLflow's tables that hold artifact locations."""
SERVED = "mlflow-artifacts:"
"""What locations start with that a server on this database recorded, which keeps their files."""
TIMEOUT = 60
"""Seconds that a write waits for other writers."""


class Tables:
    """The artifact locations in the tracking database at a URL, whose tables MLflow has created."""

    def __init__(self, url: str):
        self.url = url
        arguments = {"timeout": TIMEOUT} if url.startswith(SQLITE) else {}
        self._engine = sqlalchemy.create_engine(url, connect_args=arguments)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            if explained := explanation(error, self.url):
                raise explained from error
            raise

    def close(self) -> None:
        """Closes its connections."""
        self._engine.dispose()

    def moved(self, root: str) -> list[tuple[str, str]]:
        """Outdated locations of experiments, outside the folder `root`, each with its new location in it.

        Args:
            root: the folder of all artifacts, as a file URI.
        """
        with self._transaction() as connection:
            places = {_place(value) for _, _, value in self._values(connection) if not value.startswith(SERVED)}
        pairs = ((place, f"{root}/{quote(local(place).name)}") for place in sorted(places))
        return [(old, new) for old, new in pairs if local(old) != local(new) and _has_moved(old, new)]

    def _values(self, connection: Connection) -> Iterator[tuple[str, str, str]]:
        """The artifact locations on this machine, and `SERVED` ones: table, column and value."""
        for name, column in LOCATIONS:
            for value in connection.execute(select(_table(name, column).c[column]).distinct()).scalars():
                if value and (value.startswith(("file:", SERVED)) or ("://" not in value and value.startswith("/"))):
                    yield name, column, value

    def move(self, old: str, new: str) -> None:
        """Changes all locations at or below `old` to `new`; copies the files that are only at the old one."""
        with self._transaction() as connection:
            for name, column, value in self._below(connection, old):
                place = new + value.removeprefix(old)
                if name != "experiments" and local(value).is_dir() and not local(place).exists():
                    _copy(local(value), local(place))
                self._set(connection, name, column, value, place)
            # Before the tables are committed: after that, the experiment counts as moved and is not looked at again.
            _update_descriptions(local(new), old, new)

    def relocate(self, old: str, new: str, folder: Path) -> None:
        """Changes all locations at or below `old` to `new` without copying; the experiments' files are in `folder`."""
        with self._transaction() as connection:
            for name, column, value in self._below(connection, old):
                self._set(connection, name, column, value, new + value.removeprefix(old))
        for experiment in folder.glob("*/"):
            _update_descriptions(experiment, old, new)

    def _below(self, connection: Connection, old: str) -> list[tuple[str, str, str]]:
        return [row for row in self._values(connection) if row[2] == old or row[2].startswith(old + "/")]

    def _set(self, connection: Connection, name: str, column: str, value: str, place: str) -> None:
        table = _table(name, column)
        connection.execute(update(table).where(table.c[column] == value).values({column: place}))


def _table(name: str, column: str) -> TableClause:
    # Not reflected from the database, which takes longer than all that is done with it.
    return sqlalchemy.table(name, sqlalchemy.column(column))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target.parent)
    copied = temporary_path(target)
    try:
        shutil.copytree(source, copied)
        copied.rename(target)
    finally:
        shutil.rmtree(copied, ignore_errors=True)


def _update_descriptions(folder: Path, old: str, new: str) -> None:
    """Replaces `old` by `new` in the descriptions of the models of the experiment in `folder`."""
    # As bytes, so that the rest of a description stays as it is.
    old_path, new_path = (f"artifact_path: {place}/".encode() for place in (old, new))
    for described in folder.glob(f"models/*/artifacts/{DESCRIBED}"):
        with atomic_write(described) as file:
            file.write_bytes(described.read_bytes().replace(old_path, new_path))


def _place(value: str) -> str:
    """The location of an experiment, from its own or that of one of its runs or models."""
    return re.sub(r"(/models)?/[^/]+/artifacts$", "", value)


def local(place: str) -> Path:
    """The path on this machine of a location, as MLflow writes it."""
    return Path(unquote(urlparse(place).path) if place.startswith("file:") else place)


def _has_moved(old: str, new: str) -> bool:
    """Whether files of the experiment are at `new`, or would be but for the folder's move."""
    return local(new).is_dir() or (local(old).parent.name == "artifacts" and not local(old).parent.exists())
