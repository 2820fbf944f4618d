"""Writes exhibits as files, each picture with its numbers, and gathers them in the folder of a report."""

import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from analysis.drawing.screens import narrow_version
from analysis.drawing.style import DOTS_PER_INCH, fix_layout
from analysis.exhibit import Exhibit
from analysis.page import Section
from analysis.results import classification
from study.errors import StudyError
from study.system import interruption
from study.system.files import atomic_write, sha256, sums_text, within

NARROW = "narrow"
"""Subfolder for figures as narrow screens show them."""
ONLY = "only"
"""Subfolder for figures chosen with `--only`: their page keeps its files apart from those of the whole report."""
MANIFEST = ".files.sha256"
"""The files that reports wrote to a folder, with their hashes; hidden, so that it is not logged with the report."""
INPUTS = ".inputs.json"
"""The hash of what the report in a folder was made from, and what the report lacks."""


def png(figure: Figure) -> bytes:
    """The figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> None:
    """Writes a file atomically; text as UTF-8."""
    with atomic_write(path) as file:
        file.write_bytes(content.encode() if isinstance(content, str) else content)


def last_frame(gif: bytes) -> bytes:
    """The last frame of an animation, as a PNG picture."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(gif)) as animation:
        *_, last = ImageSequence.all_frames(animation)
        last.save(buffer, format="png")
    return buffer.getvalue()


def write_figure(folder: Path, name: str, numbers: pd.DataFrame, figure: Figure) -> bytes:
    """Writes `name.png`, `name.svg` and `name.csv` to `folder`, and returns the picture."""
    fix_layout(figure)
    picture = png(figure)
    write(folder / f"{name}.png", picture)
    interruption.check()
    with atomic_write(folder / f"{name}.svg") as file:
        # Without the date, so that the same figure is the same file.
        figure.savefig(file, format="svg", metadata={"Date": None})
    write_table(folder, name, numbers)
    return picture


def narrow_png(figure: Figure) -> bytes | None:
    """The figure as a PNG picture for narrow screens; None if it needs none, see `screens.narrow_version`."""
    narrow = narrow_version(figure)
    if narrow is None:
        return None
    fix_layout(narrow)
    return png(narrow)


def write_table(folder: Path, name: str, numbers: pd.DataFrame) -> None:
    """Writes `name.csv` to `folder`, with as many digits as float32 has.

    A text that a spreadsheet would take for a formula, such as a class name, is prefixed with an apostrophe.
    """
    texts = numbers.select_dtypes(exclude=["number", "bool"]).columns
    plain = numbers.rename(columns=_no_formula)
    for column in texts:
        plain[_no_formula(column)] = numbers[column].map(_no_formula)
    write(folder / f"{name}.csv", plain.to_csv(index=False, float_format="%.9g"))


def _no_formula(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    return value if re.fullmatch(r"[+-]\d+(\.\d+)?", value) else f"'{value}"


@dataclass
class Report:
    """The folder of a report's figures and tables, and the sections of its page."""

    folder: Path
    names: Mapping[str, str] = field(default_factory=dict)
    """Class → the name that figures show, see `analysis.drawing.names`; CSV files hold the class."""
    sections: list[Section] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files written, by name, in order."""

    def add(self, exhibit: Exhibit) -> Section:
        """Writes the files of an exhibit, and puts it on the page."""
        name, table, picture, narrow = exhibit.name, exhibit.table, None, None
        if table is not None and exhibit.figure is not None:
            picture = write_figure(self.folder, name, self._with_classes(table), exhibit.figure)
            self._record(*(f"{name}.{kind}" for kind in ("png", "svg", "csv")))
            narrow = self._add_narrow(f"{name}.png", narrow_png(exhibit.figure))
        elif table is not None:
            self._add_table(name, table)
            shown = table if exhibit.shown is None else exhibit.shown
            self.add_file(f"{name}.md", classification.to_markdown(shown))
        if exhibit.gif is not None:
            self.add_file(f"{name}.gif", exhibit.gif)
            picture = last_frame(exhibit.gif)
        if exhibit.narrow_gif is not None:
            narrow = self._add_narrow(f"{name}.png", last_frame(exhibit.narrow_gif))
            self.add_file(f"{NARROW}/{name}.gif", exhibit.narrow_gif)
        for table_name, numbers in exhibit.tables.items():
            self._add_table(table_name, numbers)
        for file_name, content in exhibit.files.items():
            self.add_file(file_name, content)
        section = Section(
            exhibit.heading,
            exhibit.text,
            table=exhibit.readable,
            png=picture,
            narrow=narrow,
            alt=exhibit.alt if picture else "",
            csv=None if table is None else f"{name}.csv",
            gif=None if exhibit.gif is None else f"{name}.gif",
            narrow_gif=None if exhibit.narrow_gif is None else f"{NARROW}/{name}.gif",
            link=exhibit.link,
            points=exhibit.points,
            note=exhibit.note,
        )
        self.sections.append(section)
        return section

    def _add_narrow(self, name: str, content: bytes | None) -> tuple[str, bytes] | None:
        """Writes the picture for narrow screens, if there is one; returns the file and the picture."""
        if content is None:
            return None
        self.add_file(f"{NARROW}/{name}", content)
        return f"{NARROW}/{name}", content

    def _with_classes(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the class names of the data set in place of those that figures show."""
        return table.replace({shown: name for name, shown in self.names.items() if shown != name})

    def _add_table(self, name: str, numbers: pd.DataFrame) -> None:
        write_table(self.folder, name, self._with_classes(numbers))
        self._record(f"{name}.csv")

    def add_file(self, name: str, content: bytes | str) -> None:
        """Writes a file of the report."""
        write(self.folder / name, content)
        self._record(name)

    def _record(self, *names: str) -> None:
        hashes = {name: sha256(self.folder / name) for name in names}
        self.files |= hashes
        # At once, so that an interrupted report has recorded its files.
        with (self.folder / MANIFEST).open("a", encoding="utf-8") as manifest:
            manifest.write(sums_text(hashes))

    def missing_from_current(self, inputs: str) -> tuple[str, ...] | None:
        """What the report in the folder lacks; None if it has other inputs, or any of its files was altered."""
        try:
            content = json.loads((self.folder / INPUTS).read_text(encoding="utf-8"))
            if content["inputs"] == inputs and all(
                _has_hash(digest, self.folder, name) for digest, name in self._listed()
            ):
                return tuple(map(str, content["missing"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return None

    def finish(self, inputs: str, missing: Sequence[str]) -> None:
        """Removes stale files, and keeps what `missing_from_current` tells."""
        self.remove_stale()
        write(self.folder / INPUTS, json.dumps({"inputs": inputs, "missing": list(missing)}))

    def remove_stale(self) -> None:
        """Deletes the files that an earlier report wrote here and this one did not, except those altered since."""
        for digest, name in self._listed():
            if name not in self.files and _has_hash(digest, self.folder, name):
                (self.folder / name).unlink()
        write(self.folder / MANIFEST, sums_text(self.files))

    def _listed(self) -> list[tuple[str, str]]:
        """The hashes and names in the manifest."""
        manifest = self.folder / MANIFEST
        lines = manifest.read_text(encoding="utf-8", errors="replace").splitlines() if manifest.is_file() else []
        return [(digest, name) for digest, _, name in (line.partition("  ") for line in lines)]


def _has_hash(digest: str, folder: Path, name: str) -> bool:
    """Whether `folder` has a file `name` with this hash."""
    try:
        file = within(folder, name)
        return file.is_file() and sha256(file) == digest
    except (OSError, ValueError, StudyError):
        return False


def command_line(where: Sequence[str], *words: str) -> str:
    """A `study` command to type, with the options `where` for the home and store at hand."""
    return shlex.join(["study", *words, *where])
