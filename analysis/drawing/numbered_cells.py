"""Small arrays with their numbers written into their cells: rows of them, measured in inches.

Every cell is a square of one size, so that sizes can be compared and counted by eye.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.drawing import style

CELL = 0.35
"""Inches: five characters of the numbers' size fit."""
GAP, MARGIN, LINE, CHARACTER = 0.28, 0.1, 0.15, 0.064
"""Inches: between panels, around everything, a title's line, and a title's character."""


@dataclass(frozen=True)
class Outline:
    """A frame around some cells of a panel, its place and size counted in cells."""

    top: int
    left: int
    height: int
    width: int
    colour: str
    weight: float = 2.2
    """Of the line, points."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """An array (H, W), or an image (H, W, 3) of bytes, and how it is drawn."""

    values: np.ndarray
    title: str
    scale: style.Scale = ((0.0, 255.0), "gray")
    digits: int | None = 0
    """Decimals of the numbers that are written in; None writes none."""
    side: float = CELL
    """Of a cell, inches."""
    outlines: Sequence[Outline] = ()
    padding: int = 0
    """Rings of cells around the others that are not part of the image, and drawn so."""
    below: str = ""
    """A line under the panel."""
    bar: bool = False
    """Whether there is a colour bar under the panel."""

    @property
    def width(self) -> float:
        """Of the cells, inches."""
        return self.values.shape[1] * self.side

    @property
    def height(self) -> float:
        """Of the cells, inches."""
        return self.values.shape[0] * self.side

    @property
    def heading(self) -> str:
        """The title, broken into lines that are no wider than the panel and half a gap on each side."""
        return textwrap.fill(self.title, max(8, int((self.width + GAP) / CHARACTER)))


Item = Panel | str
"""A panel, or the sign between two of them."""


@style.styled
def draw_rows(rows: Sequence[Sequence[Item]], *, title: str) -> Figure:
    """The rows below each other, the panels of a row beside each other; of equally many panels, in columns.

    The panels' middles are at one height where there are signs between them, else their tops.
    """
    heights = [_height(row) for row in rows]
    widths = _widths(rows)
    width = max(sum(row) + GAP * (len(row) - 1) for row in widths) + 2 * MARGIN
    made = style.figure(width, sum(heights) + GAP + MARGIN)
    made.set_layout_engine("none")
    made.text(MARGIN / width, 1 - MARGIN / made.get_figheight(), title, va="top", fontsize=10, color=style.INK)
    top = MARGIN + GAP
    for row, height, columns in zip(rows, heights, widths, strict=True):
        _draw_row(made, row, top, columns)
        top += height
    return made


def axes_at(made: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place of the figure, all in inches from its left and its top."""
    across, down = made.get_size_inches()
    return made.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _lines(row: Sequence[Item]) -> int:
    return max(item.heading.count("\n") + 1 for item in row if isinstance(item, Panel))


def _height(row: Sequence[Item]) -> float:
    panels = [item for item in row if isinstance(item, Panel)]
    below = max(2 * LINE if panel.bar else LINE if panel.below else 0 for panel in panels)
    return LINE * (_lines(row) + 1) + max(panel.height for panel in panels) + below


def _widths(rows: Sequence[Sequence[Item]]) -> list[list[float]]:
    widths = [[item.width for item in row if isinstance(item, Panel)] for row in rows]
    if len({len(row) for row in widths}) > 1:
        return widths
    return [[max(column) for column in zip(*widths, strict=True)]] * len(rows)


def _draw_row(made: Figure, row: Sequence[Item], top: float, widths: Sequence[float]) -> None:
    across, down = made.get_size_inches()
    middle = top + LINE * _lines(row) + max(item.height for item in row if isinstance(item, Panel)) / 2
    left, columns = MARGIN, iter(widths)
    signs = any(isinstance(item, str) for item in row)
    for item in row:
        if isinstance(item, Panel):
            above = middle - item.height / 2 if signs else top + LINE * _lines(row)
            _draw_panel(axes_at(made, left, above, item.width, item.height), item)
            if item.bar:
                bar = axes_at(made, left, above + item.height + 0.06, item.width, 0.07)
                style.fill_colour_bar(bar, *item.scale, "", cax=bar, orientation="horizontal")
                bar.tick_params(labelsize=7, length=2, pad=1)
            left += next(columns) + GAP
        else:
            made.text((left - GAP / 2) / across, 1 - middle / down, item, ha="center", va="center", fontsize=13)


def _draw_panel(ax: Axes, panel: Panel) -> None:
    if panel.values.ndim == 3:
        style.picture(ax, panel.values)
    else:
        (low, high), cmap = panel.scale
        ax.imshow(panel.values, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, linewidth=0.5, color="#bbbbbb")
        if panel.digits is not None:
            _write(ax, panel, panel.digits)
    for frame in panel.outlines:
        ax.add_patch(_rectangle(frame))
    ax.set_title(panel.heading, fontsize=8, loc="left", pad=3)
    if panel.below:
        ax.set_xlabel(panel.below, fontsize=8, labelpad=3)


def _write(ax: Axes, panel: Panel, digits: int) -> None:
    limits, cmap = panel.scale
    shares = Normalize(*limits)(panel.values)
    rows, columns = panel.values.shape
    for (row, column), value in np.ndenumerate(panel.values):
        inside = panel.padding <= row < rows - panel.padding and panel.padding <= column < columns - panel.padding
        if not inside:
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=style.PAPER, edgecolor="#cccccc"))
        ink = style.ink_on(cmap, shares[row, column]) if inside else style.QUIET
        # Adding 0 makes 0 of -0.
        written = f"{round(float(value), digits) + 0:.{digits}f}".replace("-", "−")
        ax.text(column, row, written, ha="center", va="center", fontsize=7, color=ink)


def _rectangle(frame: Outline) -> Rectangle:
    corner = frame.left - 0.5, frame.top - 0.5
    shape: dict[str, Any] = {"fill": False, "clip_on": False, "zorder": 3}
    return Rectangle(corner, frame.width, frame.height, edgecolor=frame.colour, linewidth=frame.weight, **shape)
