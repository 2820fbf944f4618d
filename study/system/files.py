"""Files that are whole or not there, SQLite databases, and the lock that keeps processes from each other's way."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path, PurePath

import psutil
from filelock import FileLock, Timeout

from study.config import Home
from study.errors import StudyError
from study.system import interruption

SQLITE = "sqlite:///"


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to be written, which is renamed to `path` when the block ends, and removed where it raises.

    Whoever reads `path` finds all of it or what was there before, whatever stops this process or its machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = beside(path)
    try:
        yield file
        flush(file)
        file.replace(path)
    except OSError as error:
        # A full disk names no file; what has no number is of something else, as a connection.
        if error.errno and not error.filename:
            error.filename = str(path)
        raise
    finally:
        file.unlink(missing_ok=True)
    flush(path.parent)


def beside(path: Path) -> Path:
    """Where this process, and no other one, puts together what is to become `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}@{socket.gethostname()}.part")


def flush(path: Path) -> None:
    """Waits until what was written to the file, or renamed in the folder, at `path` is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_unfinished(folder: Path) -> None:
    """Removes what processes of this machine that were killed left in `folder` under names of `beside`."""
    for left in folder.glob(".*.part"):
        if not is_abandoned(left):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Whether `path`, named by `beside`, was left by a process of this machine that is gone."""
    made = re.search(r"\.(\d+)@(.+)\.part$", path.name)
    return made is not None and made[2] == socket.gethostname() and not psutil.pid_exists(int(made[1]))


def is_hidden(name: PurePath) -> bool:
    """Whether a file of this relative name, or a folder on its way, begins with a dot."""
    return any(part.startswith(".") for part in name.parts)


def within(folder: Path, name: str) -> Path:
    """The path of the file `name` in `folder`.

    Raises:
        StudyError: for a name that leads out of the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StudyError(f"The file name {name!r} leads out of {folder}.")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of the file at `path`, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Only one process of this machine at a time gets past this with the same `home`; not to be nested.

    Raises:
        StudyError: where the folder of the stores cannot be written.
    """
    try:
        home.store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home.store / ".lock")
        while not lock.is_locked:
            try:
                lock.acquire(timeout=interruption.POLL)
            except Timeout:
                interruption.check()
    except OSError as error:
        raise StudyError(f"The folder {home.store} cannot be written ({error.strerror}).") from None
    try:
        yield
    finally:
        lock.release()
