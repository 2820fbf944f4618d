"""The exhibit: a figure or a table of the report, with its numbers and what it says in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One question of the report with what answers it; drawing and writing it are apart, so that both can be tested."""

    name: str
    """Of its files, without the suffix."""
    heading: str
    text: str
    """What it says in words: one sentence, from the numbers."""
    table: pd.DataFrame | None = None
    """The numbers, which become `name.csv`."""
    figure: Figure | None = None
    """The picture of the table; without one the table itself is shown."""
    shown: pd.DataFrame | None = None
    """The table as people read it, where that differs from the numbers or stands below a figure."""
    points: Sequence[str] = ()
    """What else the numbers say, a sentence each."""
    note: str = ""
    """How to read it, or how it was made."""
    gif: bytes | None = None
    """An animation, which becomes `name.gif`."""
    link: tuple[str, str] | None = None
    """Words, and the address that they lead to."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Further numbers that are written and not shown, by file name without the suffix."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files beside the page, by name."""

    @property
    def alt(self) -> str:
        """The picture in words, for those who cannot see it."""
        return f"{self.heading} {self.text}" if self.heading.endswith("?") else f"{self.heading}. {self.text}"

    @property
    def readable(self) -> pd.DataFrame | None:
        """The table on the page: below a figure only where there is one for people."""
        return self.table if self.shown is None and self.figure is None else self.shown

    @property
    def in_words(self) -> str:
        """All that it says, a line each."""
        return "\n".join([self.text, *(f"- {point}" for point in self.points), self.note])


def joined(tables: Mapping[str, pd.DataFrame], column: str = "model") -> pd.DataFrame:
    """The tables as one, with the key of each in `column`."""
    return pd.concat([table.assign(**{column: name}) for name, table in tables.items()], ignore_index=True)
