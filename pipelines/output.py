"""Figures and tables as files: the picture, and beside it its numbers; and the report that gathers them."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis import classification
from analysis.report import Section

DOTS_PER_INCH = 150


def png(figure: Figure) -> bytes:
    """The figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def write_figure(folder: Path, name: str, numbers: pd.DataFrame, figure: Figure) -> bytes:
    """Writes `name.png`, `name.svg` and `name.csv` to `folder`, and returns the picture."""
    picture = png(figure)
    (folder / f"{name}.png").write_bytes(picture)
    # Laid out already, which takes as long as drawing it.
    figure.set_layout_engine("none")
    # Without the date, so that the same figure is the same file.
    figure.savefig(folder / f"{name}.svg", format="svg", metadata={"Date": None})
    write_table(folder, name, numbers)
    return picture


def write_table(folder: Path, name: str, numbers: pd.DataFrame) -> None:
    """Writes `name.csv` to `folder`, with as many digits as float32 has."""
    numbers.to_csv(folder / f"{name}.csv", index=False, float_format="%.9g")


Step = tuple[str, Callable[[], None]]
"""A part of the analysis, and what it is called while it works."""


@dataclass
class Report:
    """The folder that the figures and tables go to, and the sections of the page that gathers them."""

    folder: Path
    sections: list[Section] = field(default_factory=list)

    def add_figure(
        self,
        name: str,
        heading: str,
        text: str,
        numbers: pd.DataFrame,
        figure: Figure,
        shown: pd.DataFrame | None = None,
    ) -> None:
        """Writes a figure and its numbers, and puts it on the page, with the table `shown` below where there is one."""
        picture = write_figure(self.folder, name, numbers, figure)
        alt = f"{heading}. {text}"
        self.sections.append(Section(heading, text, table=shown, png=picture, alt=alt, csv=f"{name}.csv"))

    def add_table(
        self, name: str, heading: str, text: str, numbers: pd.DataFrame, shown: pd.DataFrame | None = None
    ) -> None:
        """Writes a table as CSV and Markdown, and puts it on the page; to people as `shown`, where that is another."""
        shown = numbers if shown is None else shown
        write_table(self.folder, name, numbers)
        (self.folder / f"{name}.md").write_text(classification.to_markdown(shown), encoding="utf-8")
        self.sections.append(Section(heading, text, table=shown, csv=f"{name}.csv"))


def joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of several models as one, with the column model."""
    return pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)
