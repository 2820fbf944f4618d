"""A sheet of the patches that activate a layer's filters most, beside each filter's kernels."""

import math
import textwrap
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.drawing import filter_rows, style
from analysis.drawing.fonts import inches
from analysis.drawing.screens import is_narrow
from analysis.drawing.wording import width, without_end


def responding(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a `top_patches` table that have a patch: those of filters that respond."""
    return table[table["state"] == "responds"].astype({"rank": int, "image": int, "top": int, "left": int})


GAP, NARROW = 0.12, 0.06
"""Inches between two filters, and between a filter's kernels and its patches."""
TOP, HEAD, FOOT = 0.35, 0.15, 0.16
"""Heights in inches: the title, a line above a filter's patches, and a line at the bottom."""
TITLE = 125
"""Characters of 10 pt that fit across a figure."""
_WHY = {
    "silent": "filters silent on all test images",
    "faint": "filters faint on all test images",
    "constant": "filters the same everywhere on all test images",
}


@style.styled
def draw_top_patches(
    table: pd.DataFrame,
    crops: np.ndarray,
    *,
    title: str,
    key: str,
    notes: Mapping[int, Sequence[str]],
    kernels: np.ndarray,
) -> Figure:
    """For each responding filter its number, its patches (three by three, best first), and its kernels left of them.

    Parts outside the image are hatched. Filters that do not respond are listed below.

    Args:
        table: from `top_patches`.
        crops: from `crop_patches`.
        title: of the figure.
        key: explains the notes and the kernels, at the bottom of the figure.
        notes: by filter, lines of text above its patches; the first is beside its number.
        kernels: (filters, n, k, k, 3) in 0..1, for all filters of the layer; a filter's n form a column.
    """
    shown = responding(table)
    filters = sorted(set(shown["filter"]))
    columns, side = _sizes(len(filters), kernels.shape[1])
    head = HEAD * max((len(lines) for lines in notes.values()), default=1)
    width, height = style.page_width() / columns, head + side + GAP
    below = [
        filter_rows.named(sorted(set(table.loc[table["state"] == state, "filter"])), why) for state, why in _WHY.items()
    ]
    foot = "\n".join(line for line in (key, *below) if line)
    edge = "" if crops[..., 3].all() else "; hatched is what lies outside the image"
    title = textwrap.fill(f"{title}{edge}", filter_rows.fitting(TITLE))
    foot = "\n".join(textwrap.fill(line, filter_rows.fitting(filter_rows.LINE)) for line in foot.splitlines())
    start = TOP + 0.17 * title.count("\n")
    bottom = start + math.ceil(len(filters) / columns) * height
    figure, ax = _canvas(bottom + FOOT * (foot.count("\n") + 1))
    ax.text(NARROW, start / 2, title, va="center", fontsize=10)
    ax.text(NARROW, bottom, foot, va="top", fontsize=8, color=style.QUIET)
    for place, filter in enumerate(filters):
        x, y = place % columns * width + GAP / 2, start + place // columns * height
        _write_head(ax, (x, y), width - GAP, str(filter), notes.get(filter, ()))
        each = side / kernels.shape[1]
        for down, kernel in enumerate(kernels[filter]):
            _draw_picture(ax, kernel, x, y + head + down * each, each - 0.03)
        _draw_patches(ax, crops[(shown["filter"] == filter).to_numpy()], x + each + NARROW, y + head, side)
    return figure


def _sizes(count: int, kernels: int) -> tuple[int, float]:
    """The number of filters side by side, and the side in inches of a filter's square of patches.

    The column of its kernels is as high as that square.
    """
    columns = 2 + (kernels > 1) if is_narrow() else (4, 5)[count > 24] + (kernels > 1)
    return columns, (style.page_width() / columns - GAP - NARROW) / (1 + 1 / kernels)


def _canvas(height: float) -> tuple[Figure, Axes]:
    """A figure with axes that cover it, in inches from the upper left corner."""
    figure = style.figure(style.page_width(), height)
    figure.set_layout_engine("none")
    # One set of axes for all pictures: hundreds would take seconds to lay out.
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, style.page_width()), ylim=(height, 0), autoscale_on=False)
    ax.set_axis_off()
    return figure, ax


def _write_head(ax: Axes, corner: tuple[float, float], room: float, number: str, notes: Sequence[str]) -> None:
    x, y = corner
    ax.text(x, y + HEAD / 2, number, va="center", fontsize=8, weight="bold")
    for line, text in enumerate(notes):
        indent = 0 if line else 0.08 + 0.075 * len(number)
        ax.text(x + indent, y + (line + 0.5) * HEAD, _fitting(text, room - indent), va="center", fontsize=8)


def _fitting(text: str, room: float) -> str:
    """As much of the text as fits into these inches."""
    if inches(text, 8) <= room:
        return text
    # By bisection: to measure a text takes a millisecond.
    most = bisect_right(range(1, width(text)), room, key=lambda characters: inches(without_end(text, characters), 8))
    return without_end(text, max(most, 1))


def _draw_patches(ax: Axes, crops: np.ndarray, x: float, y: float, side: float) -> None:
    step = side / 3
    for place, crop in enumerate(crops):
        row, column = divmod(place, 3)
        _draw_picture(ax, crop, x + column * step, y + row * step, step - 0.03)


def _draw_picture(ax: Axes, picture: np.ndarray, x: float, y: float, side: float) -> None:
    if picture.shape[-1] == 4 and not picture[..., 3].all():
        hatched: Any = {"facecolor": "#f4f4f4", "edgecolor": "#b0b0b0", "hatch": "//////", "linewidth": 0}
        ax.add_artist(Rectangle((x, y), side, side, zorder=-1, **hatched))
    ax.imshow(picture, extent=(x, x + side, y + side, y), interpolation="nearest", aspect="auto")
    ax.add_artist(Rectangle((x, y), side, side, fill=False, edgecolor="#999999", linewidth=0.4))
