"""The exhibit: a figure or a table of the report, with its numbers and its result in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One question of the report and its answer. It writes no files, so that its numbers can be tested without any."""

    name: str
    """The stem of its file names."""
    heading: str
    text: str
    """The result in one sentence, computed from the numbers."""
    table: pd.DataFrame | None = None
    """The numbers, written to `name.csv`."""
    figure: Figure | None = None
    """The figure of the table; without one the table itself is shown."""
    shown: pd.DataFrame | None = None
    """The table formatted for the page, if it differs from the numbers or is shown below a figure."""
    points: Sequence[str] = ()
    """Further results, one sentence each."""
    note: str = ""
    """How to read it, or how it was computed."""
    gif: bytes | None = None
    """An animation, written to `name.gif`."""
    narrow_gif: bytes | None = None
    """The animation for narrow screens."""
    link: tuple[str, str] | None = None
    """The link's text and address."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables that are written but not shown, by the stem of their file names."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The contents of further files beside the page, by file name."""

    @property
    def alt(self) -> str:
        """Alternative text: the figure in words, for screen readers."""
        return f"{self.heading} {self.text}" if self.heading.endswith("?") else f"{self.heading}. {self.text}"

    @property
    def readable(self) -> pd.DataFrame | None:
        """The table to show on the page: `shown`, or the numbers if there is no figure."""
        return self.table if self.shown is None and self.figure is None else self.shown

    @property
    def in_words(self) -> str:
        """The text, the points and the note, one a line."""
        return "\n".join([self.text, *(f"- {point}" for point in self.points), self.note])


def joined(tables: Mapping[str, pd.DataFrame], column: str = "model") -> pd.DataFrame:
    """The tables concatenated, with the key of each in `column`."""
    return pd.concat([table.assign(**{column: name}) for name, table in tables.items()], ignore_index=True)
