"""Figures for narrow screens: drawn again with their panels stacked instead of side by side.

A drawing function asks `style.page_width` how wide it may be, and `panels` for its panels; that is all that it takes.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.drawing import style

LEAST_SHRINK = 0.7
"""A stacked panel is at least this share as high as it is beside others, although it is narrower."""
BESIDE, BESIDE_AXIS = 0.6, 1.3
"""Inches beside a line of text: of tick labels or a legend's handle, and beside the label of a horizontal axis."""


def is_narrow() -> bool:
    """Whether a figure is drawn for a narrow screen."""
    return style.page_width() < style.WIDTH


def break_if_narrow() -> str:
    """What stands between two words of a long label: a line break on a narrow screen, else a space."""
    return "\n" if is_narrow() else " "


def narrow_version(figure: Figure) -> Figure | None:
    """The figure drawn again for a narrow screen; None if it is narrow already, or its drawing does not become so."""
    redraw = getattr(figure, "redraw", None)
    if redraw is None or figure.get_figwidth() <= style.NARROW:
        return None
    with style.style(), style.narrow_page():
        again = redraw()
        if again is None or again.get_figwidth() > style.NARROW + 0.01:
            return None
        if isinstance(again.get_layout_engine(), ConstrainedLayoutEngine):
            _wrap_texts(again)
        return again


def _wrap_texts(figure: Figure) -> None:
    """Breaks lines that would not fit beside the ticks."""
    labels = {ax.xaxis.label for ax in figure.axes}
    for text in figure.findobj(Text):
        inches = figure.get_figwidth() - (BESIDE_AXIS if text in labels else BESIDE)
        letters = int(inches / (0.52 * float(text.get_fontsize()) / 72))
        if text.get_rotation() == 0 and max(map(len, text.get_text().splitlines()), default=0) > letters:
            text.set_text("\n".join(textwrap.fill(line, letters) for line in text.get_text().splitlines()))


def label_counts(axis: Axis) -> None:
    """Labels a logarithmic axis of counts as 1,000 and 20,000; on a narrow screen by powers of ten alone."""
    axis.set_major_locator(LogLocator(subs=(1,) if is_narrow() else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def panels(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    compress: bool = False,
    shrink: bool = True,
    by_row: bool = False,
    height_ratios: Sequence[float] | None = None,
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """A figure of rows × columns panels, and its axes in that shape; on a narrow screen each has a row of its own.

    Args:
        width: of the figure in inches.
        height: of the figure in inches, with the panels side by side.
        rows: how many panels are one below the other.
        columns: how many are side by side.
        compress: see `style.figure`.
        by_row: whether they are stacked row by row, not column by column.
        shrink: whether stacked panels are less high than panels side by side, as they are less wide.
        height_ratios: of the rows.
        options: of `Figure.subplots`.
    """
    page = style.page_width()
    if width <= page or columns == 1:
        figure = style.figure(min(width, page), height, compress=compress)
        ratios = height_ratios or [1] * rows
        return figure, figure.subplots(rows, columns, squeeze=False, height_ratios=ratios, **options)
    higher = columns * (max(LEAST_SHRINK, min(1, page / (width / columns))) if shrink else 1)
    figure = style.figure(page, height * higher, compress=compress)
    ratios = [*(height_ratios or [1] * rows)] * columns
    options = {name: value for name, value in options.items() if name != "width_ratios"}
    stacked = figure.subplots(rows * columns, 1, squeeze=False, height_ratios=ratios, **options)
    axes = stacked.reshape(rows, columns) if by_row else stacked.reshape(columns, rows).T
    for ax in axes[-1]:
        ax.tick_params(labelbottom=True)
    return figure, axes


def label_first(axes: Sequence[Axes] | np.ndarray, label: str) -> None:
    """Labels the vertical axis of the first panel of a row, or of each where they are stacked."""
    for ax in axes if is_narrow() else axes[:1]:
        ax.set_ylabel(label)


def entries_in_row(count: int, most: int = 1) -> int:
    """How many entries a legend has in a row: all of them, or on a narrow screen at most `most`."""
    return min(count, most) if is_narrow() else count
