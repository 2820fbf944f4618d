"""The covariance of all pixels, the report's Figure 6."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import maps, style
from analysis.drawing.numbered_cells import axes_at
from analysis.drawing.screens import is_narrow
from analysis.drawing.style import COLOURS
from analysis.exhibit import Exhibit
from analysis.images import distance
from analysis.images.distance import DIRECTIONS, by_distance, channel_pairs

MOST_IMAGES = 6000
"""Images from which the covariance is computed, as in the report."""
MOST_PIXELS = 32
"""Maximum side of the images in pixels: the covariance has as many values as the square of the square of it."""
DOT = 4
"""Side of the square of covariances that are averaged into one dot of the figure."""
SIDE, NARROW_SIDE = 5.12, 2.56
"""Side of the picture of the whole matrix, in inches."""
NARROW_DOT = 2
"""Side of the square of dots that are averaged on a narrow screen."""
ZOOMED_ROWS = 4
"""Rows of the image whose covariance is shown in full."""
UNIT = "pixels from −1 to 1"
BAR_BELOW = 0.3
"""Inches from the variance maps to the colour bar below them: room for their labels."""


@dataclass(frozen=True, eq=False)
class Covariance:
    """The parts of a covariance that the figures show, small enough to cache."""

    table: pd.DataFrame
    """Means by distance, see `by_distance`."""
    dots: np.ndarray
    """The whole matrix at a lower resolution, see `shrink`."""
    zoom: np.ndarray
    """The covariance of `ZOOMED_ROWS` rows of the first channel, in full."""
    variances: np.ndarray
    """The diagonal, (C, H, W)."""
    positive: float
    """Share of the covariances that are positive."""
    images: int
    """Number of images."""
    reduced_by: int = 1
    """Side of the squares of pixels of the images whose means are its pixels."""


def measure(images: np.ndarray) -> Covariance:
    """The covariance of all pixels of at least two images (N, C, H, W), bytes.

    Images larger than `MOST_PIXELS` are reduced, see `reduced`.
    """
    by = -(-max(images.shape[2:]) // MOST_PIXELS)
    sums = reduced(images, by)
    matrix, (channels, height, width) = covariance(sums) / by**4, sums.shape[1:]
    first = (height - ZOOMED_ROWS) // 2 * width
    zoomed = slice(first, first + ZOOMED_ROWS * width)
    return Covariance(
        table=by_distance(matrix, (channels, height, width)),
        dots=shrink(matrix),
        zoom=matrix[zoomed, zoomed].copy(),
        variances=matrix.diagonal().reshape(sums.shape[1:]),
        positive=float((matrix > 0).mean()),
        images=len(images),
        reduced_by=by,
    )


def reduced(images: np.ndarray, by: int) -> np.ndarray:
    """The sums of the squares of `by` × `by` pixels of images (N, C, H, W); what is left over at the end is cut off."""
    if by == 1:
        return images
    rows, columns = (side // by for side in images.shape[2:])
    squares = images[..., : rows * by, : columns * by].reshape(*images.shape[:2], rows, by, columns, by)
    return np.asarray(squares.sum(axis=(3, 5), dtype=np.int64))


def show(measured: Covariance) -> Iterator[Exhibit]:
    """The covariance of all pixels, and the correlation against distance."""
    table, heading = measured.table, "The covariance of all pixels (Figure 6)"
    text, figure = covariance_caption(measured), draw_covariance(measured)
    yield Exhibit("covariance", heading, text, table, figure, note=" ".join([COVARIANCE_NOTE, *_reduction(measured)]))
    yield replace(distance.show(table), note=" ".join(_reduction(measured)))


def _reduction(measured: Covariance) -> list[str]:
    """A sentence on what a pixel is, where the images were reduced."""
    by = measured.reduced_by
    return [f"A pixel here is the mean of {by} × {by} pixels of the images."] if by > 1 else []


def choose(total: int, count: int = MOST_IMAGES, seed: int = 0) -> np.ndarray:
    """`count` indices below `total`, drawn at random without replacement, ascending; all of them if there are fewer."""
    rows = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    return np.sort(rows)


def covariance(images: np.ndarray) -> np.ndarray:
    """The covariance between all pixels of all channels, (C·H·W, C·H·W) in float64, of pixels scaled to [-1, 1].

    Args:
        images: (N, C, H, W), bytes or sums of bytes, at least two. Each is flattened channel by channel, row by row.
    """
    # Computed from whole numbers, so that a constant pixel has a variance of exactly zero.
    return np.cov(images.reshape(len(images), -1), rowvar=False, dtype=np.float64) / 127.5**2


def covariance_caption(measured: Covariance) -> str:
    """One sentence: the share of positive covariances, and their means within a channel and between two."""
    within, between = (_mean_covariance(measured.table, names) for names in channel_pairs(measured.table))
    return (
        f"Of {measured.images:,} training images ({UNIT}) {measured.positive:.1%} of the covariances are positive; the "
        f"mean of all is {within:.3f} within a channel and {between:.3f} between two, that of the variances on the "
        f"diagonal {measured.variances.mean():.3f}."
    )


COVARIANCE_NOTE = (
    "Two pixels with a positive covariance tend to be brighter than usual in the same images. Each "
    f"dot of the large picture is the mean of {DOT} × {DOT}, on a narrow screen of {DOT * NARROW_DOT} × "
    f"{DOT * NARROW_DOT}; the CSV has the means by distance."
)


def _mean_covariance(table: pd.DataFrame, channels: Sequence[str]) -> float:
    part = table[table["channels"].isin(channels) & (table["direction"] == DIRECTIONS[0])]
    return float(np.average(part["covariance"], weights=part["pairs"]))


def shrink(matrix: np.ndarray, by: int = DOT) -> np.ndarray:
    """A square matrix with each block of `by` × `by` values averaged; the last ones may have fewer."""
    starts = np.arange(0, len(matrix), by)
    counts = np.diff([*starts, len(matrix)])
    sums = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
    return np.asarray(sums / np.outer(counts, counts))


@style.styled
def draw_covariance(measured: Covariance) -> Figure:
    """The whole covariance (`DOT` × `DOT` values to a dot, channels marked), a part in full, and the variances."""
    channels, height, width = measured.variances.shape
    small = shrink(measured.dots, NARROW_DOT) if is_narrow() else measured.dots
    # No covariance is larger than the largest variance.
    side, limits = NARROW_SIDE if is_narrow() else SIDE, style.limits_around_zero(measured.variances)
    if is_narrow():
        across = style.page_width()
        right, each = across - 0.55 - 0.9, (across - 0.65) / 3
        zoomed = 0.35 + side + 0.85
        varied = zoomed + right + 0.75
        left = 0.55
        figure = style.figure(across, varied + each + BAR_BELOW + 0.6)
        corner = 0.22, varied
    else:
        left, right, zoomed = side + 1.45, style.WIDTH - side - 2.75, 0.35
        each = (style.WIDTH - left - 0.45) / 3
        figure = style.figure(style.WIDTH, side + 0.95)
        corner = left, 0.35 + side - each - BAR_BELOW - 0.12
    figure.set_layout_engine("none")
    ax = axes_at(figure, 0.65, 0.35, side, side)
    ax.imshow(small, cmap=style.DIVERGING, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    _mark(ax, COLOURS[:channels], len(small) / channels)
    ax.set_xlabel("\n".join(textwrap.wrap("pixel, channel by channel and row by row", 30 if is_narrow() else 60)))
    ax.set_title("all pixels with all pixels", fontsize=9)
    _draw_zoom(axes_at(figure, left, zoomed, right, right), measured.zoom, height, width, limits)
    bar = axes_at(figure, left + right + 0.1, zoomed, 0.13, right)
    style.fill_colour_bar(bar, limits, style.DIVERGING, f"covariance ({UNIT})", cax=bar)
    _draw_variances(figure, measured.variances, corner, each)
    return figure


def _draw_zoom(ax: Axes, values: np.ndarray, height: int, width: int, limits: style.Limits) -> None:
    first = (height - ZOOMED_ROWS) // 2
    ax.imshow(values, cmap=style.DIVERGING, vmin=limits[0], vmax=limits[1])
    _mark(ax, [f"row {row}" for row in range(first, first + ZOOMED_ROWS)], width)
    ax.set_title(f"red with red, {ZOOMED_ROWS} rows of the image, enlarged", fontsize=9)


def _draw_variances(figure: Figure, variances: np.ndarray, corner: tuple[float, float], side: float) -> None:
    """Draws the diagonal as one map per channel (C, H, W), side by side, on a separate colour scale."""
    limits = style.limits_from_zero(variances)
    for place, (name, values) in enumerate(zip(COLOURS, variances, strict=False)):
        ax = axes_at(figure, corner[0] + place * (side + 0.1), corner[1], side, side)
        maps.panel(ax, values, limits, style.SEQUENTIAL)
        ax.set_xlabel(name, fontsize=8, labelpad=3)
        if place == 0:
            ax.set_title("variance of each pixel (the diagonal)", fontsize=9)
    width = len(variances) * (side + 0.1) - 0.1
    bar = axes_at(figure, corner[0], corner[1] + side + BAR_BELOW, width, 0.12)
    style.fill_colour_bar(bar, limits, style.SEQUENTIAL, f"variance ({UNIT})", cax=bar, orientation="horizontal")


def _mark(ax: Axes, names: Sequence[str], step: float) -> None:
    """Labels equal parts of both axes, and draws thin lines between them."""
    middles = [(place + 0.5) * step - 0.5 for place in range(len(names))]
    ax.set_xticks(middles, names)
    ax.set_yticks(middles, names, rotation=90, va="center")
    ax.tick_params(length=0)
    for place in range(1, len(names)):
        for line in (ax.axhline, ax.axvline):
            line(place * step - 0.5, color=style.INK, linewidth=0.8)
