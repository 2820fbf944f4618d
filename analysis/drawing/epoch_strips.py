"""Maps over the epochs: which epochs are worth drawing, on which scale, and strips of them with a row per channel."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.drawing import maps, style
from analysis.drawing.screens import is_narrow
from analysis.drawing.tiles import BAR, GAP, LINE, MARGIN, UNDER, draw_bar, draw_bar_below, draw_tile, sheet

MOST_COLUMNS = 16
"""Most epochs side by side; further ones continue below. The report has 0, 2, …, 30."""
NARROW_COLUMNS = 4
"""The same on a narrow screen."""
NAMES = 0.95
"""Width in inches of the rows' names."""
LARGE, LARGEST, FEW = 1.1, 1.5, 4
"""Inches from map to map, at most; and for fewer epochs than `FEW`, which would leave the page empty."""
HIDING = 0.5
"""The first epoch is left out of the common limits if the later ones would use less than this share of them."""

ByEpoch = Mapping[int, np.ndarray]
"""Maps (…, H, W) by epoch."""


def common_scale(kind: str, by_epoch: ByEpoch) -> tuple[style.Scale, bool]:
    """One scale for the maps of all epochs, see `style.scale`; and whether the first epoch exceeds it.

    A network's first maps can be so large that on their scale all later ones would look empty.
    """
    later = sorted(by_epoch)[1:]
    whole = style.scale(kind, np.stack(list(by_epoch.values())))
    if not later:
        return whole, False
    values = np.stack([by_epoch[epoch] for epoch in later])
    trained = style.scale(kind, values)
    exceeds = bool(trained[0][1] < HIDING * whole[0][1]) and maps.flat_label(values, whole[0]) == ""
    return (trained if exceeds else whole), exceeds


def without_empty_end(by_epoch: ByEpoch, limits: style.Limits) -> tuple[list[int], int | None]:
    """The epochs to draw; and the first of those at the end at which nothing can be seen, if there are several.

    Of these, the first one stands for all. If nothing is seen after the first epoch, no epoch is worth drawing.
    """
    epochs = sorted(by_epoch)
    visible = [place for place, epoch in enumerate(epochs) if _visible(by_epoch[epoch], limits)]
    last = visible[-1] if visible else -1
    if last < 1 and len(epochs) > 1:
        return [], epochs[last + 1]
    empty = len(epochs) - 1 - last
    return (epochs[: last + 2], epochs[last + 1]) if empty > 1 else (epochs, None)


def _visible(values: np.ndarray, limits: style.Limits) -> bool:
    return maps.flat_label(values, limits) == "" and maps.faint_label(values, limits) == ""


def epoch_numbers(epochs: Sequence[int], empty_from: int | None, last: int) -> list[str]:
    """The number of each epoch as text: ``0``, ``2``, …, ``14 to 30`` where the first empty one stands for all."""
    return [f"{epoch} to {last}" if epoch == empty_from else str(epoch) for epoch in epochs]


@style.styled
def draw_strips(
    rows: Mapping[str, ByEpoch], titles: Mapping[int, str], scale: style.Scale, *, title: str, label: str
) -> Figure:
    """A row for each name in `rows`, a column for each epoch in `titles`, and one colour bar.

    Args:
        rows: the maps (H, W) by name and epoch.
        titles: the epochs to draw, with the titles of their columns, see `epoch_numbers`.
        scale: of all maps.
        title: of the figure.
        label: of the colour bar.
    """
    epochs = list(titles)
    blocks = math.ceil(len(epochs) / (NARROW_COLUMNS if is_narrow() else MOST_COLUMNS))
    columns = math.ceil(len(epochs) / blocks)
    # Beside the maps, or on a narrow screen below them.
    bar, below = (0.0, UNDER) if is_narrow() else (BAR, 0.0)
    step = min(LARGEST if columns < FEW else LARGE, (style.page_width() - 3 * MARGIN - NAMES - bar) / columns)
    deep = LINE + len(rows) * step
    figure, ax = sheet(3 * MARGIN + NAMES + columns * step + bar, blocks * deep + MARGIN + below, title)
    left = MARGIN + NAMES
    for block in range(blocks):
        shown, heads = epochs[block * columns : (block + 1) * columns], block * deep + LINE
        ax.text(left - 0.08, heads - 0.03, "epoch", ha="right", va="bottom", fontsize=8, color=style.INK)
        for down, (name, by_epoch) in enumerate(rows.items()):
            top = heads + down * step
            ax.text(left - 0.08, top + (step - GAP) / 2, name, ha="right", va="center", fontsize=8, color=style.INK)
            for across, epoch in enumerate(shown):
                heading = titles[epoch] if down == 0 else ""
                draw_tile(ax, by_epoch[epoch], left + across * step, top, step - GAP, scale, heading)
    if is_narrow():
        draw_bar_below(ax, left, blocks * deep + 0.03, columns * step - GAP, scale, label)
    else:
        draw_bar(ax, left + columns * step + 0.05, LINE, min(deep - LINE - GAP, 2.5), scale, label)
    return figure
