"""Optuna's storage: opens it, and explains its failures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import sqlalchemy
from alembic.util import CommandError
from optuna.exceptions import OptunaError, StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from study.errors import StudyError, first_line
from study.home import SQLITE
from study.search.database import Database
from study.system.databases import OF_SEARCHES, begin_immediate, connection_options, require_database
from study.system.faults import explanation
from study.system.redaction import masked
from study.system.retry import Retry

TIMEOUT = 60.0
"""Seconds for which a write to an SQLite database waits, with growing pauses, while others write."""
CALLS = (
    "create_new_study",
    "delete_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "_create_new_trial",
    "_set_trial_param",
    "get_trial_id_from_study_id_trial_number",
    "_get_best_trial_id",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    "_get_trials",
    "states",
    "load",
    "write",
)
"""The methods of a storage by which Optuna and a search's cache read and write, each in a transaction of its own."""


def open_storage(url: str) -> Database:
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


def _opened(url: str) -> Database:
    if not url.startswith(SQLITE):
        return _on_server(url)
    storage = Database(url, engine_kwargs={"connect_args": {"timeout": TIMEOUT}})

    # Optuna keeps two processes from taking the same trial by SELECT … FOR UPDATE, which SQLite lacks: with a
    # plain BEGIN both read that it is waiting, and both set it running.
    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        begin_immediate(connection.exec_driver_sql, url, TIMEOUT)

    return storage


def _on_server(url: str) -> Database:
    """A storage on a database server, each call of which waits while the server is away or takes no connection.

    A repeated call may have been committed before: values are then set to the same again, a trial that has ended is
    reported as ended, and one that was created twice is an orphan, without an owner, or a duplicate.
    """
    retry = Retry(masked(url), partial(print, flush=True))
    # A process keeps one connection, and opens another where its heartbeat needs one: a server takes about a hundred.
    options = {"pool_pre_ping": True, "pool_size": 1, "connect_args": connection_options(url)}
    storage = retry.wait(lambda: Database(url, engine_kwargs=options))
    for name in CALLS:
        setattr(storage, name, partial(_call, retry, getattr(storage, name)))
    return storage


def _call(retry: Retry, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return retry.wait(partial(call, *arguments, **options))


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
