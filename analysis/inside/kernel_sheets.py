"""Sheets of all kernels of a layer: in colour, or slice by slice."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.filter_rows import MOST_DRAWN, cut, named
from analysis.drawing.maps import FAINT
from analysis.drawing.screens import is_narrow
from analysis.drawing.style import COLLAPSED, COLOURS, DOTS_PER_INCH
from analysis.drawing.tiles import LINE, MARGIN, beside, draw_bar, draw_picture, sheet
from analysis.drawing.wording import are, have, minus_signs
from analysis.exhibit import Exhibit

LEGEND = 0.8
"""Height in inches of the legend of colours on a narrow screen."""
NARROW_CHANNELS = 16
"""Most slices of a filter side by side on a narrow screen."""
TALLEST, PITCH = 6.5, 0.16
"""Inches: the most height of a mosaic, and the least distance of the numbers along it."""


def show_sheet(weights: np.ndarray, layer: str, epoch: int) -> Exhibit:
    """All kernels (filters, 3, k, k) of a layer whose inputs are colours."""
    table = layer_weights(weights)
    figure = draw_kernel_sheet(table, title=f"Kernels of {layer} at epoch {epoch}")
    heading, text = f"All kernels of {layer} in colour", sheet_caption(table, layer, epoch)
    return _of_layer(layer, heading, text, table, figure, SHEET_NOTE)


def show_mosaic(weights: np.ndarray, layer: str, epoch: int) -> Exhibit:
    """All kernels (filters, channels, k, k) of a layer."""
    table = layer_weights(weights[:MOST_DRAWN, :MOST_DRAWN])
    figure = draw_kernel_mosaic(table, title=f"Kernels of {layer} at epoch {epoch}")
    left_out = cut(*weights.shape[:2])
    heading = f"{'Kernels' if left_out else 'All kernels'} of {layer}"
    text = mosaic_caption(layer_weights(weights), layer, epoch)
    return _of_layer(layer, heading, text, table, figure, f"{left_out} {MOSAIC_NOTE}".strip())


def are_coloured(weights: np.ndarray) -> bool:
    """Whether the inputs of a layer's kernels (filters, channels, k, k) are colours, and `show_sheet` can draw them."""
    return weights.shape[1] == len(COLOURS)


def _of_layer(layer: str, heading: str, text: str, table: pd.DataFrame, figure: Figure | None, note: str) -> Exhibit:
    """The exhibit of a layer's kernels; without a picture if all of them collapsed."""
    name = f"kernels_{layer}"
    if figure is None:
        return Exhibit(name, heading, text, tables={name: table})
    return Exhibit(name, heading, text, table, figure, note=note)


def layer_weights(weights: np.ndarray) -> pd.DataFrame:
    """All weights (filters, channels, k, k) of a layer as a tidy table: filter, channel, row, column, weight."""
    places = np.indices(weights.shape).reshape(4, -1)
    names = ("filter", "channel", "row", "column")
    return pd.DataFrame({**dict(zip(names, places, strict=True)), "weight": weights.ravel()})


def _weights(table: pd.DataFrame) -> np.ndarray:
    shape = [int(table[name].max()) + 1 for name in ("filter", "channel", "row", "column")]
    return table["weight"].to_numpy(float).reshape(shape)


def _colours(table: pd.DataFrame) -> np.ndarray:
    """The weights of a layer whose inputs are colours.

    Raises:
        ValueError: for a layer without exactly three input channels.
    """
    weights = _weights(table)
    if weights.shape[1] != len(COLOURS):
        raise ValueError(f"{weights.shape[1]} input channels are no picture: red, green and blue are needed.")
    return weights


def sheet_caption(table: pd.DataFrame, layer: str, epoch: int) -> str:
    """One sentence: how many kernels weigh colours differently, how many collapsed, and the norms.

    Raises:
        ValueError: for a layer without exactly three input channels.
    """
    weights = _colours(table)
    norms = np.linalg.norm(weights.reshape(len(weights), -1), axis=1)
    alive = style.alive(weights)
    # The part that is equal for all three colours, as a share of the squared norm.
    grey = 3 * (weights[alive].mean(axis=1) ** 2).sum(axis=(1, 2)) / norms[alive] ** 2
    greys, coloured, collapsed = (int(of.sum()) for of in (grey > 0.5, grey <= 0.5, ~alive))
    return (
        f"At epoch {epoch}, {greys} of the {len(weights)} kernels of {layer} {are(greys)} mostly grey, "
        f"{coloured} {'weighs' if coloured == 1 else 'weigh'} the colours differently and {collapsed} "
        f"{have(collapsed)} collapsed, with norms from "
        f"{norms.min():.2g} (filter {norms.argmin()}) to {norms.max():.2g} (filter {norms.argmax()})."
    )


BEYOND = (
    f"The colours end at the {style.MOST}th percentile of the weights drawn; larger weights have the colour of the end."
)
SHEET_NOTE = (
    "Mostly grey: more than half of a kernel's squared norm is common to the three colours. Collapsed: no weight of "
    f"{COLLAPSED:g} or more. {BEYOND}"
)


@style.styled
def draw_kernel_sheet(table: pd.DataFrame, *, title: str) -> Figure | None:
    """The kernels of a layer whose inputs are colours as RGB pictures, on one scale: mid-grey is zero.

    Kernels that collapsed are named instead; None if all did.

    Args:
        table: from `layer_weights`.
        title: of the figure.

    Raises:
        ValueError: for a layer without exactly three input channels.
    """
    weights = _colours(table)
    living = np.flatnonzero(style.alive(weights))
    if not len(living):
        return None
    limits = style.limits_of_most(weights)
    columns = min(len(living), 5 if is_narrow() else 8 if len(living) <= 32 else 16)
    rows = math.ceil(len(living) / columns)
    dots = 80 if is_narrow() else 60 if columns > 8 else 140
    # As many dots for each weight.
    side = max(1, dots // weights.shape[-1]) * weights.shape[-1] / DOTS_PER_INCH
    across, down = side + 0.12, side + 0.26
    below = 0.2 + rows * down
    if is_narrow():
        left, top, height, width = MARGIN, below + 0.15, LEGEND, style.page_width()
        below += LEGEND + 0.75
    else:
        below = max(below, 2)
        left, top, height, width = 0.35 + columns * across, 0.2, min(1.6, below - 0.9), columns * across + 1.5
    names = named(np.flatnonzero(~style.alive(weights)).tolist(), "collapsed")
    figure, ax = sheet(
        max(width, style.page_width() if names else 0), below + LINE * names.count("\n") + 0.3 * bool(names), title
    )
    for place, number in enumerate(living):
        row, column = divmod(place, columns)
        draw_picture(ax, rgb(weights[number], limits), MARGIN + column * across, 0.2 + row * down, side, str(number))
    _draw_legend(ax, left, top, height, limits)
    ax.text(MARGIN, below, names, va="top", fontsize=8, color=style.INK)
    return figure


def rgb(kernel: np.ndarray, limits: style.Limits) -> np.ndarray:
    """A kernel (3, k, k) as an RGB picture (k, k, 3) of bytes: `limits` map to 0 and 255, so zero is mid-grey."""
    low, high = limits
    shares = np.nan_to_num((kernel - low) / (high - low), nan=0.5)
    return np.rint(255 * shares.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)


def _draw_legend(within: Axes, left: float, top: float, height: float, limits: style.Limits) -> None:
    """Draws the legend: the colour of a weight for one channel alone, from the lower to the upper limit."""
    ramp, bars = np.linspace(*limits, 101), []
    for place, name in enumerate(COLOURS):
        alone = np.zeros((3, len(ramp), 1))
        alone[place, :, 0] = ramp
        ax = beside(within, left + 0.22 * place, top, 0.18, height)
        ax.imshow(rgb(alone, limits), aspect="auto", origin="lower", extent=(0, 1, *limits))
        ax.set(xticks=[], yticks=[], title=name[0].upper())
        ax.spines[:].set_visible(False)
        bars.append(ax)
    within.text(left, top + height + 0.06, "weight for one\ncolour alone", va="top", fontsize=8, color=style.INK)
    bars[-1].yaxis.tick_right()
    bars[-1].set_yticks([limits[0], 0, limits[1]], [f"−{limits[1]:.2g}", "0", f"+{limits[1]:.2g}"])


def mosaic_caption(table: pd.DataFrame, layer: str, epoch: int) -> str:
    """One sentence: how many filters collapsed, and the range of the weights."""
    weights = _weights(table)
    collapsed, faint = (len(filters) for filters in unseen(weights).values())
    low, high = (minus_signs(f"{value:.2g}") for value in (weights.min(), weights.max()))
    return (
        f"At epoch {epoch}, {collapsed} of the {len(weights)} filters of {layer} {have(collapsed)} collapsed and "
        f"{faint} more {are(faint)} too faint to see; its {weights.size:,} weights go from {low} to {high}."
    )


MOSAIC_NOTE = (
    f"A filter that collapsed has no weight of {COLLAPSED:g} or more, and one that is too faint none of 1/{FAINT} of "
    f"the scale's end; they are named instead of drawn. {BEYOND}"
)


def unseen(weights: np.ndarray) -> dict[str, list[int]]:
    """The filters that collapsed, and those of the others that are too faint to see on the common scale."""
    alive = style.alive(weights)
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    faint = alive & (largest < style.limits_of_most(weights)[1] / FAINT)
    return {"collapsed": np.flatnonzero(~alive).tolist(), "too faint to see": np.flatnonzero(faint).tolist()}


@style.styled
def draw_kernel_mosaic(table: pd.DataFrame, *, title: str) -> Figure | None:
    """Every weight of a layer's filters that can be seen: a slice for each filter and input channel, on one scale.

    The filters are the columns, or the rows where that leaves more room for each weight. None if there is none.

    Args:
        table: from `layer_weights`.
        title: of the figure.
    """
    weights = _weights(table)
    limits, left_out = style.limits_of_most(weights), unseen(weights)
    living = [number for number in range(len(weights)) if not any(number in part for part in left_out.values())]
    names = "\n".join(named(part, why) for why, part in left_out.items() if part)
    if not living:
        return None
    axes = {"filter": living, "input channel": list(range(weights.shape[1]))}
    slices, lines = weights[living].swapaxes(0, 1), 1
    if is_narrow():
        lines = math.ceil(weights.shape[1] / NARROW_CHANNELS)
        axes, slices = {_channels(weights.shape[1]): [], "filter": living}, _in_lines(weights[living], lines)
    elif _side(len(slices), len(living)) < _side(len(living), len(slices)):
        axes, slices = dict(reversed(axes.items())), slices.swapaxes(0, 1)
    picture, step = _framed(slices), lines * (weights.shape[-1] + 1)
    side = _side(*picture.shape)
    height, width = (length * side for length in picture.shape)
    below = max(height, 1.2) + 0.5
    across = style.page_width() if is_narrow() else width + 1.8
    figure, within = sheet(across, below + LINE * (names.count("\n") + 1) * bool(names), title)
    ax = beside(within, 0.65, 0, width, height)
    ax.imshow(picture, cmap=style.DIVERGING, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    ax.set_facecolor("#c8c8c8")
    # Every number is written, or every second, third, … where they would touch.
    every = math.ceil(PITCH / (step * side))
    for axis, (name, numbers) in zip((ax.xaxis, ax.yaxis), axes.items(), strict=True):
        places = [place * step + (step - 2) / 2 for place in range(len(numbers))]
        axis.set_ticks(places[::every], [str(number) for number in numbers[::every]])
        axis.set_label_text(name)
    ax.tick_params(length=2)
    draw_bar(
        within,
        0.65 + width + 0.1,
        0,
        min(max(height, 1.2), TALLEST / 2 if is_narrow() else TALLEST),
        (limits, style.DIVERGING),
        "weight",
        "both",
    )
    within.text(MARGIN, below, names, va="top", fontsize=8, color=style.INK)
    return figure


def _side(down: int, across: int) -> float:
    """The most inches for the side of each value of a picture within the size of a figure: a whole number of dots.

    On a narrow screen a picture may be of any height.
    """
    fits = (style.page_width() - 1.5) / across if is_narrow() else min((style.WIDTH - 1.8) / across, TALLEST / down)
    return max(1, int(fits * DOTS_PER_INCH)) / DOTS_PER_INCH


def _channels(count: int) -> str:
    """Which input channels a row of a filter's slices shows, on a narrow screen."""
    rows = [f"{first}–{min(first + NARROW_CHANNELS, count) - 1}" for first in range(0, count, NARROW_CHANNELS)]
    return f"input channels {', then '.join(rows)}" if len(rows) < 4 else f"{NARROW_CHANNELS} input channels in a row"


def _in_lines(slices: np.ndarray, lines: int) -> np.ndarray:
    """Slices (filters, channels, k, k) as rows of `NARROW_CHANNELS`, `lines` of them for each filter."""
    filters, channels, *size = slices.shape
    columns = min(channels, NARROW_CHANNELS)
    padded = np.full((filters, lines * columns, *size), np.nan)
    padded[:, :channels] = slices
    return padded.reshape(filters * lines, columns, *size)


def _framed(slices: np.ndarray) -> np.ndarray:
    """Slices (rows, columns, k, k) as one masked picture, with a masked line between neighbours."""
    rows, columns, size, _ = slices.shape
    framed = np.full((rows, size + 1, columns, size + 1), np.nan)
    framed[:, :size, :, :size] = slices.transpose(0, 2, 1, 3)
    return np.ma.masked_invalid(framed.reshape(rows * (size + 1), columns * (size + 1))[:-1, :-1])
