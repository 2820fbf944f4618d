"""A layer's filters side by side: rows of so many, and a line that names those with nothing to show."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LINE = 150
"""Characters of 8 pt across a whole figure."""


SILENT = 1e-6
"""The share of a layer's largest activation that a filter has to go beyond, or its activations are rounding's."""


def in_rows(filters: Sequence[int], most: int) -> list[list[int]]:
    """The filters in their order, in as few rows of at most `most` as will do, about equally long; one row of none."""
    count = max(1, math.ceil(len(filters) / most))
    length = math.ceil(len(filters) / count)
    return [list(filters[row * length : (row + 1) * length]) for row in range(count)]


class Row(NamedTuple):
    """A row of a layer's filters, and its place among those of the layer."""

    layer: str
    filters: list[int]
    first: bool
    last: bool

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.layer if self.first else f"{self.layer}, continued"


def of_layers(filters: Mapping[str, Sequence[int]], most: int) -> list[Row]:
    """The rows of several layers, each layer's filters in their order; see `in_rows`."""
    made = []
    for layer, numbers in filters.items():
        parts = in_rows(numbers, most)
        made += [Row(layer, part, place == 0, place == len(parts) - 1) for place, part in enumerate(parts)]
    return made


def named(filters: Sequence[int], why: str, width: int = LINE) -> str:
    """Which filters are left out and why, over as many lines as it takes; empty where none is."""
    if not len(filters):
        return ""
    numbers = ", ".join(map(str, filters))
    return textwrap.fill(f"{len(filters)} {why}: {numbers}", width)


def axis_label(left_out: Sequence[int], why: str) -> str:
    """What stands below a row's numbers: that they are filters, and which are left out."""
    return "\n".join(line for line in ("filter", named(left_out, why, LINE - 20)) if line)
