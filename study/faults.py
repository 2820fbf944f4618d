"""What a disk, a database or a tracking server fails with: told apart, and as sentences that say what to do.

The failure itself often is the cause of what a library raises, or only quoted in its message: both are looked at.
"""

import errno
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from requests import exceptions as requests
from sqlalchemy.exc import DBAPIError

from study.errors import StoreFault, StudyError, causes, first_line
from study.files import SQLITE
from study.shown import masked


class Fault(Enum):
    """What went wrong, and in `value` what libraries say of it where they raise an error of their own."""

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


def fault(error: BaseException) -> Fault | None:
    """What of a disk, a database or a server is behind `error`; None where it is something else, such as a bug."""
    for cause in causes(error):
        if isinstance(cause, StudyError):
            return None
        if found := _by_type(cause) or _by_words(cause):
            return found
    return None


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


_AWAY = (requests.ConnectionError, requests.Timeout, requests.RetryError, requests.ChunkedEncodingError)
"""What requests raises of a server that is away; the last where its answer was cut off."""


def _by_type(error: BaseException) -> Fault | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        code = error.response.status_code
        return Fault.AWAY if code >= 500 or code in BUSY else Fault.REFUSED if code in (401, 403) else None
    if isinstance(error, _AWAY):
        return Fault.AWAY
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Fault.AWAY
    # Of databases that are servers; SQLite's own say what it is.
    if type(error).__name__ == "OperationalError" and type(error).__module__.startswith("psycopg"):
        return Fault.AWAY
    if isinstance(error, OSError):
        return NUMBERS.get(error.errno or 0)
    return None


def _by_words(error: BaseException) -> Fault | None:
    said = f"{error} {getattr(error, 'error_code', '')}"
    return next((found for found in Fault if any(words in said for words in found.value)), None)


def _said(error: BaseException) -> str:
    """What the failure itself says, which is the innermost of the causes that tell one."""
    telling = [cause for cause in causes(error) if _by_type(cause) or _by_words(cause)]
    inner = telling[-1]
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    said = first_line(inner)
    caused = _CAUSED.search(said)
    return masked(caused[2] if caused else said).rstrip(".")


def _place(error: BaseException, found: Fault, where: str | Path) -> str:
    if found in (Fault.FULL, Fault.READ_ONLY, Fault.MISNAMED):
        named = [cause.filename for cause in causes(error) if isinstance(cause, OSError) and cause.filename]
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
