"""One filter's kernel over the epochs (the report's Figure 9), and sheets of all kernels of a layer."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.epoch_strips import draw_strips
from analysis.drawing.numbered_cells import axes_at
from analysis.drawing.style import COLLAPSED, COLOURS
from analysis.drawing.wording import with_minus
from analysis.exhibit import Exhibit

MOST_CHANNELS = 4
"""Most input channels shown of a layer that has more than three."""
FAINT = 20
"""A weight below 1/`FAINT` of the layer's largest cannot be seen."""
DOTS = 150
"""Dots per inch: in figures saved at this resolution each weight takes a whole number of dots."""


def show_evolution(weights: dict[int, np.ndarray], layer: str, filter: int) -> Exhibit:
    """The kernel of one filter of `layer` over the epochs; `weights` as in `kernel_evolution`."""
    table = kernel_evolution(weights, filter)
    figure = draw_kernel_evolution(table, layer=layer, filter=filter)
    heading = f"How a kernel of {layer} forms" + (" (Figure 9)" if layer == "conv1" else "")
    text, about = caption(table, layer, filter), note(table, weights[max(weights)].shape[1])
    return Exhibit(f"kernel_{layer}_filter{filter}", heading, text, table, figure, note=about)


def show_sheet(weights: np.ndarray, layer: str, epoch: int) -> Exhibit:
    """All kernels (filters, 3, k, k) of a layer whose inputs are colours."""
    table = layer_weights(weights)
    figure = draw_kernel_sheet(table, title=f"All kernels of {layer} at epoch {epoch}")
    heading, text = f"All kernels of {layer} in colour", sheet_caption(table, layer, epoch)
    return Exhibit(f"kernels_{layer}", heading, text, table, figure, note=SHEET_NOTE)


def show_mosaic(weights: np.ndarray, layer: str, epoch: int) -> Exhibit:
    """All kernels (filters, channels, k, k) of a layer."""
    table = layer_weights(weights)
    figure = draw_kernel_mosaic(table, title=f"All kernels of {layer} at epoch {epoch}")
    heading, text = f"All kernels of {layer}", mosaic_caption(table, layer, epoch)
    return Exhibit(f"kernels_{layer}", heading, text, table, figure, note=MOSAIC_NOTE)


def kernel_evolution(
    weights: dict[int, np.ndarray], filter: int, channels: Sequence[int] | None = None
) -> pd.DataFrame:
    """The kernel of one filter at every epoch: epoch, channel, row, column, weight.

    Args:
        weights: a layer's weights (filters, channels, k, k) by epoch.
        filter: which filter.
        channels: which input channels; by default all if there are up to three, else the `MOST_CHANNELS` whose slices
            have the largest norm at the last epoch, in ascending order.

    Raises:
        IndexError: for a filter or a channel that the layer does not have.
    """
    epochs = sorted(weights)
    if channels is None:
        channels = _strongest(weights[epochs[-1]][filter])
    kernels = np.stack([weights[epoch][filter][list(channels)] for epoch in epochs])
    places = np.indices(kernels.shape).reshape(4, -1)
    return pd.DataFrame(
        {
            "epoch": np.array(epochs)[places[0]],
            "channel": np.array(channels)[places[1]],
            "row": places[2],
            "column": places[3],
            "weight": kernels.ravel(),
        }
    )


def _strongest(kernel: np.ndarray) -> list[int]:
    """The channels of a kernel (channels, k, k) with the largest norms; all if there are up to three."""
    if len(kernel) <= len(COLOURS):
        return list(range(len(kernel)))
    norms = np.linalg.norm(kernel.reshape(len(kernel), -1).astype(np.float64), axis=1)
    return sorted(int(channel) for channel in np.argsort(-norms, kind="stable")[:MOST_CHANNELS])


def caption(table: pd.DataFrame, layer: str, filter: int) -> str:
    """One sentence: the norm of the shown weights at the first and the last epoch, and their cosine."""
    epochs = sorted(table["epoch"].unique())
    first, last = (table.loc[table["epoch"] == epoch, "weight"].to_numpy(float) for epoch in (epochs[0], epochs[-1]))
    before, after = np.linalg.norm(first), np.linalg.norm(last)
    text = f"Filter {filter} of {layer}: the norm of the weights shown is {before:.3g} at epoch {epochs[0]}"
    if len(epochs) == 1:
        return f"{text}."
    # A kernel of zeros has no direction, and that of one of 1e-40 is rounding error.
    cosine = f"{first @ last / (before * after):.2f}" if min(before, after) > 1e-30 else "undefined"
    return f"{text} and {after:.3g} at epoch {epochs[-1]}; the cosine between the two is {with_minus(cosine)}."


def channel_names(layer: str, channels: Sequence[int]) -> list[str]:
    """The names of input channels: colours in the first layer, else the filters of the layer before."""
    if layer == "conv1" and max(channels) < len(COLOURS):
        return [COLOURS[channel] for channel in channels]
    return [f"from filter {channel}\nof conv1" for channel in channels]


def note(table: pd.DataFrame, inputs: int) -> str:
    """Which of a layer's `inputs` are shown; empty if all are."""
    shown = table["channel"].nunique()
    if shown == inputs:
        return ""
    return f"Shown are the {shown} of {inputs} input channels that the filter weighs most at the last epoch."


def _kernel(part: pd.DataFrame) -> np.ndarray:
    return part.pivot(index="row", columns="column", values="weight").to_numpy(float)


def draw_kernel_evolution(table: pd.DataFrame, *, layer: str, filter: int) -> Figure:
    """A row for each channel, a column for each epoch; one scale for all, with white at zero."""
    channels = sorted(table["channel"].unique())
    names = channel_names(layer, channels)
    limits = style.limits_around_zero(table["weight"].to_numpy(float))
    maps = {
        (name, epoch): _kernel(table[(table["epoch"] == epoch) & (table["channel"] == channel)])
        for channel, name in zip(channels, names, strict=True)
        for epoch in table["epoch"].unique().tolist()
    }
    scales = dict.fromkeys(names, (limits, style.DIVERGING))
    return draw_strips(maps, scales, title=f"Kernel of {layer}, filter {filter}", labels=dict.fromkeys(names, "weight"))


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
    alive = np.abs(weights).max(axis=(1, 2, 3)) >= COLLAPSED
    # The part that is equal for all three colours, as a share of the squared norm.
    grey = 3 * (weights[alive].mean(axis=1) ** 2).sum(axis=(1, 2)) / norms[alive] ** 2
    return (
        f"At epoch {epoch}, {(grey > 0.5).sum()} of the {len(weights)} kernels of {layer} are mostly grey, "
        f"{(grey <= 0.5).sum()} weigh the colours differently and {(~alive).sum()} have collapsed, with norms from "
        f"{norms.min():.2g} (filter {norms.argmin()}) to {norms.max():.2g} (filter {norms.argmax()})."
    )


SHEET_NOTE = (
    "Mostly grey: more than half of a kernel's squared norm is common to the three colours. Collapsed: no weight of "
    f"{COLLAPSED:g} or more."
)


@style.styled
def draw_kernel_sheet(table: pd.DataFrame, *, title: str) -> Figure:
    """Every kernel of a layer whose inputs are colours as an RGB picture, on one scale: mid-grey is zero.

    Args:
        table: from `layer_weights`.
        title: of the figure.

    Raises:
        ValueError: for a layer without exactly three input channels.
    """
    weights = _colours(table)
    limits = style.limits_around_zero(weights)
    count, size = len(weights), weights.shape[-1]
    columns = min(count, 8 if count <= 32 else 16)
    rows = math.ceil(count / columns)
    side = size * (140 if columns <= 8 else 60) // size / DOTS
    figure = style.figure(columns * (side + 0.12) + 1.5, max(rows * (side + 0.25) + 0.5, 2.8))
    figure.set_layout_engine("none")
    for number, kernel in enumerate(weights):
        down, across = divmod(number, columns)
        ax = axes_at(figure, 0.1 + across * (side + 0.12), 0.5 + down * (side + 0.25), side, side)
        style.picture(ax, rgb(kernel, limits))
        ax.set_title(str(number), fontsize=7, loc="left", pad=2)
        label = style.flat_label(kernel, limits) or style.faint_label(kernel, limits)
        ax.text(0.5, 0.5, label, transform=ax.transAxes, ha="center", va="center", fontsize=7, color=style.INK)
    _draw_legend(figure, 0.35 + columns * (side + 0.12), limits)
    style.head(figure, title)
    return figure


def rgb(kernel: np.ndarray, limits: style.Limits) -> np.ndarray:
    """A kernel (3, k, k) as an RGB picture (k, k, 3) of bytes: `limits` map to 0 and 255, so zero is mid-grey."""
    low, high = limits
    shares = np.nan_to_num((kernel - low) / (high - low), nan=0.5)
    return np.rint(255 * shares.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)


def _draw_legend(figure: Figure, left: float, limits: style.Limits) -> None:
    """Draws the legend: the colour of a weight for one channel alone, from the lower to the upper limit."""
    ramp, bars = np.linspace(*limits, 101), []
    for place, name in enumerate(COLOURS):
        alone = np.zeros((3, len(ramp), 1))
        alone[place, :, 0] = ramp
        ax = axes_at(figure, left + 0.22 * place, 0.75, 0.18, 1.6)
        ax.imshow(rgb(alone, limits), aspect="auto", origin="lower", extent=(0, 1, *limits))
        ax.set(xticks=[], yticks=[], title=name[0].upper())
        ax.spines[:].set_visible(False)
        bars.append(ax)
    bars[0].text(0, -0.06, "weight for one\ncolour alone", transform=bars[0].transAxes, va="top", fontsize=8)
    bars[-1].yaxis.tick_right()
    bars[-1].set_yticks([limits[0], 0, limits[1]], [f"−{limits[1]:.2g}", "0", f"+{limits[1]:.2g}"])


def mosaic_caption(table: pd.DataFrame, layer: str, epoch: int) -> str:
    """One sentence: how many columns look empty, how many filters collapsed, and the range of the weights."""
    weights = _weights(table)
    largest = np.abs(weights).max(axis=(1, 2, 3))
    empty, collapsed = (largest <= largest.max() / FAINT).sum(), (largest < COLLAPSED).sum()
    return (
        f"At epoch {epoch}, {empty} of the {len(weights)} columns of {layer} look empty and {collapsed} filters have "
        f"collapsed; its {weights.size:,} weights go from {weights.min():.2g} to {weights.max():.2g}."
    ).replace("-", "−")


MOSAIC_NOTE = (
    f"A column is a filter; one that looks empty has no weight over 1/{FAINT} of the layer's largest, and one that "
    f"collapsed none of {COLLAPSED:g} or more."
)


@style.styled
def draw_kernel_mosaic(table: pd.DataFrame, *, title: str) -> Figure:
    """Every weight of a layer: a column for each filter, a row for each input channel, one scale around zero.

    Args:
        table: from `layer_weights`.
        title: of the figure.
    """
    weights = _weights(table)
    filters, channels, size, _ = weights.shape
    step = size + 1
    framed = np.full((channels, step, filters, step), np.nan)
    framed[:, :size, :, :size] = weights.transpose(1, 2, 0, 3)
    sheet = np.ma.masked_invalid(framed.reshape(channels * step, filters * step)[:-1, :-1])
    dots = max(1, int((style.WIDTH - 1.8) * DOTS / sheet.shape[1]))
    height, width = (length * dots / DOTS for length in sheet.shape)
    figure = style.figure(width + 1.8, max(height, 1.2) + 0.95)
    figure.set_layout_engine("none")
    ax = axes_at(figure, 0.65, 0.4, width, height)
    limits = style.limits_around_zero(weights)
    ax.imshow(sheet, cmap=style.DIVERGING, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    ax.set_facecolor("#c8c8c8")
    every = 4 if max(filters, channels) > 16 else 1
    for axis, count in ((ax.xaxis, filters), (ax.yaxis, channels)):
        numbers = range(0, count, every)
        axis.set_ticks([number * step + (size - 1) / 2 for number in numbers], list(map(str, numbers)))
    ax.set(xlabel="filter", ylabel="input channel")
    ax.tick_params(length=2)
    bar = axes_at(figure, 0.65 + width + 0.15, 0.4, 0.13, max(height, 1.2))
    style.fill_colour_bar(bar, limits, style.DIVERGING, "weight", cax=bar)
    style.head(figure, title)
    return figure
