"""Optuna's storage: how it is opened, and whose failure it is when it fails."""

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
    """Opens the storage at `url`, making its tables where it is new; only one process at a time may do so.

    Raises:
        StudyError: where it is no database, does not answer, or is another program's.
    """
    require_database(url, *OF_SEARCHES)
    with opening(url):
        return _opened(url)


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Says in a sentence what kept the block from opening the storage at `url`.

    Raises:
        StudyError: where the database, its driver, or Optuna's check of its tables fails within the block.
    """
    try:
        yield
    # Of tables of another version Optuna says so in a RuntimeError.
    except (OSError, SQLAlchemyError, CommandError, OptunaError, RuntimeError) as error:
        # What Optuna says of a failed write guesses at a reason; the database's own error is behind it.
        plain = StudyError(f"The search storage {masked(url)} cannot be opened: {first_line(error)}")
        raise explanation(error, url) or plain from None


def _opened(url: str) -> optuna.storages.RDBStorage:
    if not url.startswith(SQLITE):
        # A connection that the server has closed meanwhile is opened again.
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": TIMEOUT}})

    # Optuna keeps two processes from taking the same trial by SELECT … FOR UPDATE, which SQLite does not know: with
    # a plain BEGIN both read that it waits, and both set it running.
    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        begin_immediate(connection.exec_driver_sql, url, TIMEOUT)

    return storage


@contextmanager
def storage_failures_explained(url: str) -> Iterator[None]:
    """Says in a sentence, that names the storage at `url`, what went wrong with it within the block.

    Raises:
        StudyError: where it is full, locked, away, or cannot be written.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        if explained := explanation(error, url):
            raise explained from error
        raise
