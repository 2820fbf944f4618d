"""Covariance and correlation of pixels by channel and by their distance."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import label_first, panels
from analysis.drawing.style import COLOURS
from analysis.drawing.wording import listed, number
from analysis.exhibit import Exhibit

NEAR = (1, 5, 15)
"""Distances in pixels that the caption names."""
CHANNEL_COLOURS = {"red": "#9b1c20", "green": "#4daf4a", "blue": "#2a5db0"}
DIRECTIONS = ("any direction", "along a row", "along a column")
DIRECTION_LOOKS = ((style.INK, "solid"), ("#0072b2", "dashed"), ("#d55e00", "dotted"))
Shape = tuple[int, int, int]
"""Channels, height, width."""


def show(table: pd.DataFrame) -> Exhibit:
    """The correlation against distance; `table` as `by_distance` returns it."""
    heading, figure = "Correlation against distance and between channels", draw_distance(table)
    return Exhibit("correlation", heading, distance_caption(table), table, figure, points=distance_points(table))


def by_distance(matrix: np.ndarray, shape: Shape) -> pd.DataFrame:
    """The mean covariance and correlation of two pixels by the distance between them.

    Args:
        matrix: a `covariance`.
        shape: of the images.

    Returns:
        channels (``red–red``, …, ``green–blue``), direction (one of `DIRECTIONS`), distance (pixels; Euclidean, to the
        nearest integer), pairs (how many), covariance and correlation: means over the pairs. The correlation leaves out
        pairs with a constant pixel, and is NaN if there are no others.
    """
    channels, height, width = shape
    size = height * width
    blocks = matrix.reshape(channels, size, channels, size)
    deviations = np.sqrt(matrix.diagonal()).reshape(channels, size)
    places = _distances(height, width)
    parts = []
    for first in range(channels):
        for second in range(first, channels):
            block, scale = blocks[first, :, second], np.outer(deviations[first], deviations[second])
            for direction, distances in places.items():
                part = _means(block, scale, distances)
                parts.append(part.assign(channels=f"{COLOURS[first]}–{COLOURS[second]}", direction=direction))
    return pd.concat(parts)[["channels", "direction", "distance", "pairs", "covariance", "correlation"]].reset_index(
        drop=True
    )


def _distances(height: int, width: int) -> dict[str, np.ndarray]:
    """By direction, the distance between every two pixels, (H·W, H·W); -1 for pairs not in that direction."""
    rows, columns = np.divmod(np.arange(height * width), width)
    down, across = np.abs(rows[:, None] - rows), np.abs(columns[:, None] - columns)
    every = np.rint(np.hypot(down, across)).astype(int)
    return dict(zip(DIRECTIONS, (every, np.where(down, -1, across), np.where(across, -1, down)), strict=True))


def _means(block: np.ndarray, scale: np.ndarray, distances: np.ndarray) -> pd.DataFrame:
    used = distances >= 0
    values, scales, places = block[used], scale[used], distances[used]
    varying = scales > 0
    pairs = np.bincount(places)
    defined = np.bincount(places[varying], minlength=len(pairs))
    sums = np.bincount(places[varying], values[varying] / scales[varying], minlength=len(pairs))
    return pd.DataFrame(
        {
            "distance": np.arange(len(pairs)),
            "pairs": pairs,
            "covariance": np.bincount(places, values) / pairs,
            "correlation": np.divide(sums, defined, out=np.full(len(pairs), np.nan), where=defined > 0),
        }
    )


def correlation(table: pd.DataFrame, channels: Sequence[str], distance: int, direction: str = DIRECTIONS[0]) -> float:
    """The mean correlation over pairs of channels at one distance of a `by_distance` table; NaN if there are none."""
    chosen = (table["distance"] == distance) & (table["direction"] == direction) & table["channels"].isin(channels)
    return float(table.loc[chosen, "correlation"].mean())


def channel_pairs(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The names of the pairs of a channel with itself, and those of two different channels."""
    names = list(dict.fromkeys(table["channels"]))
    same = [name for name in names if len(set(name.split("–"))) == 1]
    return same, [name for name in names if name not in same]


def _text(value: float) -> str:
    return "undefined" if np.isnan(value) else number(value, 2)


def distance_caption(table: pd.DataFrame) -> str:
    """One sentence: the correlation at the distances `NEAR`, and between channels."""
    same, different = channel_pairs(table)
    near = listed([f"{_text(correlation(table, same, distance))} at {distance}" for distance in NEAR])
    between = listed([f"{_text(correlation(table, [name], 0))} ({name})" for name in different])
    return (
        f"Within a channel the mean correlation is {near} pixels' distance, and between the channels of one pixel it "
        f"is {between}."
    )


def distance_points(table: pd.DataFrame) -> list[str]:
    """A sentence each: where the correlation is lowest, and how it depends on the direction."""
    same, _ = channel_pairs(table)
    row, column = (_text(correlation(table, same, NEAR[1], direction)) for direction in DIRECTIONS[1:])
    along = f"{NEAR[1]} pixels apart it is {row} along a row and {column} along a column."
    return [along, *_lowest(table, same)]


def _lowest(table: pd.DataFrame, channels: Sequence[str]) -> list[str]:
    """A sentence: the lowest correlation up to the longest distance along a row, and the last one; none if undefined.

    Longer distances are those of the few pairs along a diagonal.
    """
    longest = int(table.loc[table["direction"] == DIRECTIONS[1], "distance"].max())
    means = [correlation(table, channels, distance) for distance in range(longest + 1)]
    if np.isnan(means).all():
        return []
    least = int(np.nanargmin(means))
    end = f", and {_text(means[-1])} at {longest}" if least < longest else ""
    return [
        f"In any direction, of distances up to {longest} pixels, it is lowest at {least}, {_text(means[least])}{end}."
    ]


@style.styled
def draw_distance(table: pd.DataFrame) -> Figure:
    """The correlation against distance: by pair of channels, and within the channels by direction."""
    figure, ((left, right),) = panels(style.WIDTH, 3.9, 1, 2, sharey=True)
    same, different = channel_pairs(table)
    every = table[table["direction"] == DIRECTIONS[0]]
    for name in (*same, *different):
        part = every[every["channels"] == name]
        dashed = name in different
        first, second = name.split("–")
        left.plot(
            part["distance"],
            part["correlation"],
            color=CHANNEL_COLOURS[first],
            linestyle="dashed" if dashed else "solid",
            gapcolor=CHANNEL_COLOURS[second] if dashed else None,
            label=f"{first} with {second}",
        )
    within = table[table["channels"].isin(same)].groupby(["direction", "distance"])["correlation"].mean()
    for direction, (colour, dash) in zip(DIRECTIONS, DIRECTION_LOOKS, strict=True):
        right.plot(within[direction], color=colour, linestyle=dash, label=direction)
    longest = table.loc[table["direction"] == DIRECTIONS[1], "distance"].max()
    for ax, title in ((left, "By channels"), (right, "Within a channel, by direction")):
        ax.set(xlabel="distance (pixels)", title=title, xlim=(0, longest))
        ax.grid(True)
        ax.axhline(0, color=style.QUIET, linewidth=1)
        ax.legend()
    label_first([left, right], "mean correlation")
    return figure
