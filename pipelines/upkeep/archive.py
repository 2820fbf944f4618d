"""The format of an exported study, a folder or a zip of one; how it is written, so that what looks whole is whole.

    study.json       the manifest: format, origin, counts, data sets
    mlflow.db        a copy of the tracking database
    optuna.db        a copy of the search storage
    artifacts/…      the files of the runs and of their models, as they lie in a home
    SHA256SUMS       the hash of every other file, as `sha256sum --check` reads it

In the copied database the artifacts are said to be at `ROOT`, wherever they were.
"""

import contextlib
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from study.errors import StudyError
from study.system import interruption
from study.system.files import beside, flush, remove_unfinished, sha256

FORMAT: Literal[2] = 2
MANIFEST, SUMS, RUNS, SEARCHES, ARTIFACTS = "study.json", "SHA256SUMS", "mlflow.db", "optuna.db", "artifacts"
ROOT = "file:///study/artifacts"
"""Where the tracking database in an archive says that the artifacts are."""
LONGEST_NAME = 255
"""Maximum length of a file's name in bytes."""

Advance = Callable[[float], None]
"""Told how many bytes are done."""
Words = Annotated[str, Field(min_length=1, max_length=500)]


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
    """Of the packages, and `git_commit`."""
    counts: dict[str, Annotated[int, Field(ge=0)]]
    datasets: tuple[Images, ...]


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
    """So many of each kind, in words; without what there is none of."""
    words = [f"{count:,} {kind if count != 1 else _SINGULAR[kind]}" for kind, count in counted.items() if count]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "nothing"


_SINGULAR = {"runs": "run", "models": "model", "searches": "search", "trials": "trial"}


@dataclass(frozen=True)
class Sizes:
    """How much an archive holds."""

    files: int
    bytes: int


def malformed(why: str) -> StudyError:
    """The error for an archive that is not what `study export` writes."""
    return StudyError(f"This is no whole export of a study ({why}): nothing was imported.")


def require_path(path: str) -> str:
    """Returns `path` where it names a file inside the archive on every system.

    Raises:
        StudyError: for a path that is absolute, leaves its folder, or has parts that no file may have.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > LONGEST_NAME for part in parts):
        raise malformed(f"{path[:100]!r} is no path inside it")
    if re.search(r"[\x00-\x1f\x7f\\]", path) or re.match(r"[A-Za-z]:", path):
        raise malformed(f"{path[:100]!r} is no path inside it")
    return path


def require_distinct(paths: Iterable[str]) -> set[str]:
    """The `paths`, where none is there twice, and none is a file and a folder.

    Raises:
        StudyError: where one is.
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
    """A folder to be filled, which becomes `target`, a folder or a zip, when the block ends; else nothing is left.

    Raises:
        StudyError: where `target` is there already, or cannot be written.
    """
    _require_new(target)
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
        finished = _zipped(folder, work / "study.zip") if target.suffix.lower() == ".zip" else folder
        _require_new(target)  # another export may have been first
        finished.rename(target)
        flush(target.parent)
    except OSError as error:
        if error.errno is None:  # of a connection, and not of a file
            raise
        raise StudyError(f"{target} cannot be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_new(target: Path) -> None:
    if os.path.lexists(target):
        raise StudyError(f"{target} is there already: name another folder or file, or remove it.")


def _zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as opened:
        for name in files_below(folder):
            interruption.check()
            opened.write(folder / name, name)
    flush(path)
    return path


def write_sums(folder: Path, advance: Advance) -> Sizes:
    """Writes the hash of every file below `folder`, and makes sure that all of it is on the disk."""
    names, total = files_below(folder), 0
    with (folder / SUMS).open("w", encoding="utf-8", newline="\n") as sums:
        for name in names:
            interruption.check()
            sums.write(f"{sha256(folder / name)}  {require_path(name)}\n")
            flush(folder / name)
            size = (folder / name).stat().st_size
            total += size
            advance(size)
    flush(folder / SUMS)
    return Sizes(len(names) + 1, total + (folder / SUMS).stat().st_size)
