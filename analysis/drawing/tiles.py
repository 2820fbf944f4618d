"""Draws many maps as tiles of one Axes, placed in inches.

Axes of their own for 64 maps take ten times as long to lay out and to draw.
"""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from analysis.drawing import maps, style

MARGIN, GAP, LINE, BAR, UNDER = 0.1, 0.05, 0.17, 0.75, 0.55
"""Inches: the margin of a sheet, the gap between tiles, a line of 8 pt, and a colour bar with its numbers, upright or
below."""
CHARACTER = 0.066
"""Width in inches of a character of 8 pt."""
NARROWEST = 5.0
"""Least width of a sheet in inches, for its title."""


class Tile(NamedTuple):
    """A drawn map: its picture, and the label over it, which may be empty."""

    image: AxesImage
    label: Text


def sheet(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure, and Axes over all of it, in inches from its left edge and from below its title.

    The title is wrapped, and the figure is higher than `height` by its lines.
    """
    width = max(width, min(NARROWEST, style.page_width()))
    lines = textwrap.wrap(title, int((width - 2 * MARGIN) / (CHARACTER * 10 / 8)))
    above = 2 * MARGIN + 0.18 * len(lines)
    figure = style.figure(width, above + height)
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, -above))
    ax.set_axis_off()
    ax.text(MARGIN, MARGIN - above, "\n".join(lines), va="top", fontsize=10, color=style.INK)
    return figure, ax


def beside(ax: Axes, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place of the sheet `ax`, in its inches: for a colour bar or a curve."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    across, down = figure.get_size_inches()
    bottom = float(ax.get_ylim()[0])
    return figure.add_axes((left / across, (bottom - top - height) / down, width / across, height / down))


def draw_tile(
    ax: Axes, values: np.ndarray, left: float, top: float, side: float, scale: style.Scale, title: str = ""
) -> Tile:
    """Draws a map (H, W) as a square; see `maps.drawn` for a constant, a faint and a non-finite one."""
    (low, high), cmap = scale
    shown, label, ink = maps.drawn(values, *scale)
    # A square, whatever the shape of the map: the extent is of the picture's outer edges.
    extent = (left, left + side, top + side, top)
    image = ax.imshow(
        shown, cmap=style.colour_map(cmap), vmin=low, vmax=high, interpolation="nearest", extent=extent, aspect="auto"
    )
    _frame(ax, left, top, side, title)
    text = ax.text(
        left + side / 2, top + side / 2, label, ha="center", va="center", fontsize=8, linespacing=1, color=ink
    )
    return Tile(image, text)


def set_map(tile: Tile, values: np.ndarray, scale: style.Scale) -> None:
    """Puts another map of the same scale into a tile."""
    shown, label, ink = maps.drawn(values, *scale)
    tile.image.set_data(shown)
    tile.label.set(text=label, color=ink)


def mark(tile: Tile, label: str) -> None:
    """Writes a label over a map in which there is something to see."""
    tile.label.set(
        text=label, color=style.INK, bbox={"facecolor": style.PAPER, "alpha": 0.85, "pad": 1.5, "linewidth": 0}
    )


def draw_picture(ax: Axes, image: np.ndarray, left: float, top: float, side: float, title: str = "") -> None:
    """Draws an image (H, W, 3) of bytes as a square."""
    ax.imshow(image, interpolation="nearest", extent=(left, left + side, top + side, top), aspect="auto")
    _frame(ax, left, top, side, title)


def _frame(ax: Axes, left: float, top: float, side: float, title: str) -> None:
    # No `add_patch`: the limits are fixed, and to update them for thousands of frames takes seconds.
    ax.add_artist(Rectangle((left, top), side, side, facecolor="none", edgecolor="#bbbbbb", linewidth=0.5))
    ax.text(left, top - 0.03, title, va="bottom", fontsize=8, color=style.INK)


def draw_bar(
    ax: Axes, left: float, top: float, height: float, scale: style.Scale, label: str, extend: str = "neither"
) -> None:
    """Draws an upright colour bar, `BAR` wide with its numbers and its label."""
    bar = beside(ax, left, top, 0.12, height)
    style.fill_colour_bar(
        bar, *scale, label, cax=bar, extend=extend, extendfrac=min(0.1, 0.12 / height), extendrect=False
    )


def draw_bar_below(ax: Axes, left: float, top: float, width: float, scale: style.Scale, label: str) -> None:
    """Draws a horizontal colour bar, `UNDER` high with its numbers and its label."""
    bar = beside(ax, left, top, width, 0.12)
    style.fill_colour_bar(bar, *scale, label, cax=bar, orientation="horizontal")
