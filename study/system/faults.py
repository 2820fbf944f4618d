"""Failures of a disk, a database or a tracking server: told apart, and as sentences that say what to do.

The type of an exception decides first: only those in which libraries report such failures are looked at (`FAILURES`,
`QUOTING`), and then the text of one that has no number or code. Everything else is a bug, whatever its text says.
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
from sqlalchemy.exc import DBAPIError
from urllib3 import exceptions as urllib3

from study.errors import StoreFault, StudyError, first_line
from study.system.files import SQLITE
from study.system.redaction import masked


class Fault(Enum):
    """What went wrong; `value` holds the phrases that report it in the text of a failure."""

    FULL = ("No space left on device", "database or disk is full", "Disk quota exceeded", "File too large")
    READ_ONLY = ("Read-only file system", "readonly database", "Permission denied", "unable to open database file")
    LOCKED = ("database is locked", "database table is locked", "database schema is locked")
    BROKEN = ("disk I/O error", "database disk image is malformed", "file is not a database", "Input/output error")
    REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")
    MISNAMED = ("File name too long", "Too many levels of symbolic links")
    AWAY = (
        "TEMPORARILY_UNAVAILABLE",
        "Connection refused",
        "Max retries exceeded",
        "Connection broken",
        "IncompleteRead",
        "Connection aborted",
    )


FAILURES = (OSError, HTTPException, urllib3.HTTPError, sqlite3.Error, DBAPIError, SafetensorError)
"""The types in which a failure of a disk, a database or a server is raised; what requests raises is an OSError."""
QUOTING = ("mlflow.exceptions.MlflowException", "optuna.exceptions.StorageInternalError")
"""Types in which a library passes such a failure on; by name, since importing them takes seconds."""
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
"""Bytes: a disk with less room than this is taken for the one that was full."""
BUSY = (408, 429)
"""What a server answers, beside 5xx, that asks to be tried again."""
_CAUSED = re.compile(r"Caused by \w+\((['\"])(?:.*\): )?(.*)\1\)")
"""How urllib3 names, within its own sentence, what came of a request."""
_POOL = re.compile(r"^HTTPS?Connection(Pool)?\(.*?\): ")
"""What urllib3 begins its sentences with."""


def fault(error: BaseException) -> Fault | None:
    """What failed of a disk, a database or a server; None where `error` is something else, such as a bug."""
    return next((found for failure in _failures(error) if (found := _of(failure))), None)


def fault_at(where: str | Path, error: BaseException) -> Fault | None:
    """The fault behind `error`, where `where` was worked with."""
    found = fault(error)
    # SQLite that finds no room for its shared memory says no more than that.
    is_full = found is Fault.BROKEN and any(_almost_full([str(where).removeprefix(SQLITE)]))
    return Fault.FULL if is_full else found


def is_passing(error: BaseException) -> bool:
    """Whether the same may succeed later without anybody mending it: a server that is away, a locked database."""
    return fault(error) in (Fault.AWAY, Fault.LOCKED)


def explanation(error: BaseException, where: str | Path = "") -> StudyError | None:
    """`error` as a sentence that names the place and says what to do; None where it is something else.

    Args:
        error: what was raised.
        where: the folder, the database or the address that was worked with; a file that the error names, or a disk
            found full, goes before it.
    """
    if isinstance(error, StoreFault):
        return StudyError(str(error))
    found = fault_at(where, error)
    return StudyError(f"{told(error, where)}: {_MENDS[found]}") if found else None


@contextmanager
def explained(where: str | Path) -> Iterator[None]:
    """Raises as a `StoreFault`, with its sentence, what fails in the block and waiting does not mend."""
    try:
        yield
    except Exception as error:
        said = None if is_passing(error) else explanation(error, where)
        if said is None:
            raise
        raise StoreFault(str(said)) from None


def told(error: BaseException, where: str | Path = "") -> str:
    """What happened, and where, without what to do about it; for an error with a `fault`."""
    found = fault_at(where, error)
    assert found
    place = masked(_place(error, found, where))
    return f"{_SENTENCES[found].format(place=place)} ({_said(error)})"


_SENTENCES = {
    Fault.FULL: "The disk of {place} is full",
    Fault.READ_ONLY: "{place} cannot be written",
    Fault.LOCKED: "The database {place} is locked by another process",
    Fault.BROKEN: "{place} cannot be read or written as it should",
    Fault.REFUSED: "The server {place} refuses",
    Fault.MISNAMED: "{place} cannot be used",
    Fault.AWAY: "The server {place} does not answer as it should",
}
_MENDS = {
    Fault.FULL: "make room there, and the same command continues.",
    Fault.READ_ONLY: "make it writable, or choose another folder with --home.",
    Fault.LOCKED: "end that process, and the same command continues.",
    Fault.BROKEN: "see to the disk, or bring the file back from a backup.",
    Fault.MISNAMED: "name another file or folder.",
    Fault.REFUSED: "see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
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
"""What the HTTP client raises where a server is away, or its answer is cut off."""


def _failures(error: BaseException) -> Iterator[BaseException]:
    """The failures among `error` and its causes; none behind a `StudyError`, which explains its own.

    What an error of another type was raised from (`raise … from`) counts. What it was raised while handling does not:
    a bug in the handling of a failure is a bug.
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
    # MLflow wraps whatever is raised within a transaction.
    return _is_quoting(error) and error.__cause__ is not None and not _is_failure(error.__cause__)


def _of(failure: BaseException) -> Fault | None:
    """The fault that a failure reports, its causes left aside."""
    if isinstance(failure, requests.HTTPError) and failure.response is not None:
        code = failure.response.status_code
        return Fault.AWAY if code >= 500 or code in BUSY else Fault.REFUSED if code in (401, 403) else None
    if isinstance(failure, _AWAY) or (isinstance(failure, DBAPIError) and _is_cut_off(failure)):
        return Fault.AWAY
    if isinstance(failure, OSError) and failure.errno:
        return NUMBERS.get(failure.errno)
    return None if isinstance(failure, requests.RequestException) else _by_words(failure)


def _is_cut_off(failure: DBAPIError) -> bool:
    """Whether a database server is away; SQLite's errors, and those of another type of psycopg's, say what it is."""
    kind = type(failure.orig)
    is_connection = kind.__name__ == "OperationalError" and kind.__module__.startswith("psycopg")
    return failure.connection_invalidated or is_connection


def _by_words(failure: BaseException) -> Fault | None:
    # Without the statement and its parameters, which hold what users wrote.
    said = f"{failure}".partition("\n[SQL:")[0] + f" {getattr(failure, 'error_code', '')}"
    return next((found for found in Fault if any(words in said for words in found.value)), None)


def _said(error: BaseException) -> str:
    """What the innermost failure says."""
    inner = [failure for failure in _failures(error) if _of(failure)][-1]
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    said = first_line(inner)
    caused = _CAUSED.search(said)
    return masked(caused[2] if caused else _POOL.sub("", said)).rstrip(".")


def _place(error: BaseException, found: Fault, where: str | Path) -> str:
    if found in (Fault.FULL, Fault.READ_ONLY, Fault.MISNAMED):
        named = [failure.filename for failure in _failures(error) if isinstance(failure, OSError) and failure.filename]
        if named:
            return str(Path(str(named[0])).parent if found is Fault.FULL else named[0])
    if found is Fault.FULL:
        return str(next(_almost_full((where, tempfile.gettempdir())), where))
    return str(where) or "the store"


def _almost_full(folders: Iterable[str | Path]) -> Iterator[str | Path]:
    for place in map(Path, folders):
        folder = place if place.is_dir() else place.parent
        if folder.is_dir() and shutil.disk_usage(folder).free < ALMOST_FULL:
            yield folder
