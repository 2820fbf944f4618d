"""Databases by URL: a quick check that one can be used, and the locks that processes share."""

import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from study.errors import StudyError, first_line
from study.home import SQLITE
from study.system import interruption
from study.system.extras import installing
from study.system.faults import Fault, explanation, failure_sentence, fault, fault_at, is_busy
from study.system.heartbeat import PeriodicCall, grace
from study.system.redaction import masked
from study.system.retry import Retry

SERVERS = ("postgresql", "mysql", "mssql")
"""Supported database servers, as SQLAlchemy and MLflow name them."""
POSTGRESQL = "postgresql+psycopg"
"""SQLAlchemy's name of PostgreSQL with the driver that this project installs."""
OF_RUNS = ("experiments", "runs", "tags", "params", "metrics")
OF_SEARCHES = ("studies", "trials")
"""Tables that every database of MLflow or Optuna has."""
TIMEOUT = 10
"""Connection timeout of a database server, in seconds."""
NETWORK = {"connect_timeout": TIMEOUT, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}
"""Options of a connection to PostgreSQL: one that the network has lost without a word is noticed within a minute."""
UNACKNOWLEDGED = 30_000
"""Milliseconds after which what PostgreSQL has not acknowledged ends a connection; Linux alone can do so."""
STALLED = "idle_in_transaction_session_timeout"
"""PostgreSQL's setting of the milliseconds after which it ends a transaction whose process does nothing."""
LOCK = 0x73747564
"""Number of the advisory lock in PostgreSQL's databases."""
LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL's code for a lock that was not free in time."""
LOCK_TIMEOUT = 1
"""Seconds between two checks for a signal while waiting for a lock."""
PATIENCE = 5
"""Seconds of waiting for a locked SQLite database after which a message says so."""

# psycopg warns of writes that MLflow retries without what is already recorded.
logging.getLogger("psycopg").setLevel(logging.ERROR)
# SQLAlchemy logs with its traceback that a lost connection could not be rolled back; the retry tells the loss.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def require_database(url: str, *tables: str) -> None:
    """Checks that a URL names a database that can be used.

    Args:
        url: the URL.
        tables: required tables of a database that is not empty; without this check, libraries would add their tables
            to the database of another program.

    Raises:
        StudyError: for an invalid URL, an SQLite URL without a usable file, a server that does not answer or has no
            such database, or the database of another program.
    """
    parsed = _parsed(url)
    if parsed and parsed.get_backend_name() == "sqlite":
        # Every process of a search would have its own in-memory database.
        if parsed.database in (None, "", ":memory:") or parsed.query or not url.startswith(SQLITE):
            raise StudyError(f"The store {masked(url)} is not a file: write sqlite:/// and the path of one.")
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


def _require_own(tables: Collection[str], needed: Collection[str], name: str) -> None:
    missing = [table for table in needed if table not in tables]
    if tables and missing:
        raise StudyError(
            f"The database {name} belongs to another program, or is damaged (it has no table {missing[0]}): "
            "name another one."
        )


def _require_answer(url: URL, needed: Collection[str]) -> None:
    name = url.render_as_string(hide_password=True)
    _end_stalled_transactions()

    def tables() -> list[str]:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=connection_options(url))
        with engine.connect() as connection:
            return sqlalchemy.inspect(connection).get_table_names()

    try:
        # One that does not answer at all is more likely misspelt.
        present = Retry(name, partial(print, flush=True), is_busy).wait(tables)
    except ImportError as error:
        ours = url.set(drivername=POSTGRESQL).render_as_string(hide_password=True)
        is_other = url.get_backend_name() == "postgresql" and url.drivername not in ("postgresql", POSTGRESQL)
        cure = f"write {ours}" if is_other else f"for PostgreSQL, `{installing('postgres')}`"
        raise StudyError(f"The driver for {name} is not installed ({first_line(error)}): {cure}.") from None
    except (SQLAlchemyError, ValueError) as error:
        reason = first_line(getattr(error, "orig", None) or error)
        raise StudyError(f"The database {name} cannot be used: {reason}.") from None
    _require_own(present, needed, name)


def _end_stalled_transactions() -> None:
    """Has PostgreSQL release the row locks of this process where it is stopped in a transaction, as others need them.

    Applies to all later connections, also those of MLflow, which takes no options of a connection.
    """
    options, ours = os.environ.get("PGOPTIONS", ""), f"-c {STALLED}={1000 * grace():.0f}"
    if not options.endswith(ours):
        os.environ["PGOPTIONS"] = f"{options} {ours}".strip()


def connection_options(url: str | URL) -> dict[str, Any]:
    """Options of the driver for a connection to the database server at `url`."""
    if make_url(url).get_backend_name() != "postgresql":
        return {}
    return NETWORK | ({"tcp_user_timeout": UNACKNOWLEDGED} if sys.platform == "linux" else {})


@contextlib.contextmanager
def locked_database(url: str, *, is_patient: bool = True) -> Iterator[bool]:
    """Holds the lock of a PostgreSQL database, which one process of all machines at a time can have; not reentrant.

    A process that is stopped, or has lost the network, loses the lock after the grace period of its heartbeats. Other
    databases are files of one machine, where the lock of a home does it.

    Args:
        url: of the database.
        is_patient: whether to wait for the lock; without, yields whether it is held.

    Raises:
        StoreFault: where the server is away for too long.
    """
    if not url.startswith("postgresql"):
        yield True
        return
    engine = sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=connection_options(url),
        pool_reset_on_return=None,
    )
    connection = Retry(masked(url), partial(print, flush=True)).wait(partial(_acquire, engine, is_patient))
    if connection is None:
        yield False
        return
    try:
        with PeriodicCall(partial(connection.exec_driver_sql, "SELECT 1")):
            yield True
    finally:
        # Where the connection is lost, so is the lock.
        with contextlib.suppress(SQLAlchemyError):
            connection.close()


def _acquire(engine: sqlalchemy.Engine, is_patient: bool) -> sqlalchemy.Connection | None:
    """A connection that holds the lock; None where another one holds it, and nobody waits."""
    connection = engine.connect()
    try:
        if (engine.dialect.server_version_info or ()) >= (14,):
            connection.exec_driver_sql(f"SET idle_session_timeout = '{1000 * grace():.0f}ms'")
        if not is_patient:
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})").scalar():
                return connection
            connection.close()
            return None
        connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}s'")
        while not _has_lock(connection):
            interruption.check()
    except BaseException:
        connection.close()
        raise
    return connection


def _has_lock(connection: sqlalchemy.Connection) -> bool:
    """Waits for the lock, in the order in which others asked, for at most `LOCK_TIMEOUT`."""
    try:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK})")
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", "") != LOCK_NOT_AVAILABLE:
            raise
        return False
    return True


def begin_immediate(execute: Callable[[str], object], url: str, timeout: float) -> None:
    """Begins a transaction that may write to an SQLite database; says so where others have it locked for long.

    Args:
        execute: executes a statement on a connection.
        url: of the database.
        timeout: seconds for which the transaction, and what follows on this connection, waits while others write.
    """
    patience = min(PATIENCE, timeout)
    execute(f"PRAGMA busy_timeout = {1000 * patience:.0f}")
    try:
        execute("BEGIN IMMEDIATE")
    except (sqlite3.Error, SQLAlchemyError) as error:
        if fault(error) is not Fault.LOCKED or patience == timeout:
            raise
        print(f"{failure_sentence(error, url)}: retrying for up to {timeout - patience:.0f} s.", flush=True)
        execute(f"PRAGMA busy_timeout = {1000 * (timeout - patience):.0f}")
        execute("BEGIN IMMEDIATE")
    execute(f"PRAGMA busy_timeout = {1000 * timeout:.0f}")


def exists(url: str) -> bool:
    """Whether the database at `url` exists; assumed for a database server."""
    return not url.startswith(SQLITE) or Path(url.removeprefix(SQLITE)).is_file()


def are_same(first: str, second: str) -> bool:
    """Whether two URLs refer to the same database."""
    return _identity(first) == _identity(second)


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
