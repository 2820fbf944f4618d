"""Failures of disks, databases and tracking servers: classified, and explained in sentences that say what to do.

The type of an exception decides first: only types in which libraries report such failures are considered (`FAILURES`,
`QUOTING`); then its error number or code; its text only if it has neither. Everything else is a bug.
"""

import errno
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.client import HTTPException, IncompleteRead
from pathlib import Path

from requests import exceptions as requests
from safetensors import SafetensorError
from sqlalchemy import exc as sqlalchemy_exc
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from urllib3 import exceptions as urllib3

from study.errors import StoreFault, StudyError, first_line
from study.home import SQLITE
from study.system.redaction import masked


class Fault(Enum):
    """Kind of failure; `value` holds the phrases that identify it in an error's text."""

    MISADDRESSED = ("Invalid Host header",)
    FORBIDDEN = ("PERMISSION_DENIED",)
    FULL = ("No space left on device", "database or disk is full", "Disk quota exceeded", "File too large")
    READ_ONLY = ("Read-only file system", "readonly database", "Permission denied", "unable to open database file")
    LOCKED = ("database is locked", "database table is locked", "database schema is locked")
    BROKEN = ("disk I/O error", "database disk image is malformed", "file is not a database", "Input/output error")
    REFUSED = ("UNAUTHENTICATED",)
    MISNAMED = ("File name too long", "Too many levels of symbolic links")
    AWAY = (
        "TEMPORARILY_UNAVAILABLE",
        "Connection refused",
        "Max retries exceeded",
        "Connection broken",
        "IncompleteRead",
        "Connection aborted",
        # All connections of a pool are in use; MLflow's server tells it of its own as a bad request.
        "QueuePool limit",
    )


FAILURES = (
    OSError,
    HTTPException,
    urllib3.HTTPError,
    sqlite3.Error,
    DBAPIError,
    PendingRollbackError,
    sqlalchemy_exc.TimeoutError,
    SafetensorError,
)
"""Exception types of disk, database and server failures; those of requests are OSErrors.

After a connection is lost, SQLAlchemy refuses the next statement of its transaction with a `PendingRollbackError`; its
`TimeoutError` says that all connections of a pool are in use.
"""
QUOTING = ("mlflow.exceptions.MlflowException", "optuna.exceptions.StorageInternalError")
"""Exception types that wrap such failures; by name, since importing them takes seconds."""
NUMBERS = {
    errno.ENOSPC: Fault.FULL,
    errno.EDQUOT: Fault.FULL,
    errno.EFBIG: Fault.FULL,
    errno.EROFS: Fault.READ_ONLY,
    errno.EACCES: Fault.READ_ONLY,
    errno.EPERM: Fault.READ_ONLY,
    errno.EIO: Fault.BROKEN,
    errno.ENAMETOOLONG: Fault.MISNAMED,
    errno.ELOOP: Fault.MISNAMED,
    errno.ENOTDIR: Fault.MISNAMED,
    errno.EISDIR: Fault.MISNAMED,
    errno.ECONNREFUSED: Fault.AWAY,
    errno.ECONNRESET: Fault.AWAY,
}
ALMOST_FULL = 1 << 20
"""A disk with fewer free bytes than this counts as full."""
BUSY = (408, 429)
"""HTTP status codes, besides 5xx, that call for a retry."""
BUSY_SERVER = (
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "is starting up",
    "is shutting down",
    "in recovery mode",
    "not yet accepting connections",
)
"""What PostgreSQL says where it takes no connection for now; the client library gives no code of it."""
CODES = {401: Fault.REFUSED, 403: Fault.FORBIDDEN}
"""Faults by the HTTP status code of a server's answer."""
_CAUSED = re.compile(r"Caused by \w+\((['\"])(?:.*\): )?(.*)\1\)")
"""The cause within an error message of urllib3."""
_ANSWERED = re.compile(r"^API request to endpoint \S+ failed with error code (\d+) != \d+\. .*")
"""MLflow's error message for an answer without an error of its own, which it quotes."""
_POOL = re.compile(r"^HTTPS?Connection(Pool)?\(.*?\): ")
"""Prefix of urllib3's error messages."""


def fault(error: BaseException) -> Fault | None:
    """The fault behind `error`; None for other errors, such as bugs."""
    return next((kind for failure in _failures(error) if (kind := _of(failure))), None)


def fault_at(where: str | Path, error: BaseException) -> Fault | None:
    """The fault behind `error` on the folder, database or address `where`."""
    kind = fault(error)
    # SQLite reports an I/O error if there is no room for its shared memory.
    is_full = kind is Fault.BROKEN and any(_almost_full([str(where).removeprefix(SQLITE)]))
    return Fault.FULL if is_full else kind


def is_passing(error: BaseException) -> bool:
    """Whether a retry may succeed: a server that is away, or a locked database."""
    return fault(error) in (Fault.AWAY, Fault.LOCKED)


def is_busy(error: BaseException) -> bool:
    """Whether a database server answers, and takes no further connection for now."""
    return any(isinstance(failure, DBAPIError) and _takes_none(failure) for failure in _failures(error))


def _takes_none(failure: DBAPIError) -> bool:
    return any(words in str(failure.orig) for words in BUSY_SERVER)


def explanation(error: BaseException, where: str | Path = "") -> StudyError | None:
    """Explains `error` in a sentence that names the place and says what to do; None for errors without a fault.

    Args:
        error: what was raised.
        where: the folder, database or address in use; a file named by the error, or a full disk, takes precedence.
    """
    if isinstance(error, StoreFault):
        return StudyError(str(error))
    kind = fault_at(where, error)
    return StudyError(f"{failure_sentence(error, where)}: {_REMEDIES[kind]}") if kind else None


@contextmanager
def explained(where: str | Path) -> Iterator[None]:
    """Raises failures in the block that a retry cannot repair as a `StoreFault`, with their explanation."""
    try:
        yield
    except Exception as error:
        reason = None if is_passing(error) else explanation(error, where)
        if reason is None:
            raise
        raise StoreFault(str(reason)) from None


def failure_sentence(error: BaseException, where: str | Path = "") -> str:
    """What failed and where, without advice; for an error with a `fault`."""
    kind = fault_at(where, error)
    assert kind
    place = masked(_place(error, kind, where))
    return f"{_SENTENCES[kind].format(place=place)} ({_message(error)})"


_SENTENCES = {
    Fault.FULL: "The disk of {place} is full",
    Fault.READ_ONLY: "{place} cannot be written",
    Fault.LOCKED: "The database {place} is locked by another process",
    Fault.BROKEN: "{place} cannot be read or written properly",
    Fault.REFUSED: "The server {place} denies access",
    Fault.FORBIDDEN: "The server {place} lets this user read, and not write",
    Fault.MISADDRESSED: "The server {place} does not answer to this name",
    Fault.MISNAMED: "{place} cannot be used",
    Fault.AWAY: "The server {place} does not answer correctly",
}
_REMEDIES = {
    Fault.FULL: "make room there, and the same command continues.",
    Fault.READ_ONLY: "make it writable, or choose another folder with --home.",
    Fault.LOCKED: "end that process, and the same command continues.",
    Fault.BROKEN: "check the disk, or restore the file from a backup.",
    Fault.MISNAMED: "name another file or folder.",
    Fault.REFUSED: "see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    Fault.FORBIDDEN: "have the owner of the experiment or registered model, or the server's administrator, grant you "
    "the permission EDIT on it (docs/team.md), and the same command continues.",
    Fault.MISADDRESSED: "have it started with this name in MLFLOW_SERVER_ALLOWED_HOSTS.",
    Fault.AWAY: "start it again, and the same command continues.",
}


_AWAY = (
    requests.ConnectionError,
    requests.Timeout,
    requests.RetryError,
    requests.ChunkedEncodingError,
    urllib3.MaxRetryError,
    urllib3.NewConnectionError,
    urllib3.ProtocolError,
    urllib3.TimeoutError,
    IncompleteRead,
)
"""Exceptions of the HTTP client for a server that is away, or an answer that is cut off."""


def _failures(error: BaseException) -> Iterator[BaseException]:
    """The failures among `error` and its causes; none behind a `StudyError`, which is an explanation already.

    Explicit causes (`raise … from`) of other errors count; errors during whose handling they were raised do not: a bug
    in the handling of a failure is a bug.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen and not isinstance(cause, StudyError):
        seen.add(id(cause))
        is_failure = _is_failure(cause)
        if is_failure and not _quotes_a_bug(cause):
            yield cause
        cause = cause.__cause__ or (cause.__context__ if is_failure else None)


def _is_failure(error: BaseException) -> bool:
    return isinstance(error, FAILURES) or _is_quoting(error)


def _is_quoting(error: BaseException) -> bool:
    return any(f"{kind.__module__}.{kind.__name__}" in QUOTING for kind in type(error).__mro__)


def _quotes_a_bug(error: BaseException) -> bool:
    # MLflow wraps every exception within a transaction.
    return _is_quoting(error) and error.__cause__ is not None and not _is_failure(error.__cause__)


def _of(failure: BaseException) -> Fault | None:
    """The fault of a single failure, without its causes."""
    if isinstance(failure, requests.HTTPError) and failure.response is not None:
        code = failure.response.status_code
        return Fault.AWAY if code >= 500 or code in BUSY else CODES.get(code)
    if isinstance(failure, _AWAY) or (isinstance(failure, DBAPIError) and _is_cut_off(failure)):
        return Fault.AWAY
    if isinstance(failure, OSError) and failure.errno:
        return NUMBERS.get(failure.errno)
    return None if isinstance(failure, requests.RequestException) else _by_words(failure)


def _is_cut_off(failure: DBAPIError) -> bool:
    """Whether a database server is away; other errors of psycopg, and those of SQLite, are identified by their text."""
    kind = type(failure.orig)
    is_connection = kind.__name__ == "OperationalError" and kind.__module__.startswith("psycopg")
    return failure.connection_invalidated or is_connection


def _by_words(failure: BaseException) -> Fault | None:
    # Without the SQL statement and its parameters, which may contain any text.
    text = f"{failure}".partition("\n[SQL:")[0] + f" {getattr(failure, 'error_code', '')}"
    return next((kind for kind in Fault if any(words in text for words in kind.value)), None)


def _message(error: BaseException) -> str:
    """Message of the innermost failure."""
    inner = [failure for failure in _failures(error) if _of(failure)][-1]
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    text = _ANSWERED.sub(r"HTTP status \1", first_line(inner))
    caused = _CAUSED.search(text)
    return masked(caused[2] if caused else _POOL.sub("", text)).rstrip(".")


def _place(error: BaseException, kind: Fault, where: str | Path) -> str:
    if kind in (Fault.FULL, Fault.READ_ONLY, Fault.MISNAMED):
        named = [failure.filename for failure in _failures(error) if isinstance(failure, OSError) and failure.filename]
        if named:
            return str(Path(str(named[0])).parent if kind is Fault.FULL else named[0])
    if kind is Fault.FULL:
        return str(next(_almost_full((where, tempfile.gettempdir())), where))
    return str(where) or "the store"


def _almost_full(folders: Iterable[str | Path]) -> Iterator[str | Path]:
    for place in map(Path, folders):
        folder = place if place.is_dir() else place.parent
        if folder.is_dir() and shutil.disk_usage(folder).free < ALMOST_FULL:
            yield folder
