"""When what the layers show settles, and when the reasons for an answer do."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import is_narrow, panels
from analysis.drawing.wording import listed, number, quoted
from analysis.exhibit import Exhibit

HEADING = "Layers settle early, reasons do not: is that so?"
SETTLED = 0.9
"""Similarity with the last epoch from which something counts as settled."""
LINES = {
    "pool1": ("first layer's maps (CKA)", "#08519c"),
    "pool2": ("second layer's maps (CKA)", "#6baed6"),
    "fc": ("logits (CKA)", "#777777"),
    "filters": ("shares of second-layer filters (correlation)", "#e69f00"),
    "pixels": ("pixel map, DeepSHAP (correlation)", "#cc3311"),
}
"""What is compared with the last epoch, in the order of the columns: the name and colour of each."""
REASONS = ("filters", "pixels")
MOST = 16
"""Most filters in the picture."""
NOTE = (
    "CKA compares all sampled test images' maps with those of the last epoch, whatever filter holds them. The exact "
    "share of a second-layer filter is what the margin loses with its map replaced by the mean over background images. "
    f"Settled: from that epoch on the similarity with the last epoch stays at {SETTLED} or more. The reasons are those "
    "for one image; the share of changed answers is of all sampled images."
)


def show(similarity: pd.DataFrame, margins: Sequence[float], shares: np.ndarray, pixels: np.ndarray, *,
         description: str, classes: tuple[str, str]) -> Exhibit:  # fmt: skip
    """When layers, filters' shares and the pixel map come to look as after the last epoch.

    Args:
        similarity: epoch, pool1, pool2, fc, changed, differs.
        margins: of the image's class over its rival, by epoch.
        shares: of the second layer's filters in it, (epochs, filters).
        pixels: pixel maps, (epochs, H, W).
        description: which image it is.
        classes: the class and its rival.
    """
    table = similarity.assign(
        filters=similar_to_last(shares), pixels=similar_to_last(pixels.reshape(len(pixels), -1)), margin=margins
    )
    by_filter = pd.DataFrame(shares, columns=[f"filter_{place}" for place in range(shares.shape[1])])
    return Exhibit(
        "over_epochs",
        HEADING,
        caption(table),
        table,
        draw(table, shares, description, classes),
        points=points(table),
        note=NOTE,
        tables={"over_epochs_shares": by_filter.assign(epoch=table["epoch"])},
    )


def similar_to_last(rows: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row with the last one; NaN where one of them is constant."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(centred, axis=1) * np.linalg.norm(centred[-1])
    return np.divide(centred @ centred[-1], scale, out=np.full(len(rows), np.nan), where=scale > 0)


def settles(table: pd.DataFrame, name: str) -> int:
    """The epoch from which the similarity stays at `SETTLED` or more."""
    unsettled = np.flatnonzero(~(table[name].to_numpy() >= SETTLED))
    place = unsettled[-1] + 1 if len(unsettled) else 0
    return int(table["epoch"].iloc[min(place, len(table) - 1)])


def caption(table: pd.DataFrame) -> str:
    """One sentence: when each settles, and whether the heading's claim holds."""
    epochs = {name: settles(table, name) for name in LINES}
    layers, reasons = max(epochs["pool1"], epochs["pool2"]), [epochs[name] for name in REASONS]
    if layers > table["epoch"].max() / 2:
        verdict = "The layers do not settle early in this network"
    elif min(reasons) > layers:
        verdict = "It is so for this network and image"
    elif max(reasons) > layers:
        verdict = "It is half so for this network and image"
    else:
        verdict = "It is not so for this network and image"
    return (
        f"{verdict}: the first layer's maps settle at epoch {epochs['pool1']}, the second's at {epochs['pool2']}, the "
        f"filters' shares in the answer at {epochs['filters']} and the pixel map at {epochs['pixels']} (of "
        f"{table['epoch'].max()})."
    )


def points(table: pd.DataFrame) -> list[str]:
    """How similar all are half way, and how many answers change."""
    half = table.iloc[len(table) // 2]
    similar = [f"{name.split(' (')[0]} {number(half[column], 2)}" for column, (name, _) in LINES.items()]
    sentences = [f"At epoch {half['epoch']:.0f} the similarity with the last epoch is: {listed(similar)}."]
    if len(table) > 2:
        late = table.iloc[-1]
        before = table.iloc[-2]
        sentences.append(
            f"Between the last two epochs {late['changed']:.1%} of the test images change their answer (median over "
            f"training {table['changed'].median():.1%}); the margin of the image under study goes from "
            f"{number(before['margin'], 2)} to {number(late['margin'], 2)}."
        )
    return sentences


@style.styled
def draw(table: pd.DataFrame, shares: np.ndarray, description: str, classes: tuple[str, str]) -> Figure:
    """The margin, the filters' shares in it, and the similarities, over the epochs; arguments as of `show`."""
    figure, axes = panels(style.WIDTH, 9.0 if is_narrow() else 7.2, 4, sharex=True, height_ratios=[1, 2.4, 2, 1])
    style.head(figure, f"{description}: {quoted(classes[0])} over {quoted(classes[1])}")
    axes = axes[:, 0]
    axes[0].plot(table["epoch"], table["margin"], "-o", color=style.INK, markersize=3)
    axes[0].axhline(0, color=style.QUIET, linewidth=0.8)
    axes[0].set(title="margin over the rival", ylabel="logits")
    _draw_shares(axes[1], table["epoch"].tolist(), shares)
    for column, (name, colour) in LINES.items():
        marker = "s" if column in REASONS else "o"
        axes[2].plot(table["epoch"], table[column], marker=marker, markersize=3, color=colour, label=name)
    axes[2].axhline(SETTLED, color=style.QUIET, linewidth=0.8, linestyle="--")
    axes[2].set(title="similarity with the last epoch", ylim=(None, 1.05))
    if is_narrow():
        axes[2].legend(loc="upper center", bbox_to_anchor=(0.5, -0.08))
    else:
        axes[2].legend(loc="lower right")
    axes[3].plot(table["epoch"], 100 * table["changed"], "-o", color=style.INK, markersize=3)
    axes[3].set(title="test images with another answer than at the epoch before", xlabel="epoch", ylim=(0, None))
    axes[3].yaxis.set_major_formatter("{x:.0f}%")
    style.tick_epochs(axes[3], table["epoch"].tolist())
    return figure


def _draw_shares(ax: Axes, epochs: list[int], shares: np.ndarray) -> None:
    """The shares of the filters with the largest ones at the last epoch, the most favourable above."""
    largest = np.argsort(-np.abs(shares[-1]), kind="stable")[:MOST]
    rows = largest[np.argsort(-shares[-1][largest], kind="stable")]
    limits = style.limits_around_zero(shares[:, rows])
    edges = np.concatenate([[epochs[0] - 0.5], (np.array(epochs[:-1]) + epochs[1:]) / 2, [epochs[-1] + 0.5]])
    ax.pcolormesh(edges, np.arange(len(rows) + 1), shares[:, rows].T, cmap=style.DIVERGING, vmin=limits[0],
                  vmax=limits[1])  # fmt: skip
    ax.set_yticks(np.arange(len(rows)) + 0.5, [str(row) for row in rows], fontsize=8)
    ax.set(title="shares of second-layer filters in that margin", ylabel="filter", ylim=(len(rows), 0))
    style.colour_bar([ax], limits, style.DIVERGING, "logits")
