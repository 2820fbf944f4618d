"""What an exported study looks like: the records in its JSON files, and the names that its files may have.

A folder, or a zip of one:

    study.json                  format, origin, counts, the runs in order, the searches, the registered models
    runs/ID/run.json            a run: name, status, times (milliseconds since 1970), tags, params, logged models
    runs/ID/metrics.csv         metric, value, time, step: every recorded point
    runs/ID/artifacts/…         its files, as they were kept
    runs/ID/models/MODEL/…      the files of a model that was logged to it
    searches/NAME.json          a search: its trials with states, values, parameters, distributions, attributes, times
    SHA256SUMS                  the hash of every other file, as `sha256sum --check` reads it

A number that JSON cannot hold is written as "nan", "inf" or "-inf".
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
)

from study.config import can_be_name
from study.errors import StudyError

FORMAT: Literal[1] = 1
MANIFEST, SUMS = "study.json", "SHA256SUMS"
REFERENCES = ("mlflow.parentRunId", "trial_run", "retrain_run")
"""The tags of a run that name other runs."""
ORIGIN = "imported_from"
"""The tag that holds the id that a run began with, where it was first recorded."""
LONGEST_NAME = 200
"""Bytes of a file's name; file systems allow 255, of which a temporary name takes some."""


def _number(value: object) -> object:
    return float(value) if value in ("nan", "inf", "-inf") else value


def _folder_name(value: str) -> str:
    if not can_be_name(value):
        raise ValueError(f"{value[:100]!r} cannot be the name of a folder")
    return value


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


Number = Annotated[float, BeforeValidator(_number), PlainSerializer(_plain, when_used="json")]
Milliseconds = Annotated[int, Field(ge=0, le=2**53)]
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
ModelId = Annotated[str, Field(pattern=r"^m-[0-9a-f]{32}$")]
Words = Annotated[str, Field(min_length=1, max_length=500)]
Folder = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_folder_name)]
"""What a folder is called after in the store."""
Key = Annotated[str, Field(pattern=r"^[/\w.\- :]+$", max_length=250)]
"""What MLflow takes."""
Texts = dict[Key, Annotated[str, Field(max_length=8000)]]
ModelName = Annotated[str, Field(pattern=r"^[^/:%\"'\x00-\x1f]+$", max_length=250)]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_\-]*$", max_length=250)]


class Record(BaseModel):
    """One of the objects in the JSON files; what it does not know, it refuses."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class LoggedModel(Record):
    """A model that was logged to a run."""

    id: ModelId
    name: ModelName
    kind: str | None
    tags: Texts
    params: Texts


class RunRecord(Record):
    """A run; its metrics and files lie beside it."""

    id: RunId
    name: str
    experiment: Folder
    status: Literal["FINISHED", "FAILED", "KILLED"]
    started: Milliseconds
    ended: Milliseconds
    tags: Texts
    params: Texts
    models: tuple[LoggedModel, ...]

    @property
    def origin(self) -> str:
        """The id that it began with."""
        return self.tags.get(ORIGIN, self.id)

    @property
    def references(self) -> set[str]:
        """The runs that it names."""
        return {self.tags[name] for name in REFERENCES if name in self.tags}


class TrialRecord(Record):
    """A trial of a search, as Optuna keeps it."""

    number: Annotated[int, Field(ge=0)]
    state: Literal["COMPLETE", "PRUNED", "FAIL", "WAITING"]
    value: Number | None
    params: dict[str, JsonValue]
    distributions: dict[str, dict[str, JsonValue]]
    intermediate_values: dict[Annotated[str, Field(pattern=r"^-?[0-9]{1,9}$")], Number]
    user_attrs: dict[str, JsonValue]
    system_attrs: dict[str, JsonValue]
    started: datetime | None
    ended: datetime | None


class SearchRecord(Record):
    """A search with its trials in the order of their numbers."""

    name: Words
    user_attrs: dict[str, JsonValue]
    system_attrs: dict[str, JsonValue]
    trials: tuple[TrialRecord, ...]


class Version(Record):
    """A version of a registered model: which logged model of which run it is."""

    version: Annotated[int, Field(ge=1)]
    run: RunId
    model: ModelId
    tags: Texts


class Registered(Record):
    """A registered model; its aliases name versions."""

    name: ModelName
    versions: tuple[Version, ...]
    aliases: dict[Alias, int]


class Images(Record):
    """A data set that the runs need, which is not in the archive."""

    key: Words
    dataset: Words
    digest: Words


class Manifest(Record):
    """The file study.json."""

    format: Literal[1] = FORMAT
    exported: datetime
    versions: dict[str, str]
    """Of the packages, and `git_commit`."""
    counts: dict[str, Annotated[int, Field(ge=0)]]
    datasets: tuple[Images, ...]
    runs: tuple[RunId, ...]
    """The latest first."""
    searches: dict[Words, Words]
    """The file of each search."""
    registered: tuple[Registered, ...]


R = TypeVar("R", bound=Record)


def read_record(kind: type[R], text: str | bytes, path: str) -> R:
    """The record in the JSON file `path`.

    Raises:
        StudyError: where it is not JSON, or not such a record.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise malformed(f"{path}{_first(error)}") from None


@contextmanager
def exported(what: str) -> Iterator[None]:
    """Says of a record that is made in the block what no archive can hold.

    Raises:
        StudyError: where the record has that.
    """
    try:
        yield
    except ValidationError as error:
        raise StudyError(f"{what} cannot be exported{_first(error)}.") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{f', {where}' if where else ''}: {first['msg']}"


def written(record: Record) -> str:
    """The text of a record's JSON file."""
    return record.model_dump_json(indent=1) + "\n"


def malformed(why: str) -> StudyError:
    """The error for an archive that is not what `study export` writes."""
    return StudyError(f"This is no whole export of a study ({why}): nothing was imported.")


def require_path(path: str) -> str:
    """Returns `path` where it names a file inside the archive on every system.

    Raises:
        StudyError: for a path that is absolute, leaves its folder, or has parts that no file may have.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > LONGEST_NAME + 55 for part in parts):
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


def search_file(name: str, taken: Mapping[str, str]) -> str:
    """The file of the search called `name`, unlike those that are `taken`."""
    safe = quote(name, safe=" ")[:LONGEST_NAME]
    path = f"searches/{safe}.json"
    return path if path not in taken.values() else f"searches/{safe}-{len(taken)}.json"


def run_folder(run_id: str) -> str:
    """Where the files of a run lie."""
    return f"runs/{run_id}"


def values(record: Record) -> dict[str, Any]:
    """A record's fields, as they are compared."""
    return record.model_dump(mode="json")
