"""Figures and tables as files: the picture, and beside it its numbers; and the report that gathers them."""

import io
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

import pandas as pd
from matplotlib.figure import Figure

from analysis.page import Section
from analysis.results import classification
from study.system.files import whole

DOTS_PER_INCH = 150
ONLY = "only"
"""Where chosen figures go, below the folder of the whole report: each of the two pages keeps its own files."""


def png(figure: Figure) -> bytes:
    """The figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> None:
    """Writes a file that is whole or not there; text as UTF-8."""
    with whole(path) as file:
        file.write_bytes(content.encode() if isinstance(content, str) else content)


def write_figure(folder: Path, name: str, numbers: pd.DataFrame, figure: Figure) -> bytes:
    """Writes `name.png`, `name.svg` and `name.csv` to `folder`, and returns the picture."""
    picture = png(figure)
    write(folder / f"{name}.png", picture)
    # Laid out already, which takes as long as drawing it.
    figure.set_layout_engine("none")
    with whole(folder / f"{name}.svg") as file:
        # Without the date, so that the same figure is the same file.
        figure.savefig(file, format="svg", metadata={"Date": None})
    write_table(folder, name, numbers)
    return picture


def write_table(folder: Path, name: str, numbers: pd.DataFrame) -> None:
    """Writes `name.csv` to `folder`, with as many digits as float32 has.

    A text that a spreadsheet would take for a formula, as a class may be called, gets an apostrophe before it.
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


Step = tuple[str, Callable[[], None]]
"""A part of the analysis, and what it is called while it works."""


class More(TypedDict, total=False):
    """What a section may say beside its caption; see `analysis.page.Section`."""

    points: Sequence[str]
    note: str


@dataclass
class Report:
    """The folder that the figures and tables go to, and the sections of the page that gathers them."""

    folder: Path
    sections: list[Section] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """The names of what was written, in order."""
    where: Sequence[str] = ()
    """The options that lead a command to the home and the store at hand, see `Context.where`."""

    @property
    def beside(self) -> Path:
        """The folder of the whole report for one of chosen figures, and the reverse."""
        return self.folder.parent if self.folder.name == ONLY else self.folder / ONLY

    def add_figure(
        self,
        name: str,
        heading: str,
        text: str,
        numbers: pd.DataFrame,
        figure: Figure,
        shown: pd.DataFrame | None = None,
        **more: Unpack[More],
    ) -> None:
        """Writes a figure and its numbers, and puts it on the page, with the table `shown` below where there is one."""
        picture = write_figure(self.folder, name, numbers, figure)
        self.files += [f"{name}.{kind}" for kind in ("png", "svg", "csv")]
        alt = f"{heading} {text}" if heading.endswith("?") else f"{heading}. {text}"
        self.sections.append(Section(heading, text, table=shown, png=picture, alt=alt, csv=f"{name}.csv", **more))

    def command(self, *words: str) -> str:
        """A `study` command for the page, as it can be typed."""
        return shlex.join(["study", *words, *self.where])

    def add_table(
        self,
        name: str,
        heading: str,
        text: str,
        numbers: pd.DataFrame,
        shown: pd.DataFrame | None = None,
        **more: Unpack[More],
    ) -> None:
        """Writes a table as CSV and Markdown, and puts it on the page; to people as `shown`, where that is another."""
        shown = numbers if shown is None else shown
        self.add_numbers(name, numbers)
        self.add_file(f"{name}.md", classification.to_markdown(shown))
        self.sections.append(Section(heading, text, table=shown, csv=f"{name}.csv", **more))

    def add_numbers(self, name: str, numbers: pd.DataFrame) -> None:
        """Writes a table as CSV, and leaves the page as it is."""
        write_table(self.folder, name, numbers)
        self.files.append(f"{name}.csv")

    def add_file(self, name: str, content: bytes | str) -> None:
        """Writes a file beside the page."""
        write(self.folder / name, content)
        self.files.append(name)


def joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of several models as one, with the column model."""
    return pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)
