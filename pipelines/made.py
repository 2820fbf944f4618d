"""What an analysis made before, step by step, so that the next one makes only what is missing or would be another."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.report import Section
from study.errors import StudyError
from study.files import sha256, whole, within

FOLDER = ".made"
"""Below the report's folder; hidden, so that it is not logged with the report."""
WORDS = ("heading", "text", "alt", "csv", "link", "points", "note")
PICTURES = ("png", "gif")


class Made:
    """What steps made in the report folder `folder`: the sections of the page, and the files with their hashes.

    What they made in the folder `beside` it is taken from there.
    """

    def __init__(self, folder: Path, beside: Path | None = None):
        self._folder, self._beside = folder, beside

    def find(self, step: str, inputs: str) -> list[Section] | None:
        """The sections that `step` made of these inputs; None where it did not, or a file is not as it made it."""
        found = self._found(step, inputs)
        if found is not None or self._beside is None:
            return found
        other = Made(self._beside)
        if other._found(step, inputs) is None:
            return None
        self._copy(step, other)
        return self._found(step, inputs)

    def _found(self, step: str, inputs: str) -> list[Section] | None:
        try:
            record = self._read(step)
            if record["inputs"] != inputs:
                return None
            files = {name: within(self._folder, name) for name in record["files"]}
            if any(sha256(files[name]) != digest for name, digest in record["files"].items()):
                return None
            return [_section(told, files) for told in record["sections"]]
        except (OSError, ValueError, KeyError, TypeError, StudyError):
            return None

    def _copy(self, step: str, other: "Made") -> None:
        """Takes over what `step` made elsewhere; last the record, which tells of the files."""
        for source in [*(other._folder / name for name in other._read(step)["files"]), other._record(step)]:
            with whole(self._folder / source.relative_to(other._folder)) as file:
                shutil.copyfile(source, file)

    def keep(self, step: str, inputs: str, sections: Sequence[Section], files: Sequence[str]) -> None:
        """Remembers what `step` made."""
        digests = {name: sha256(self._folder / name) for name in files}
        record = {"inputs": inputs, "files": digests, "sections": [_told(one, self._folder, files) for one in sections]}
        with whole(self._record(step)) as file:
            file.write_text(json.dumps(record), encoding="utf-8")

    def _read(self, step: str) -> Any:
        return json.loads(self._record(step).read_text(encoding="utf-8"))

    def _record(self, step: str) -> Path:
        return self._folder / FOLDER / f"{step}.json"


def _told(section: Section, folder: Path, files: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {name: getattr(section, name) for name in WORDS}
    for kind in PICTURES:
        picture = getattr(section, kind)
        # A picture of the page is a file of the report too.
        told[kind] = picture and next(
            name for name in files if name.endswith(kind) and (folder / name).read_bytes() == picture
        )
    if section.table is not None:
        told["table"] = [[str(name), str(one.dtype), _values(one)] for name, one in section.table.items()]
    return told


def _values(column: "pd.Series[Any]") -> list[Any]:
    return [value.item() if hasattr(value, "item") else value for value in column]


def _section(told: dict[str, Any], files: dict[str, Path]) -> Section:
    table = None
    if "table" in told:
        table = pd.DataFrame({name: pd.Series(values, dtype=kind) for name, kind, values in told.pop("table")})
    pictures = {kind: told[kind] and files[told[kind]].read_bytes() for kind in PICTURES}
    link = told["link"] and tuple(told["link"])
    return Section(**{**told, **pictures, "link": link}, table=table)
