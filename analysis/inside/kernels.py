"""One filter's kernel over the epochs (the report's Figure 9)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.epoch_strips import draw_strips, epoch_numbers, without_empty_end
from analysis.drawing.style import COLOURS
from analysis.drawing.wording import number
from analysis.exhibit import Exhibit

MOST_CHANNELS = 4
"""Most input channels shown of a layer that has more than three."""


def show_evolution(weights: dict[int, np.ndarray], layer: str, filter: int, *, followed: str = "") -> Exhibit:
    """The kernel of one filter of `layer` over the epochs; one line if its weights vanish at once.

    Args:
        weights: as in `kernel_evolution`.
        layer: the convolution's name.
        filter: the filter's number.
        followed: a sentence on why this filter is followed.
    """
    table = kernel_evolution(weights, filter)
    name, heading = f"kernel_{layer}_filter{filter}", f"How the kernel of filter {filter} of {layer} forms"
    heading += ", as Figure 9" if layer == "conv1" else ""
    text, about = caption(table, layer, filter), note(table, weights[max(weights)].shape[1])
    figure = draw_kernel_evolution(table, layer=layer, filter=filter)
    if figure is None:
        return Exhibit(name, heading, f"{text[:-1]}; {_vanished(table)}.", tables={name: table})
    return Exhibit(name, heading, text, table, figure, note=" ".join(part for part in (followed, about) if part))


def _vanished(table: pd.DataFrame) -> str:
    kernels = _kernels(table)
    limits = style.limits_around_zero(table["weight"].to_numpy(float))
    since = without_empty_end(kernels, limits)[1]
    return f"no weight can be seen from epoch {since} on, so it is not drawn"


def kernel_evolution(
    weights: dict[int, np.ndarray], filter: int, channels: Sequence[int] | None = None
) -> pd.DataFrame:
    """The kernel of one filter at every epoch: epoch, channel, row, column, weight.

    Args:
        weights: a layer's weights (filters, channels, k, k) by epoch.
        filter: which filter.
        channels: which input channels; by default all if there are up to three, else the `MOST_CHANNELS` whose slices
            have the largest norm at any epoch, in ascending order.

    Raises:
        IndexError: for a filter or a channel that the layer does not have.
    """
    epochs = sorted(weights)
    if channels is None:
        channels = _strongest(np.stack([weights[epoch][filter] for epoch in epochs]))
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


def _strongest(kernels: np.ndarray) -> list[int]:
    """The channels with the largest norm at any epoch, of kernels (epochs, channels, k, k); all if there are three.

    Not at the last epoch alone: of a filter that collapsed, all norms are zero by then.
    """
    if kernels.shape[1] <= len(COLOURS):
        return list(range(kernels.shape[1]))
    norms = np.linalg.norm(kernels.reshape(*kernels.shape[:2], -1).astype(np.float64), axis=2).max(axis=0)
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
    cosine = number(first @ last / (before * after), 2) if min(before, after) > 1e-30 else "undefined"
    return f"{text} and {after:.3g} at epoch {epochs[-1]}; the cosine between the two is {cosine}."


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
    return (
        f"Shown are the {shown} of the {inputs} input channels whose weights have the largest norm at any epoch, not "
        "only at the last."
    )


def _kernels(table: pd.DataFrame) -> dict[int, np.ndarray]:
    """The kernels (channels, k, k) by epoch."""
    shape = [table[name].nunique() for name in ("channel", "row", "column")]
    return {int(str(epoch)): part["weight"].to_numpy(float).reshape(shape) for epoch, part in table.groupby("epoch")}


def draw_kernel_evolution(table: pd.DataFrame, *, layer: str, filter: int) -> Figure | None:
    """A row for each channel, a column for each epoch; one scale for all, with white at zero.

    Epochs at the end at which no weight can be seen share a column; None if that is so from the second epoch on.
    """
    by_epoch, names = _kernels(table), channel_names(layer, table["channel"].unique().tolist())
    scale = style.limits_around_zero(table["weight"].to_numpy(float)), style.DIVERGING
    epochs, empty_from = without_empty_end(by_epoch, scale[0])
    if not epochs:
        return None
    titles = dict(zip(epochs, epoch_numbers(epochs, empty_from, max(by_epoch)), strict=True))
    rows = {name: {epoch: by_epoch[epoch][place] for epoch in epochs} for place, name in enumerate(names)}
    return draw_strips(rows, titles, scale, title=f"Kernel of {layer}, filter {filter}", label="weight")
