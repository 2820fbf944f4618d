"""The format of an exported study, a folder or a zip of one, and how it is written atomically.

    study.json       the manifest: format, origin, counts, data sets
    mlflow.db        a copy of the tracking database
    optuna.db        a copy of the search storage
    artifacts/…      the files of the runs and of their models, as they lie in a home
    SHA256SUMS       the hash of every other file, as `sha256sum --check` reads it

In the copied tracking database all artifact locations are below `ROOT`.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from study.errors import StudyError, first_line
from study.system import interruption
from study.system.faults import explanation
from study.system.files import beside, flush, is_hidden, remove_unfinished, sha256, sums_text

FORMAT: Literal[2] = 2
MANIFEST, SUMS, RUNS, SEARCHES, ARTIFACTS = "study.json", "SHA256SUMS", "mlflow.db", "optuna.db", "artifacts"
ROOT = "file:///study/artifacts"
"""Root of the artifact locations in the tracking database of an archive."""
MEGABYTE = 2**20
LONGEST_NAME = 255
"""Maximum length of a file's name in bytes."""

Advance = Callable[[float], None]
"""Takes the number of bytes that were processed."""
Words = Annotated[str, Field(min_length=1, max_length=500)]
Line = Annotated[str, Field(min_length=1, max_length=5000)]


class Images(BaseModel):
    """A data set that the runs need, which is not in the archive."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    key: Words
    dataset: Words
    digest: Words


class Manifest(BaseModel):
    """The file study.json."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: Literal[2] = FORMAT
    exported: datetime
    versions: dict[str, str]
    """Versions of the packages, and `git_commit`."""
    counts: dict[str, Annotated[int, Field(ge=0)]]
    datasets: tuple[Images, ...]
    gaps: tuple[Line, ...] = ()
    """What is missing or altered in the archive, a line for each kind."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the archive in `folder`.

    Raises:
        StudyError: where it is not JSON, or no such manifest.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f", {part}" for part in first["loc"])
        raise malformed(f"{MANIFEST}{where}: {first['msg']}") from None


def in_words(counted: Mapping[str, int]) -> str:
    """The counts as text, without those that are zero."""
    words = [f"{count:,} {kind if count != 1 else _SINGULAR[kind]}" for kind, count in counted.items() if count]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "nothing"


_SINGULAR = {"runs": "run", "models": "model", "searches": "search", "trials": "trial"}


@dataclass(frozen=True)
class Sizes:
    """Number and total size of the files in an archive."""

    files: int
    bytes: int


def malformed(why: str) -> StudyError:
    """The error for an archive that is not what `study export` writes."""
    return StudyError(f"This is no whole export of a study ({why}): nothing was imported.")


def require_path(path: str) -> str:
    """Returns `path` where it names a file inside the archive on every system.

    Raises:
        StudyError: for a path that is absolute, leaves its folder, or has parts that no file name may have.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > LONGEST_NAME for part in parts):
        raise malformed(f"{path[:100]!r} is no path inside it")
    if re.search(r"[\x00-\x1f\x7f\\]", path) or re.match(r"[A-Za-z]:", path):
        raise malformed(f"{path[:100]!r} is no path inside it")
    return path


def require_distinct(paths: Iterable[str]) -> set[str]:
    """The `paths` as a set.

    Raises:
        StudyError: where a path is duplicated, or is a file and a folder.
    """
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise malformed(f"{path!r} is in it twice")
        seen.add(path)
    for path in seen:
        for folder in PurePosixPath(path).parents:
            if str(folder) in seen:
                raise malformed(f"{str(folder)!r} is a file and a folder")
    return seen


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
def written_whole(target: Path) -> Iterator[Path]:
    """A temporary folder, of which `packed` makes what becomes `target` when the block ends; an error leaves nothing.

    Raises:
        StudyError: where `target` is there already, or cannot be written.
    """
    _require_new(target)
    work = beside(target)
    try:
        _make_folders(target, work / "study")
        yield work / "study"
        _require_new(target)  # another export may have been first
        _packed_path(work / "study", target).rename(target)
        flush(target.parent)
    except StudyError:
        raise
    except Exception as error:
        # Not only an OSError: libraries copy the databases to the same disk, and raise errors of their own.
        if explained := explanation(error, target.parent):
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
        raise StudyError(f"{target} is there already: name another folder or file, or remove it.")


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
    return StudyError(f"What was written does not read back as it was ({what}): see to the disk, then export again.")


def sizes_of(folder: Path) -> Sizes:
    """How many files there are below `folder`, and of how many bytes."""
    names = files_below(folder)
    return Sizes(len(names), sum((folder / name).stat().st_size for name in names))


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
