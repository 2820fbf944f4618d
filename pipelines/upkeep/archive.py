"""The format of an exported study, a folder or a zip of one.

    study.json       the manifest: format, origin, counts, data sets
    mlflow.db        a copy of the tracking database
    optuna.db        a copy of the search storage
    artifacts/…      the files of the runs and of their models, as they lie in a home
    SHA256SUMS       the hash of every other file, as `sha256sum --check` reads it

In the copied tracking database all artifact locations are below `ROOT`.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.drawing.wording import counted, listed
from study.errors import StudyError

FORMAT: Literal[2] = 2
MANIFEST, SUMS, RUNS, SEARCHES, ARTIFACTS = "study.json", "SHA256SUMS", "mlflow.db", "optuna.db", "artifacts"
ROOT = "file:///study/artifacts"
"""Root of the artifact locations in the tracking database of an archive."""
MEGABYTE = 2**20
LONGEST_NAME = 255
"""Maximum length of a file's name in bytes."""

Advance = Callable[[float], None]
"""Takes the number of bytes that were processed."""
ShortText = Annotated[str, Field(min_length=1, max_length=500)]
LongText = Annotated[str, Field(min_length=1, max_length=5000)]


class DatasetRecord(BaseModel):
    """A data set that the runs need, which is not in the archive."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    key: ShortText
    dataset: ShortText
    digest: ShortText


class Manifest(BaseModel):
    """The file study.json."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: Literal[2] = FORMAT
    exported: datetime
    versions: dict[str, str]
    """Versions of the packages, and `git_commit`."""
    counts: dict[str, Annotated[int, Field(ge=0)]]
    datasets: tuple[DatasetRecord, ...]
    gaps: tuple[LongText, ...] = ()
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


def in_words(counts: Mapping[str, int]) -> str:
    """The counts as text, without those that are zero."""
    return listed([counted(count, _SINGULAR[kind]) for kind, count in counts.items() if count]) or "nothing"


_SINGULAR = {"runs": "run", "models": "model", "searches": "search", "trials": "trial"}


@dataclass(frozen=True)
class Sizes:
    """Number and total size of the files in an archive."""

    files: int
    bytes: int


def malformed(why: str) -> StudyError:
    """The error for an archive that is not what `study export` writes."""
    return StudyError(f"This is not a complete export of a study ({why}): nothing was imported.")


def require_path(path: str) -> str:
    """Returns `path` where it names a file inside the archive on every system.

    Raises:
        StudyError: for a path that is absolute, leaves its folder, or has parts that no file name may have.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > LONGEST_NAME for part in parts):
        raise malformed(f"{path[:100]!r} is not a path inside it")
    if re.search(r"[\x00-\x1f\x7f\\]", path) or re.match(r"[A-Za-z]:", path):
        raise malformed(f"{path[:100]!r} is not a path inside it")
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
                raise malformed(f"{path.relative_to(folder)} is a link or a special file")
        names += [(Path(root) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


def sizes_of(folder: Path) -> Sizes:
    """How many files there are below `folder`, and of how many bytes."""
    names = files_below(folder)
    return Sizes(len(names), sum((folder / name).stat().st_size for name in names))
