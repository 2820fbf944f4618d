"""Unpacks an exported study without trusting it: names, links, sizes and hashes are checked.

The files are unpacked beside the home's stores, so that a rename can put them in place.
"""

import contextlib
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.upkeep.archive import (
    MEGABYTE,
    SUMS,
    Advance,
    Sizes,
    files_below,
    malformed,
    require_distinct,
    require_path,
    sizes_of,
)
from study.errors import StudyError, first_line
from study.system import interruption
from study.system.files import remove_unfinished, sha256, temporary_path

MOST_FILES = 1_000_000
DENSEST = 200
"""Maximum compression ratio of a zip: metrics reach 20, a zip bomb 1,000."""


@contextlib.contextmanager
def unpacked(source: Path, within: Path, most: int, advance: Callable[[Sizes], Advance]) -> Iterator[Path]:
    """A copy of the archive `source`, its files and hashes verified, which is removed when the block ends.

    Args:
        source: a folder, or a zip of one.
        within: the folder to unpack in, on the same disk as the home's stores.
        most: maximum number of bytes when unpacked.
        advance: takes the total; returns a callable that takes the bytes of each part done.

    Raises:
        StudyError: for what is no such archive, is damaged, or too large.
    """
    if source.is_dir():
        with _damage_explained(source):
            names = require_distinct(require_path(name) for name in files_below(source))
            _require_size(sizes_of(source), most)
            _read_sums(source, names)
        with _work_folder(within) as folder:
            with _damage_explained(source):
                shutil.copytree(source, folder, symlinks=True, copy_function=_copy)
            yield _verified(folder, advance)
    elif source.is_file():
        with _damage_explained(source):
            opened = zipfile.ZipFile(source)
        with opened:
            with _damage_explained(source):
                members = _members(opened, source, most)
            with _work_folder(within) as folder:
                with _damage_explained(source):
                    _extract(opened, members, folder)
                yield _verified(folder, advance)
    else:
        raise StudyError(f"There is no {source}: name the folder or zip that `study export` wrote.")


def _copy(source: str, target: str) -> None:
    interruption.check()
    shutil.copy2(source, target)


def _verified(folder: Path, advance: Callable[[Sizes], Advance]) -> Path:
    try:
        sums = _read_sums(folder, set(files_below(folder)))
        advance_bytes = advance(sizes_of(folder))
        for name in sorted(sums):
            interruption.check()
            if sha256(folder / name) != sums[name]:
                raise malformed(f"{name} was changed: its SHA-256 differs")
            advance_bytes((folder / name).stat().st_size)
    except OSError as error:
        raise malformed(f"{first_line(error)}") from None
    return folder


def _read_sums(folder: Path, names: set[str]) -> dict[str, str]:
    """The recorded hash of each file; checks that exactly the files `names` are listed."""
    if SUMS not in names:
        raise malformed(f"it has no file {SUMS}")
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise malformed(f"{SUMS} is not text") from None
    sums: dict[str, str] = {}
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not match:
            raise malformed(f"line {number} of {SUMS} is not a hash with a file name")
        name = require_path(match[2])
        if name in sums or name == SUMS:
            raise malformed(f"line {number} of {SUMS} names {name!r} again")
        sums[name] = match[1]
    for problem, others in (("is missing", set(sums) - names), ("is not listed", names - set(sums) - {SUMS})):
        if others:
            raise malformed(f"{min(others)} {problem}")
    return sums


def _require_size(sizes: Sizes, most: int) -> None:
    if sizes.bytes > most:
        raise StudyError(
            f"The archive holds {sizes.bytes / 2**30:.1f} GiB, more than --max-size {most / 2**30:g} (GiB): raise that "
            "if you trust where it comes from; nothing was imported."
        )
    if sizes.files > MOST_FILES:
        raise malformed(f"it has {sizes.files:,} files, more than {MOST_FILES:,}")


def _extract(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path) -> None:
    for member in members:
        interruption.check()
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
    work = temporary_path(within / "import")
    try:
        within.mkdir(parents=True, exist_ok=True)
        remove_unfinished(within)
        work.mkdir()
    except OSError as error:
        raise StudyError(f"The folder {within} cannot be written ({error.strerror}).") from None
    try:
        yield work / "study"
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _members(opened: zipfile.ZipFile, source: Path, most: int) -> list[zipfile.ZipInfo]:
    """The files in the zip, after its directory was checked."""
    infos = opened.infolist()
    for info in infos:
        # The name as stored: in `filename`, ZipInfo cuts it at a NUL and turns the system's separators into "/".
        require_path(info.orig_filename.rstrip("/"))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or info.is_dir() != info.orig_filename.endswith("/"):
            raise malformed(f"{info.filename} is a link or a special file")
        if info.flag_bits & 1:
            raise malformed(f"{info.filename} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise malformed(f"{info.filename} is compressed by method {info.compress_type}")
    members = [info for info in infos if not info.is_dir()]
    require_distinct(info.filename for info in members)
    total, packed = sum(info.file_size for info in members), source.stat().st_size
    _require_size(Sizes(len(infos), total), most)
    if total > DENSEST * packed:
        raise malformed(f"it would unpack to {total // max(packed, 1)} times its size, more than {DENSEST} times")
    return members
