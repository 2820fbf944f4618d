"""The files of an exported study: written so that what looks whole is whole, and trusted only after every check."""

import contextlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.upkeep.archive_format import SUMS, malformed, require_distinct, require_path
from study.errors import StudyError, first_line
from study.system.files import beside, flush, remove_unfinished, sha256

MEGABYTE = 2**20
MOST_FILES = 1_000_000
DENSEST = 200
"""How many times its size a zip may unpack to: metrics shrink to a twentieth, a bomb to a thousandth."""

Advance = Callable[[float], None]
"""Told how many bytes are done."""


@dataclass(frozen=True)
class Sizes:
    """How much an archive holds."""

    files: int
    bytes: int


def is_zip(path: Path) -> bool:
    """Whether `path` names a zip, by its ending."""
    return path.suffix.lower() == ".zip"


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A folder to be filled, which becomes `target`, a folder or a zip, when the block ends; else nothing is left.

    Raises:
        StudyError: where `target` is there already, or cannot be written.
    """
    if os.path.lexists(target):
        raise StudyError(f"{target} is there already: name another folder or file, or remove it.")
    try:
        work = beside(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target.parent)
        work.mkdir()
    except OSError as error:
        raise StudyError(f"{target} cannot be written ({error.strerror}).") from None
    try:
        folder = work / "study"
        folder.mkdir()
        yield folder
        finished = _zipped(folder, work / "study.zip") if is_zip(target) else folder
        _rename(finished, target)
    except OSError as error:
        if error.errno is None:  # of a connection, and not of a file
            raise
        raise StudyError(f"{target} cannot be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _rename(finished: Path, target: Path) -> None:
    """Moves `finished` to `target`, of which nothing may be there: another export may have been first."""
    if os.path.lexists(target):
        raise StudyError(f"{target} is there already: name another folder or file, or remove it.")
    finished.rename(target)
    flush(target.parent)


def _zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as opened:
        for name in files_below(folder):
            opened.write(folder / name, name)
    flush(path)
    return path


def write_sums(folder: Path, advance: Advance) -> Sizes:
    """Writes the hash of every file below `folder`, and makes sure that all of it is on the disk."""
    names, total = files_below(folder), 0
    with (folder / SUMS).open("w", encoding="utf-8", newline="\n") as sums:
        for name in names:
            sums.write(f"{sha256(folder / name)}  {require_path(name)}\n")
            flush(folder / name)
            size = (folder / name).stat().st_size
            total += size
            advance(size)
    flush(folder / SUMS)
    return Sizes(len(names) + 1, total + (folder / SUMS).stat().st_size)


def files_below(folder: Path) -> list[str]:
    """The paths of all files below `folder`, in order.

    Raises:
        StudyError: where something is neither a file nor a folder.
    """
    names = []
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise malformed(f"{path.relative_to(folder)} is a link or another thing that is no file")
        names += [(Path(root) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


@contextlib.contextmanager
def unpacked(source: Path, within: Path, most: int, advance: Callable[[Sizes], Advance]) -> Iterator[Path]:
    """The folder of the archive `source`, its files and hashes verified; a zip's is removed when the block ends.

    Args:
        source: a folder, or a zip of one.
        within: the folder in which a zip is unpacked, on the disk that the study goes to.
        most: how many bytes it may hold, unpacked.
        advance: told how much there is; what it returns is told of each part done.

    Raises:
        StudyError: for what is no such archive, is damaged, or too large.
    """
    if source.is_dir():
        yield _verified(source, most, advance)
    elif source.is_file():
        with _extracted(source, within, most) as folder:
            yield _verified(folder, most, advance)
    else:
        raise StudyError(f"There is no {source}: name the folder or zip that `study export` wrote.")


def _verified(folder: Path, most: int, advance: Callable[[Sizes], Advance]) -> Path:
    try:
        names = require_distinct(require_path(name) for name in files_below(folder))
        total = sum((folder / name).stat().st_size for name in names)
        _require_size(len(names), total, most)
        if SUMS not in names:
            raise malformed(f"it has no file {SUMS}")
        sums = _read_sums(folder / SUMS)
        for problem, found in (("is missing", set(sums) - names), ("is not listed", names - set(sums) - {SUMS})):
            if found:
                raise malformed(f"{min(found)} {problem}")
        told = advance(Sizes(len(names), total))
        for name in sorted(sums):
            if sha256(folder / name) != sums[name]:
                raise malformed(f"{name} was changed: its SHA-256 is another")
            told((folder / name).stat().st_size)
    except OSError as error:
        raise malformed(f"{first_line(error)}") from None
    return folder


def _read_sums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise malformed(f"{SUMS} is no text") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not match:
            raise malformed(f"line {number} of {SUMS} is no hash with a file's name")
        name = require_path(match[2])
        if name in found or name == SUMS:
            raise malformed(f"line {number} of {SUMS} names {name!r} again")
        found[name] = match[1]
    return found


def _require_size(files: int, total: int, most: int) -> None:
    if total > most:
        raise StudyError(
            f"The archive holds {total / 2**30:.1f} GiB, more than --max-size {most / 2**30:g} (GiB): raise that if "
            "you trust where it comes from; nothing was imported."
        )
    if files > MOST_FILES:
        raise malformed(f"it has {files:,} files, more than {MOST_FILES:,}")


@contextlib.contextmanager
def _extracted(source: Path, within: Path, most: int) -> Iterator[Path]:
    with _damage_explained(source):
        opened = zipfile.ZipFile(source)
    with opened:
        with _damage_explained(source):
            members = _members(opened, source, most)
        with _work_folder(within) as folder:
            with _damage_explained(source):
                _extract(opened, members, folder)
            yield folder


def _extract(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path) -> None:
    for member in members:
        path = folder / member.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as packed, path.open("xb") as file:
            shutil.copyfileobj(packed, file, MEGABYTE)


@contextlib.contextmanager
def _damage_explained(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StudyError(f"{source} cannot be unpacked ({error.strerror or error}): nothing was imported.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise malformed(f"{source} is damaged, or no zip: {first_line(error)}") from None


@contextlib.contextmanager
def _work_folder(within: Path) -> Iterator[Path]:
    work = beside(within / "import")
    try:
        within.mkdir(parents=True, exist_ok=True)
        remove_unfinished(within)
        work.mkdir()
    except OSError as error:
        raise StudyError(f"The folder {within} cannot be written ({error.strerror}).") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _members(opened: zipfile.ZipFile, source: Path, most: int) -> list[zipfile.ZipInfo]:
    """The files in the zip, after what its directory says of them was checked."""
    infos = opened.infolist()
    for info in infos:
        # What the file itself says: ZipInfo cuts names at a NUL, and turns a system's separators into "/".
        require_path(info.orig_filename.rstrip("/"))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or info.is_dir() != info.orig_filename.endswith("/"):
            raise malformed(f"{info.filename} is a link or another thing that is no file")
        if info.flag_bits & 1:
            raise malformed(f"{info.filename} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise malformed(f"{info.filename} is compressed by method {info.compress_type}")
    members = [info for info in infos if not info.is_dir()]
    require_distinct(info.filename for info in members)
    total, packed = sum(info.file_size for info in members), source.stat().st_size
    _require_size(len(infos), total, most)
    if total > DENSEST * packed:
        raise malformed(f"it would unpack to {total // max(packed, 1)} times its size, more than {DENSEST} times")
    return members
