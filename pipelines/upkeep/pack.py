"""Writes an exported study atomically: copies its files, hashes and packs them, and reads the result back."""

import contextlib
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipelines.upkeep.archive import MEGABYTE, SUMS, Advance, files_below, require_path
from study.errors import StoreFault, StudyError, first_line
from study.system import interruption
from study.system.faults import explanation
from study.system.files import flush, is_hidden, remove_unfinished, sha256, sums_text, temporary_path


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A temporary folder, of which `packed` makes what becomes `target` when the block ends; an error leaves nothing.

    Raises:
        StudyError: where `target` is there already, or cannot be written.
    """
    _require_new(target)
    work = temporary_path(target)
    try:
        _make_folders(target, work / "study")
        yield work / "study"
        _require_new(target)  # another export may have been first
        _packed_path(work / "study", target).rename(target)
        flush(target.parent)
    except Exception as error:
        # Not only an OSError: libraries copy the databases to the same disk, and raise errors of their own. A sentence
        # about the copied store would name a temporary path.
        cause = error.__context__ if isinstance(error, StudyError | StoreFault) and str(work) in str(error) else error
        if cause and not isinstance(cause, StudyError) and (explained := explanation(cause, target.parent)):
            raise StudyError(f"{target} was not written: {explained}") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make_folders(target: Path, work: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target.parent)
        work.mkdir(parents=True)
    except OSError as error:
        raise StudyError(f"{target} cannot be written: {error.strerror}.") from None


def _require_new(target: Path) -> None:
    if os.path.lexists(target):
        raise StudyError(f"{target} already exists: name another folder or file, or remove it.")


def _packed_path(folder: Path, target: Path) -> Path:
    return folder.with_name("study.zip") if target.suffix.lower() == ".zip" else folder


def packed(folder: Path, target: Path, advance: Advance) -> Path:
    """The path that becomes `target`: a zip of the files in `folder`, flushed to the disk, or `folder` itself."""
    path = _packed_path(folder, target)
    if path != folder:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as opened:
            for name in files_below(folder):
                interruption.check()
                opened.write(folder / name, name)
                advance((folder / name).stat().st_size)
        flush(path)
    return path


def write_sums(folder: Path, advance: Advance) -> dict[str, str]:
    """Writes the hash of every file below `folder`, and returns them by name; flushes all to the disk."""
    sums = {}
    for name in files_below(folder):
        interruption.check()
        sums[require_path(name)] = sha256(folder / name)
        flush(folder / name)
        advance((folder / name).stat().st_size)
    (folder / SUMS).write_text(sums_text(sums), encoding="utf-8", newline="\n")
    flush(folder / SUMS)
    return sums


def read_back(archive: Path, sums: Mapping[str, str], advance: Advance) -> None:
    """Checks that `archive`, a folder or a zip as it was written, holds exactly these files, by their hashes.

    Raises:
        StudyError: where it does not.
    """
    try:
        with contextlib.ExitStack() as stack:
            opened = None if archive.is_dir() else stack.enter_context(zipfile.ZipFile(archive))
            names = opened.namelist() if opened else files_below(archive)
            wrong = sorted(sums.keys() ^ (set(names) - {SUMS}))
            for name, digest in sums.items():
                interruption.check()
                with opened.open(name) if opened else (archive / name).open("rb") as file:
                    if hashlib.file_digest(cast(Any, file), "sha256").hexdigest() != digest:
                        wrong.append(name)
                    advance(file.tell())
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise _read_back_error(first_line(error)) from None
    if wrong:
        raise _read_back_error(wrong[0])


def _read_back_error(what: str) -> StudyError:
    return StudyError(f"The written export differs from its source ({what}): check the disk, then export again.")


def copy_readable(source: Path, target: Path) -> list[str]:
    """Copies the files below `source`, which may be missing; returns the paths of those that cannot be read."""
    unreadable: list[str] = []

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or os.path.lexists(error.filename):
            unreadable.append(Path(error.filename).relative_to(source).as_posix())

    for folder, folders, names in os.walk(source, onerror=note, followlinks=True):
        # A hidden file is unfinished: a killed process left it.
        folders[:] = [name for name in folders if not is_hidden(Path(name))]
        for path in (Path(folder, name) for name in names if not is_hidden(Path(name))):
            interruption.check()
            try:
                _copy(path, target / path.relative_to(source))
            except _Unreadable:
                unreadable.append(path.relative_to(source).as_posix())
    return unreadable


class _Unreadable(Exception):
    """The source cannot be read; a target that cannot be written raises an OSError."""


def _copy(source: Path, target: Path) -> None:
    with contextlib.ExitStack() as stack:
        try:
            if not source.is_file():
                raise _Unreadable
            content = stack.enter_context(source.open("rb"))
        except OSError:
            raise _Unreadable from None
        target.parent.mkdir(parents=True, exist_ok=True)
        copied = stack.enter_context(target.open("xb"))
        while chunk := _read(content):
            copied.write(chunk)


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(MEGABYTE)
    except OSError:
        raise _Unreadable from None
