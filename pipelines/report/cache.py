"""What an analysis made before, step by step, so that the next one makes only what is missing or would be another."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.page import Section
from pipelines.report.exhibits import write
from study.errors import StudyError
from study.system.files import sha256, within

FOLDER = ".made"
"""Below the report's folder; hidden, so that it is not logged with the report."""
ASIDE = "aside"
"""Below that: what the page doesn't show any more, but may again."""
WORDS = ("heading", "text", "alt", "csv", "link", "points", "note")
PICTURES = ("png", "gif")


class Made:
    """What steps made in the report folder `folder`: the sections of the page, and the files with their hashes.

    What was set aside, and what they made in the folder `beside` it, is taken from there.
    """

    def __init__(self, folder: Path, beside: Path | None = None):
        self._folder, self._aside = folder, folder / FOLDER / ASIDE
        self._others = [self._aside, *([beside] if beside else [])]

    def find(self, step: str, inputs: str) -> list[Section] | None:
        """The sections that `step` made of these inputs; None where it did not, or a file is not as it made it."""
        found = self._found(step, inputs)
        for other in map(Made, self._others):
            if found is None and other._found(step, inputs) is not None:
                self._copy(step, other)
                found = self._found(step, inputs)
        return found

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
        sources = [*(other._folder / name for name in other._read(step)["files"]), other._record(step)]
        # Read before, since it may itself be what was set aside.
        contents = {source.relative_to(other._folder): source.read_bytes() for source in sources}
        self._set_aside(step)
        for name, content in contents.items():
            write(self._folder / name, content)

    def keep(self, step: str, inputs: str, sections: Sequence[Section], files: Sequence[str]) -> None:
        """Remembers what `step` made, and sets aside the files that it made before under other names."""
        self._set_aside(step, but=files)
        digests = {name: sha256(self._folder / name) for name in files}
        record = {"inputs": inputs, "files": digests, "sections": [_told(one, self._folder, files) for one in sections]}
        write(self._record(step), json.dumps(record))

    def set_aside(self, but: Collection[str]) -> None:
        """Leaves in the folder, of all that steps made, only what the steps `but` did."""
        for record in sorted(self._record("").parent.glob("*.json")):
            if record.stem not in but:
                self._set_aside(record.stem)

    def _set_aside(self, step: str, but: Collection[str] = ()) -> None:
        """Moves the record of `step` and its files, but these, in place of those that were set aside before."""
        for before in Made(self._aside)._whole(step):
            before.unlink()
        kept = {self._folder / name for name in but}
        record = self._record(step)
        for source in [*self._whole(step), *([record] if record.is_file() else [])]:
            if source not in kept:
                place = self._aside / source.relative_to(self._folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                source.replace(place)

    def _whole(self, step: str) -> list[Path]:
        """The files that are as `step` made them; what was altered since is somebody's own."""
        try:
            files = {within(self._folder, name): digest for name, digest in self._read(step)["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StudyError):
            return []
        return [file for file, digest in files.items() if file.is_file() and sha256(file) == digest]

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
