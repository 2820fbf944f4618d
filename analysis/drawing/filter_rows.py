"""Breaks a layer's filters into rows, and names those that have nothing to show."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analysis.drawing import style

LINE = 150
"""Characters of 8 pt that fit across a figure."""

SILENT = 1e-6
"""Share of a layer's largest activation up to which a filter's activations count as rounding errors."""


MOST_DRAWN = 128
"""Most filters of a layer, and most inputs of a filter, that are drawn as kernels or maps; the first ones are."""


def cut(filters: int, inputs: int = 0) -> str:
    """A sentence on what is left out of a layer with so many filters, each with so many inputs; empty for nothing."""
    counts = {"filters": filters, "input channels of each": inputs}
    parts = [f"{MOST_DRAWN} of the {count} {what}" for what, count in counts.items() if count > MOST_DRAWN]
    return f"Drawn and listed in the table are the first {' and the first '.join(parts)}." if parts else ""


def fitting(count: int) -> int:
    """How many fit across the page, of things of which `count` fit across a figure of `style.WIDTH`."""
    return max(1, int(count * style.page_width() / style.WIDTH))


def in_rows(filters: Sequence[int], most: int) -> list[list[int]]:
    """The filters in order, in the fewest rows of at most `most`, about equally long; one empty row for no filters."""
    count = max(1, math.ceil(len(filters) / most))
    length = math.ceil(len(filters) / count)
    return [list(filters[row * length : (row + 1) * length]) for row in range(count)]


class Row(NamedTuple):
    """A row of a layer's filters, and whether it is the layer's first or last."""

    layer: str
    filters: list[int]
    first: bool
    last: bool

    @property
    def title(self) -> str:
        """The title of the row."""
        return self.layer if self.first else f"{self.layer}, continued"


def of_layers(filters: Mapping[str, Sequence[int]], most: int) -> list[Row]:
    """The rows of several layers, one layer after the other; see `in_rows`."""
    rows = []
    for layer, numbers in filters.items():
        parts = in_rows(numbers, most)
        rows += [Row(layer, part, place == 0, place == len(parts) - 1) for place, part in enumerate(parts)]
    return rows


def named(filters: Sequence[int], why: str, less: int = 0) -> str:
    """A text that names the filters left out, and why, `less` characters narrower than the page; empty if none are."""
    if not len(filters):
        return ""
    if len(filters) == 1:
        why = why.replace("filters change ", "filter changes ").replace("filters", "filter")
    numbers = ", ".join(map(str, filters))
    return textwrap.fill(f"{len(filters)} {why}: {numbers}", fitting(LINE) - less)


def axis_label(left_out: Mapping[str, Sequence[int]], less: int = 0) -> str:
    """The label below a row's filter numbers, with the filters left out by the reason why; `less` as in `named`."""
    texts = [named(filters, why, 20 + less) for why, filters in left_out.items()]
    return "\n".join(line for line in ("filter", *texts) if line)
