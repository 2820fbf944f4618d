"""Draws rows of small arrays with the numbers text into the cells; sizes are in inches.

Cells are squares of equal size, so that array sizes can be compared and counted by eye.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.drawing import style
from analysis.drawing.screens import is_narrow

CELL = 0.35
"""Side of a cell in inches: room for five characters."""
GAP, MARGIN, LINE, CHARACTER = 0.28, 0.1, 0.15, 0.064
"""Inches: the gap between panels, the margin of the figure, and a line and a character of a title."""

LARGER = 1.4
"""How much larger cells are on a narrow screen at most, where they would leave much of it empty."""


@dataclass(frozen=True)
class Outline:
    """A frame around some cells of a panel; position and size are in cells."""

    top: int
    left: int
    height: int
    width: int
    colour: str
    weight: float = 2.2
    """Width of the line in points."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """An array (H, W), or an image (H, W, 3) of bytes, and how it is drawn."""

    values: np.ndarray
    title: str
    scale: style.Scale = ((0.0, 255.0), "gray")
    digits: int | None = 0
    """Decimals of the numbers in the cells; None draws no numbers."""
    side: float = CELL
    """Side of a cell in inches."""
    outlines: Sequence[Outline] = ()
    padding: int = 0
    """Width in cells of a border that is not part of the image, and is drawn in white."""
    below: str = ""
    """A line of text under the panel."""
    bar: bool = False
    """Whether there is a colour bar under the panel."""

    @property
    def width(self) -> float:
        """Width of all cells in inches."""
        return self.values.shape[1] * self.side

    @property
    def height(self) -> float:
        """Height of all cells in inches."""
        return self.values.shape[0] * self.side

    @property
    def heading(self) -> str:
        """The title, wrapped to the width of the panel plus half a gap on each side."""
        return textwrap.fill(self.title, max(8, int((self.width + GAP) / CHARACTER)))


Item = Panel | str
"""A panel, or the operator sign between two panels."""


@style.styled
def draw_rows(rows: Sequence[Sequence[Item]], *, title: str) -> Figure:
    """Rows of panels, one below the other; aligned in columns if all rows have equally many panels.

    The panels of a row are centred vertically if there are signs between them, else aligned at the top.
    """
    rows = _fitting(rows)
    heights = [_height(row) for row in rows]
    widths = _widths(rows)
    width = max(sum(row) + GAP * (len(row) - 1) for row in widths) + 2 * MARGIN
    if is_narrow():
        width = style.page_width()
        title = textwrap.fill(" ".join(title.split()), int((width - 2 * MARGIN) / (CHARACTER * 10 / 8)))
    above = LINE * 10 / 8 * title.count("\n")
    figure = style.figure(width, sum(heights) + GAP + MARGIN + above)
    figure.set_layout_engine("none")
    figure.text(MARGIN / width, 1 - MARGIN / figure.get_figheight(), title, va="top", fontsize=10, color=style.INK)
    top = MARGIN + GAP + above
    for row, height, columns in zip(rows, heights, widths, strict=True):
        _draw_row(figure, row, top, columns)
        top += height
    return figure


def _fitting(rows: Sequence[Sequence[Item]]) -> list[list[Item]]:
    """The rows, broken where a narrow screen ends and enlarged to its width; a sign stays behind its panel."""
    if not is_narrow():
        return [list(row) for row in rows]
    most = style.page_width() - 2 * MARGIN - GAP
    broken: list[list[Item]] = []
    for row in rows:
        left = math.inf
        for item in row:
            if isinstance(item, Panel):
                item = replace(item, side=min(item.side, most / item.values.shape[1]))
            needed = item.width + GAP if isinstance(item, Panel) else 0.0
            if left + needed > style.page_width() - 2 * MARGIN + GAP:
                broken.append([])
                left = 0.0
            broken[-1].append(item)
            left += needed
    widest = max(sum(item.width + GAP for item in row if isinstance(item, Panel)) for row in broken)
    larger = min(LARGER, max(1.0, most / widest))
    return [[replace(item, side=larger * item.side) if isinstance(item, Panel) else item for item in row]
            for row in broken]  # fmt: skip


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a position in the figure, in inches from its left and top edges."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _lines(row: Sequence[Item]) -> int:
    return max(item.heading.count("\n") + 1 for item in row if isinstance(item, Panel))


def _height(row: Sequence[Item]) -> float:
    panels = [item for item in row if isinstance(item, Panel)]
    below = max(2 * LINE if panel.bar else LINE if panel.below else 0 for panel in panels)
    return LINE * (_lines(row) + 1) + max(panel.height for panel in panels) + below


def _widths(rows: Sequence[Sequence[Item]]) -> list[list[float]]:
    widths = [[item.width for item in row if isinstance(item, Panel)] for row in rows]
    if is_narrow() or len({len(row) for row in widths}) > 1:
        return widths
    return [[max(column) for column in zip(*widths, strict=True)]] * len(rows)


def _draw_row(figure: Figure, row: Sequence[Item], top: float, widths: Sequence[float]) -> None:
    across, down = figure.get_size_inches()
    middle = top + LINE * _lines(row) + max(item.height for item in row if isinstance(item, Panel)) / 2
    left, columns = MARGIN, iter(widths)
    signs = any(isinstance(item, str) for item in row)
    for item in row:
        if isinstance(item, Panel):
            above = middle - item.height / 2 if signs else top + LINE * _lines(row)
            _draw_panel(axes_at(figure, left, above, item.width, item.height), item)
            if item.bar:
                # The number at its end, which may lie at the edge of a narrow screen, is wider than the margin.
                inset = 0.1 if is_narrow() else 0.0
                bar = axes_at(figure, left + inset, above + item.height + 0.06, item.width - 2 * inset, 0.07)
                style.fill_colour_bar(bar, *item.scale, "", cax=bar, orientation="horizontal")
                bar.tick_params(labelsize=8, length=2, pad=1)
            left += next(columns) + GAP
        else:
            figure.text((left - GAP / 2) / across, 1 - middle / down, item, ha="center", va="center", fontsize=13)


def _draw_panel(ax: Axes, panel: Panel) -> None:
    if panel.values.ndim == 3:
        style.picture(ax, panel.values)
    else:
        (low, high), cmap = panel.scale
        ax.imshow(panel.values, cmap=style.colour_map(cmap), vmin=low, vmax=high, interpolation="nearest")
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
        # Adding 0 turns -0 into 0.
        text = f"{round(float(value), digits) + 0:.{digits}f}".replace("-", "−")
        ax.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)


def _rectangle(frame: Outline) -> Rectangle:
    corner = frame.left - 0.5, frame.top - 0.5
    shape: dict[str, Any] = {"fill": False, "clip_on": False, "zorder": 3}
    return Rectangle(corner, frame.width, frame.height, edgecolor=frame.colour, linewidth=frame.weight, **shape)
