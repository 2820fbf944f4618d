"""The files of the two stores: SQLite databases, and the lock that keeps processes from each other's way."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from study.config import Home
from study.errors import StudyError

SQLITE = "sqlite:///"


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Only one process of this machine at a time gets past this with the same `home`; not to be nested.

    Raises:
        StudyError: where the folder of the stores cannot be written.
    """
    try:
        home.store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home.store / ".lock")
        lock.acquire()
    except OSError as error:
        raise StudyError(f"The folder {home.store} cannot be written ({error.strerror}).") from None
    try:
        yield
    finally:
        lock.release()


def masked(url: str) -> str:
    """`url` without the password that it may hold."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)


def require_sqlite(url: str) -> None:
    """Checks that an SQLite `url` names a database, or a file that can become one; makes its folder.

    Raises:
        StudyError: where the file is something else, or its folder cannot be written.
    """
    if not url.startswith(SQLITE):
        return
    path = Path(url.removeprefix(SQLITE))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version").fetchone()
            # Persistent; a write takes half the time with it.
            database.execute("PRAGMA journal_mode=wal")
    except (sqlite3.Error, OSError) as error:
        raise StudyError(f"The store {path} cannot be used as an SQLite database ({error}).") from None
