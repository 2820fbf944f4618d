"""Strips of maps over the epochs, one row per layer or channel: the layout of kernels and activations."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from analysis.drawing import style

MOST_COLUMNS = 16
"""Most epochs side by side; further ones continue below. The report has 0, 2, …, 30."""
Maps = dict[tuple[str, int], np.ndarray]
"""Maps (H, W) by row and epoch."""


@style.styled
def draw_strips(
    maps: Maps,
    scales: dict[str, style.Scale],
    *,
    title: str,
    labels: Mapping[str, str],
    image: np.ndarray | None = None,
) -> Figure:
    """A row for each name in `scales`, a column for each epoch; adjacent rows of one scale share a colour bar.

    Args:
        maps: a map (H, W) for every row and epoch, see `Maps`.
        scales: the rows from top to bottom, each with the colour limits and the colour map of its maps.
        title: of the figure.
        labels: by row, the label of its colour bar.
        image: (H, W, 3), bytes; drawn left of the first rows.
    """
    epochs = sorted({epoch for _, epoch in maps})
    blocks = math.ceil(len(epochs) / MOST_COLUMNS)
    columns = math.ceil(len(epochs) / blocks)
    # The layout removes what a square panel leaves of its cell, so the image is two panels wide and two high.
    lead = [] if image is None else [float(min(2, len(scales)))]
    heights = (([1.0] * len(scales) + [0.3]) * blocks)[:-1]
    widths = lead + [1.0] * columns + [0.16]
    side = min(1.1, (style.WIDTH - 1.3) / sum(widths))
    figure = style.figure(max(4.5, 1.3 + side * sum(widths)), 0.5 + (side + 0.03) * sum(heights), compress=True)
    grid = figure.add_gridspec(len(heights), len(widths), height_ratios=heights, width_ratios=widths)
    for block in range(blocks):
        shown = epochs[block * columns : (block + 1) * columns]
        _draw_block(figure, grid, (block * (len(scales) + 1), len(lead)), shown, maps, scales, labels)
    if image is not None:
        ax = figure.add_subplot(grid[: min(2, len(scales)), 0])
        style.picture(ax, image)
        ax.set_title("image", fontsize=8, loc="center", pad=3)
    style.head(figure, title)
    return figure


def _draw_block(
    figure: Figure,
    grid: GridSpec,
    corner: tuple[int, int],
    epochs: Sequence[int],
    maps: Maps,
    scales: dict[str, style.Scale],
    labels: Mapping[str, str],
) -> None:
    top, left = corner
    for down, (name, (limits, cmap)) in enumerate(scales.items()):
        for across, epoch in enumerate(epochs):
            ax = figure.add_subplot(grid[top + down, left + across])
            style.panel(ax, maps[name, epoch], limits, cmap)
            if down == 0:
                ax.set_title(f"{'' if across else 'epoch '}{epoch}", fontsize=8, loc="center", pad=3)
            if across == 0:
                ax.set_ylabel(name.replace(" (", "\n("), rotation=0, ha="right", va="center")
    shared = [(scale, labels[name]) for name, scale in scales.items()]
    for ((limits, cmap), label), run in groupby(range(len(scales)), key=shared.__getitem__):
        rows = list(run)
        ax = figure.add_subplot(grid[top + rows[0] : top + rows[-1] + 1, -1])
        style.fill_colour_bar(ax, limits, cmap, label, cax=ax)
