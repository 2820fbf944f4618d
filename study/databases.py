"""Whether the database that a URL names is there to be used, asked before a library tries for minutes."""

import contextlib
import logging
import sqlite3
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from study.errors import StudyError, first_line
from study.faults import Fault, explanation, fault_at
from study.files import SQLITE
from study.shown import masked

SERVERS = ("postgresql", "mysql", "mssql")
"""The kinds of database that a server keeps, in the terms of SQLAlchemy and MLflow."""
PATIENCE = 10
"""Seconds for a database server to answer."""

# It warns of writes that MLflow tries again, having left out what is recorded already.
logging.getLogger("psycopg").setLevel(logging.ERROR)


def require_database(url: str, table: str = "") -> None:
    """Checks that a database URL names one that can be used; other URLs are not looked at.

    Args:
        url: the URL.
        table: what an SQLite database has that is not empty, and not another program's: libraries add their own
            tables to whatever they are given.

    Raises:
        StudyError: where an SQLite URL names no file or something else, or a server does not answer or has no such
            database.
    """
    parsed = _parsed(url)
    kind = parsed.get_backend_name() if parsed else ""
    if parsed and kind == "sqlite":
        # In memory, each process of a search would have a store of its own, and all of them forget it.
        if parsed.database in (None, "", ":memory:") or parsed.query or not url.startswith(SQLITE):
            raise StudyError(f"The store {masked(url)} is no file: write sqlite:/// and the path of one.")
        _require_sqlite(Path(url.removeprefix(SQLITE)), table)
    elif parsed and kind in SERVERS:
        _require_answer(parsed)


def _require_sqlite(file: Path, table: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA schema_version").fetchone()
            # Persistent; a write takes half the time with it.
            database.execute("PRAGMA journal_mode=wal")
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (sqlite3.Error, OSError) as error:
        if fault_at(file, error) is Fault.FULL and (explained := explanation(error, file)):
            raise explained from None
        raise StudyError(f"The store {file} cannot be used as an SQLite database ({error}).") from None
    if table and tables and table not in tables:
        raise StudyError(f"The database {file} is of another program (it has no table {table}): name another file.")


def _require_answer(url: URL) -> None:
    said = url.render_as_string(hide_password=True)
    patience = {"connect_timeout": PATIENCE} if url.get_backend_name() == "postgresql" else {}
    try:
        sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=patience).connect().close()
    except ImportError as error:
        raise StudyError(
            f"The driver for {said} is not installed ({first_line(error)}): for PostgreSQL, "
            "`pip install 'study[postgres]'`."
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        why = first_line(getattr(error, "orig", None) or error)
        raise StudyError(f"The database {said} cannot be used: {why}.") from None


def are_same(one: str, other: str) -> bool:
    """Whether two URLs mean one database, however it is written."""
    return _identity(one) == _identity(other)


def _identity(url: str) -> object:
    parsed = _parsed(url)
    if parsed is None:
        return url
    if parsed.get_backend_name() == "sqlite":
        return Path(parsed.database or "").resolve()
    return parsed.get_backend_name(), parsed.host, parsed.port, parsed.database


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None
