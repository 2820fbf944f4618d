"""Whether the database that a URL names is there to be used, asked before a library tries for minutes."""

import contextlib
import logging
import sqlite3
from collections.abc import Collection
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from study.errors import StudyError, first_line
from study.system.faults import Fault, explanation, fault_at
from study.system.files import SQLITE
from study.system.redaction import masked

SERVERS = ("postgresql", "mysql", "mssql")
"""The kinds of database that a server keeps, in the terms of SQLAlchemy and MLflow."""
OF_RUNS = ("experiments", "runs", "tags", "params", "metrics")
OF_SEARCHES = ("studies", "trials")
"""Tables that MLflow's database and Optuna's always have."""
TIMEOUT = 10
"""Seconds for a database server to answer."""

# It warns of writes that MLflow tries again, having left out what is recorded already.
logging.getLogger("psycopg").setLevel(logging.ERROR)


def require_database(url: str, *tables: str) -> None:
    """Checks that a URL names a database that can be used.

    Args:
        url: the URL.
        tables: what the database has unless it is empty, damaged or another program's: libraries add their own tables
            to whatever they are given.

    Raises:
        StudyError: where it is no URL of a database, an SQLite URL names no file or something else, a server does not
            answer or has no such database, or the database is another program's.
    """
    parsed = _parsed(url)
    if parsed and parsed.get_backend_name() == "sqlite":
        # In memory, each process of a search would have a store of its own, and all of them forget it.
        if parsed.database in (None, "", ":memory:") or parsed.query or not url.startswith(SQLITE):
            raise StudyError(f"The store {masked(url)} is no file: write sqlite:/// and the path of one.")
        _require_sqlite(Path(url.removeprefix(SQLITE)), tables)
    elif parsed and parsed.get_backend_name() in SERVERS:
        _require_answer(parsed, tables)
    else:
        raise StudyError(
            f"There can be no tracking store or search storage at {masked(url)}: write sqlite:///FILE or "
            "postgresql://USER@HOST/NAME, for a tracking store also the http:// address of an MLflow server."
        )


def _require_sqlite(file: Path, needed: Collection[str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            _require_own(tables, needed, str(file))
            # Persistent; a write takes half the time with it.
            database.execute("PRAGMA journal_mode=wal")
    except (sqlite3.Error, OSError, UnicodeError) as error:
        if fault_at(file, error) in (Fault.FULL, Fault.LOCKED) and (explained := explanation(error, file)):
            raise explained from None
        raise StudyError(f"The store {file} cannot be used as an SQLite database ({error}).") from None


def _require_own(tables: Collection[str], needed: Collection[str], said: str) -> None:
    missing = [name for name in needed if name not in tables]
    if tables and missing:
        raise StudyError(
            f"The database {said} is of another program, or damaged (it has no table {missing[0]}): name another one."
        )


def _require_answer(url: URL, needed: Collection[str]) -> None:
    said = url.render_as_string(hide_password=True)
    timeout = {"connect_timeout": TIMEOUT} if url.get_backend_name() == "postgresql" else {}
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=timeout)
        with engine.connect() as connection:
            tables = sqlalchemy.inspect(connection).get_table_names()
    except ImportError as error:
        raise StudyError(
            f"The driver for {said} is not installed ({first_line(error)}): for PostgreSQL, "
            "`pip install 'study[postgres]'`."
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        why = first_line(getattr(error, "orig", None) or error)
        raise StudyError(f"The database {said} cannot be used: {why}.") from None
    _require_own(tables, needed, said)


def exists(url: str) -> bool:
    """Whether there is a database at `url`; of one that a server keeps that is taken for granted."""
    return not url.startswith(SQLITE) or Path(url.removeprefix(SQLITE)).is_file()


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
