"""Optuna's storage: opens it, and explains its failures."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy
from alembic.util import CommandError
from optuna.exceptions import OptunaError, StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from study.errors import StudyError, first_line
from study.system.databases import OF_SEARCHES, begin_immediate, require_database
from study.system.faults import explanation
from study.system.files import SQLITE
from study.system.redaction import masked

TIMEOUT = 60.0
"""Seconds for which a write to an SQLite database waits, with growing pauses, while others write."""


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Opens the storage at `url`, creating its tables where it is new; only one process at a time may do so.

    Raises:
        StudyError: where it is no database, does not answer, or is another program's.
    """
    require_database(url, *OF_SEARCHES)
    with opening(url):
        return _opened(url)


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Turns a failure to open the storage at `url` within the block into a `StudyError`.

    Raises:
        StudyError: where the database, its driver, or Optuna's check of its tables fails within the block.
    """
    try:
        yield
    # Optuna raises a RuntimeError for tables of another version.
    except (OSError, SQLAlchemyError, CommandError, OptunaError, RuntimeError) as error:
        # Optuna's message about a failed write only guesses at a reason; its cause is the database's own error.
        plain = StudyError(f"The search storage {masked(url)} cannot be opened: {first_line(error)}")
        raise explanation(error, url) or plain from None


def _opened(url: str) -> optuna.storages.RDBStorage:
    if not url.startswith(SQLITE):
        # Reopens connections that the server has closed meanwhile.
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": TIMEOUT}})

    # Optuna keeps two processes from taking the same trial by SELECT … FOR UPDATE, which SQLite lacks: with a
    # plain BEGIN both read that it is waiting, and both set it running.
    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        begin_immediate(connection.exec_driver_sql, url, TIMEOUT)

    return storage


@contextmanager
def storage_failures_explained(url: str) -> Iterator[None]:
    """Turns a failure of the storage at `url` within the block into a `StudyError`.

    Raises:
        StudyError: where it is full, locked, away, or cannot be written.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        if explained := explanation(error, url):
            raise explained from error
        raise
