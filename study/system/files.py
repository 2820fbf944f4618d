"""Atomic writes, temporary files, hashes, and the lock of a home folder."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

import psutil
from filelock import FileLock, Timeout

from study.errors import StudyError
from study.home import Home
from study.system import interruption


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Writes `path` atomically: gives a temporary file, which is renamed at the end of the block, or removed on errors.

    Readers of `path` find the old content or all of the new, even if the process or the machine is stopped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = temporary_path(path)
    try:
        yield file
        flush(file)
        file.replace(path)
    except OSError as error:
        # The error of a full disk names no file. Errors without a number are others, such as those of a connection.
        if error.errno and not error.filename:
            error.filename = str(path)
        raise
    finally:
        file.unlink(missing_ok=True)
    flush(path.parent)


def temporary_path(path: Path) -> Path:
    """Temporary path next to `path`, unique to this process."""
    return path.with_name(f".{path.name}.{os.getpid()}@{socket.gethostname()}.part")


def flush(path: Path) -> None:
    """Flushes the file or folder at `path` to the disk (fsync)."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_unfinished(folder: Path) -> None:
    """Removes temporary files (see `temporary_path`) in `folder` that killed processes of this machine left."""
    for left in folder.glob(".*.part"):
        if not is_abandoned(left):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Whether the temporary path `path` (see `temporary_path`) is of a process of this machine that has ended."""
    match = re.search(r"\.(\d+)@(.+)\.part$", path.name)
    return match is not None and match[2] == socket.gethostname() and not psutil.pid_exists(int(match[1]))


def is_hidden(name: PurePath) -> bool:
    """Whether any part of this relative path begins with a dot."""
    return any(part.startswith(".") for part in name.parts)


def within(folder: Path, name: str) -> Path:
    """The path of the file `name` in `folder`.

    Raises:
        StudyError: for a path outside the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StudyError(f"The file name {name!r} leads out of {folder}.")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of the file at `path`, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_text(sums: Mapping[str, str]) -> str:
    """SHA-256 hashes by path as text in the format of `sha256sum`."""
    return "".join(f"{digest}  {path}\n" for path, digest in sums.items())


@contextlib.contextmanager
def locked(home: Home, *, is_patient: bool = True) -> Iterator[bool]:
    """Holds the lock of `home`, which one process of this machine at a time can have; not reentrant.

    Without `is_patient`, does not wait, and yields whether it is held.

    Raises:
        StudyError: if the folder of the stores cannot be written.
    """
    try:
        home.store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home.store / ".lock")
        while not lock.is_locked:
            try:
                lock.acquire(timeout=interruption.POLL if is_patient else 0)
            except Timeout:
                if not is_patient:
                    break
                interruption.check()
    except OSError as error:
        raise StudyError(
            f"The folder {home.store} cannot be written ({error.strerror}), and also reading locks it: choose "
            "another --home, or copy it to where it can be written and run `study doctor --fix` on the copy."
        ) from None
    try:
        yield lock.is_locked
    finally:
        lock.release()
