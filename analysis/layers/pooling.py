"""Max pooling of a map, worked out in numbers: the report's Figure 4."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.numbered_cells import Item, Outline, draw_rows
from analysis.exhibit import Exhibit
from analysis.layers.operations import MARKS, arrays, numbered, picture, signed, sized, tabulate


def show(panels: Mapping[str, np.ndarray], size: int) -> Exhibit:
    """ReLU and max pooling over squares of side `size`; `panels` as in `draw_pooling`, before `tabulate`."""
    table = tabulate(panels)
    figure, text = draw_pooling(table, size=size), pooling_caption(table)
    return Exhibit("concept_pooling", "What max pooling does (Figure 4)", text, table, figure)


def draw_pooling(table: pd.DataFrame, *, size: int) -> Figure:
    """A part of a map, its ReLU and its max pooling over squares of side `size`; then the same for the whole map.

    Args:
        table: `tabulate` of map, ReLU and pooled, of ``kept`` (1 at the positive values that pooling keeps), and
            of whole map, whole ReLU and whole pooled.
        size: side of the squares in pixels.
    """
    panels = arrays(table)
    corners = [place for place in np.ndindex(panels["map"].shape) if place[0] % size == place[1] % size == 0]
    squares = [Outline(row, column, size, size, style.PAPER, 0.7) for row, column in corners]
    kept = [Outline(int(row), int(column), 1, 1, MARKS[0]) for row, column in np.argwhere(panels["kept"])]
    rows: list[list[Item]] = []
    for which, outlines in (("", squares + kept), ("whole ", [])):
        before, rectified, pooled = (panels[f"{which}{name}"] for name in ("map", "ReLU", "pooled"))
        positive = style.limits_from_zero(rectified), style.SEQUENTIAL
        draw = picture if which else numbered
        rows.append(
            [
                draw(before, f"{which}map, {sized(before)}", signed(before)),
                "→",
                draw(rectified, f"ReLU, {sized(rectified)}", positive, outlines),
                "→",
                draw(pooled, f"max pooling {size} × {size}: {sized(pooled)}", positive),
            ]
        )
    return draw_rows(rows, title=f"Max pooling: of each {size} × {size} square the largest value remains")


def pooling_caption(table: pd.DataFrame) -> str:
    """One sentence: how many values ReLU sets to zero, and how many pooling keeps."""
    panels = arrays(table)
    before, pooled = panels["whole map"], panels["whole pooled"]
    return (
        f"Of the whole map's {before.size:,} values ReLU sets {(before < 0).mean():.0%} to zero; max pooling keeps "
        f"{pooled.size:,}, of which {(pooled == 0).mean():.0%} are zero."
    )
