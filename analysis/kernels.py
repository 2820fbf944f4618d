"""How one filter's kernel takes shape over the epochs: the report's Figure 9."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import style
from analysis.strips import draw_strips

MOST_CHANNELS = 4
"""Input channels shown of a layer that has more than three."""
COLOURS = ("red", "green", "blue")


def kernel_evolution(
    weights: dict[int, np.ndarray], filter: int, channels: Sequence[int] | None = None
) -> pd.DataFrame:
    """The kernel of one filter at every epoch: epoch, channel, row, column, weight.

    Args:
        weights: a layer's weights (filters, channels, k, k) by epoch.
        filter: which filter.
        channels: which input channels; by default all of up to three, else the `MOST_CHANNELS` whose slices have the
            largest norm at the last epoch, in their order.

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
    """The channels of a kernel (channels, k, k) that are worth showing."""
    if len(kernel) <= len(COLOURS):
        return list(range(len(kernel)))
    norms = np.linalg.norm(kernel.reshape(len(kernel), -1).astype(np.float64), axis=1)
    return sorted(int(channel) for channel in np.argsort(-norms, kind="stable")[:MOST_CHANNELS])


def caption(table: pd.DataFrame, layer: str, filter: int) -> str:
    """One sentence: the norm of the shown weights at the first and the last epoch, and the angle between them."""
    epochs = sorted(table["epoch"].unique())
    first, last = (table.loc[table["epoch"] == epoch, "weight"].to_numpy(float) for epoch in (epochs[0], epochs[-1]))
    before, after = np.linalg.norm(first), np.linalg.norm(last)
    said = f"Filter {filter} of {layer}: the norm of the weights shown is {before:.3g} at epoch {epochs[0]}"
    if len(epochs) == 1:
        return f"{said}."
    # A vanished kernel has no direction, and one of 1e-40 only rounding's.
    cosine = f"{first @ last / (before * after):.2f}" if min(before, after) > 1e-30 else "undefined"
    return f"{said} and {after:.3g} at epoch {epochs[-1]}; the cosine between the two is {cosine}."


def channel_names(layer: str, channels: Sequence[int]) -> list[str]:
    """What the rows are called: the colours for the first layer, which sees the image, else the filters before it."""
    if layer == "conv1" and max(channels) < len(COLOURS):
        return [COLOURS[channel] for channel in channels]
    return [f"input {channel}" for channel in channels]


def _kernel(part: pd.DataFrame) -> np.ndarray:
    return part.pivot(index="row", columns="column", values="weight").to_numpy(float)


def draw_kernel_evolution(table: pd.DataFrame, *, layer: str, filter: int) -> Figure:
    """A row for each channel, a column for each epoch; one scale for all, white at zero."""
    channels = sorted(table["channel"].unique())
    names = channel_names(layer, channels)
    limits = style.limits_around_zero(table["weight"].to_numpy(float))
    maps = {
        (name, epoch): _kernel(table[(table["epoch"] == epoch) & (table["channel"] == channel)])
        for channel, name in zip(channels, names, strict=True)
        for epoch in table["epoch"].unique().tolist()
    }
    scales = dict.fromkeys(names, (limits, style.DIVERGING))
    return draw_strips(maps, scales, title=f"Kernel of {layer}, filter {filter}", label="weight")
