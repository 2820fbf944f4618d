"""What each filter looks for: the patches of test images that activate it most, beside its kernel."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.drawing import filter_rows, style
from analysis.drawing.wording import sentence, several, without_end

PATCHES = 9
"""Patches of each filter: three by three."""
CONSTANT = 1e-5
"""The share of a filter's peak by which its map has to vary, in an image or between images, to be a response."""


def top_patches(
    peak: np.ndarray,
    mean: np.ndarray,
    corners: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
) -> pd.DataFrame:
    """The patches that activate each filter most, of different images, best first.

    Args:
        peak: (N, filters), the largest activation in each image.
        mean: (N, filters), the mean activation in each image.
        corners: the first row and the first column of pixels of what has that activation, (N, filters) each; negative
            where it begins outside the image.
        labels: (N,), places in `classes`.
        classes: the names.

    Returns:
        filter; state: responds, silent (nowhere more than rounding's activation) or constant (the same everywhere);
        and for one that responds up to `PATCHES` rows of rank, from 1, image, the number of the test image, class,
        activation, top and left. A filter that does not respond has one row with NaN in them: no patch tells of it.
    """
    parts, least = [], filter_rows.SILENT * peak.max()
    for filter in range(peak.shape[1]):
        state = _state(peak[:, filter], mean[:, filter], least)
        best = np.argsort(-peak[:, filter], kind="stable")[: PATCHES if state == "responds" else 0]
        best = best[peak[best, filter] > least]
        part = pd.DataFrame(
            {
                "rank": np.arange(1, len(best) + 1),
                "image": best,
                "class": [classes[label] for label in labels[best]],
                "activation": peak[best, filter],
                "top": corners[0][best, filter],
                "left": corners[1][best, filter],
            }
        )
        part = part if len(part) else part.reindex([0])
        parts.append(part.assign(filter=filter, state=state))
    made = pd.concat(parts, ignore_index=True)
    return made[["filter", "state", "rank", "image", "class", "activation", "top", "left"]]


def _state(peak: np.ndarray, mean: np.ndarray, least: float) -> str:
    highest = peak.max()
    if highest <= least:
        return "silent"
    varies = max(np.ptp(peak), np.abs(peak - mean).max()) > CONSTANT * highest
    return "responds" if varies else "constant"


def responding(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a `top_patches` table that are patches."""
    return table[table["state"] == "responds"].astype({"rank": int, "image": int, "top": int, "left": int})


def crop_patches(table: pd.DataFrame, images: np.ndarray, side: int) -> np.ndarray:
    """The patches of a `top_patches` table: (patches, side, side, 4), bytes; see-through outside the image.

    Args:
        table: from `top_patches`.
        images: (N, 3, H, W), bytes: those that the table is of.
        side: rows and columns of a patch, pixels.
    """
    shown = responding(table)
    inside = np.zeros((len(shown), side, side, 4), np.uint8)
    places = shown[["image", "top", "left"]].to_numpy()
    for patch, (number, top, left) in zip(inside, places, strict=True):
        # Negative corners are outside the image, and to numpy they would be places from its other end.
        part = images[number][:, max(top, 0) : top + side, max(left, 0) : left + side].transpose(1, 2, 0)
        place = patch[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
        place[..., :3], place[..., 3] = part, 255
    return inside


def kernel_pictures(weights: np.ndarray, dilation: int = 1) -> np.ndarray:
    """First-layer kernels as pictures (filters, 1, side, side, 3) in 0..1, on one scale: mid-grey is a weight of zero.

    Args:
        weights: (filters, 3, k, k): red, green and blue.
        dilation: pixels between neighbouring weights; there is grey in between.
    """
    _, largest = style.limits_around_zero(weights)
    return 0.5 + _spread_out(weights.transpose(0, 2, 3, 1)[:, None], dilation) / (2 * largest)


def slice_pictures(weights: np.ndarray, inputs: Sequence[Sequence[int]], dilation: int = 1) -> np.ndarray:
    """For each filter the slices of some input channels, (filters, n, side, side, 3) in 0..1: white is zero.

    Args:
        weights: (filters, channels, k, k).
        inputs: the n channels of each filter.
        dilation: pixels between neighbouring weights; there is white in between.
    """
    chosen = np.take_along_axis(weights, np.asarray(inputs)[:, :, None, None], axis=1)
    shares = Normalize(*style.limits_around_zero(weights))(_spread_out(chosen[..., None], dilation)[..., 0])
    return matplotlib.colormaps[style.DIVERGING](shares)[..., :3]


def _spread_out(weights: np.ndarray, dilation: int) -> np.ndarray:
    """Weights (filters, n, k, k, colours) with zeros between neighbours, for a dilation over one."""
    side = dilation * (weights.shape[2] - 1) + 1
    wide = np.zeros((*weights.shape[:2], side, side, weights.shape[-1]))
    wide[:, :, ::dilation, ::dilation] = weights
    return wide


def strongest_inputs(weights: np.ndarray, most: int = 3) -> list[list[int]]:
    """For each filter the input channels whose kernels have the largest norm, largest first.

    Args:
        weights: (filters, channels, k, k).
        most: how many channels.
    """
    norms = np.linalg.norm(weights.reshape(*weights.shape[:2], -1).astype(np.float64), axis=2)
    return [order.tolist() for order in np.argsort(-norms, axis=1, kind="stable")[:, :most]]


def caption(table: pd.DataFrame) -> str:
    """One sentence: whose patches are most of one class, and how many filters have none."""
    shown = responding(table)
    states = table.drop_duplicates("filter")["state"].value_counts()
    left = [f"{states[state]} {state}" for state in ("silent", "constant") if state in states]
    of = f"of {states.sum()} filters {' and '.join(left)} on all images" if left else ""
    if shown.empty:
        return sentence(of)
    counts = shown.groupby(["filter", "class"], sort=False).size().reset_index(name="count")
    return f"{_most_agreed(shown, counts[counts['count'] == counts['count'].max()])}{of and '; '}{of}."


def _most_agreed(shown: pd.DataFrame, most: pd.DataFrame) -> str:
    """Whose patches are most of one class; `most` has a row for each filter and class, which tie."""
    first, *others = most.to_dict("records")
    if others:
        named = several([f"filter {row['filter']} on {row['class']}" for row in (first, *others)])
        return f"The patches of a filter agree most on a class in {len(most)} cases, {first['count']} each: {named}"
    patches = (shown["filter"] == first["filter"]).sum()
    said = f"The patches of filter {first['filter']} agree most on a class: {first['count']} of {patches} show"
    return f"{said} {first['class']}"


def note(side: int) -> str:
    """How the patches of `side` pixels were chosen, and what stands beside them."""
    return (
        f"Patches of {side} × {side} pixels, each filter's of different test images. Beside a filter's number stands "
        "the class that it responds to most in the mean, and below it how much AUC (× 100) the class that depends most "
        "on it loses."
    )


GAP, NARROW = 0.12, 0.06
"""Inches between a filter and the next, and between its kernel and its patches."""
TOP, HEAD, FOOT = 0.35, 0.15, 0.16
"""Inches of the title, and of a line above a filter's patches and below them all."""
CHARACTER = 0.056
"""Inches of a character above a filter's patches."""
_WHY = {"silent": "filters silent on all test images", "constant": "filters the same everywhere on all test images"}


@style.styled
def draw_top_patches(
    table: pd.DataFrame,
    crops: np.ndarray,
    *,
    title: str,
    key: str,
    notes: Mapping[int, Sequence[str]],
    kernels: np.ndarray,
) -> Figure:
    """Every responding filter's patches, three by three, best first, under its number; its kernels left of them.

    What lies outside the image is hatched. Filters that do not respond are named below.

    Args:
        table: from `top_patches`.
        crops: from `crop_patches`.
        title: above everything.
        key: below everything; what the lines and the kernels say.
        notes: by filter, lines of text; the first goes beside its number.
        kernels: (filters, n, k, k, 3) in 0..1, for all filters of the layer; a filter's n stand in a column.
    """
    shown = responding(table)
    filters = sorted(set(shown["filter"]))
    columns, side = _sizes(len(filters), kernels.shape[1])
    head = HEAD * max((len(said) for said in notes.values()), default=1)
    width, height = style.WIDTH / columns, head + side + GAP
    below = [
        filter_rows.named(sorted(set(table.loc[table["state"] == state, "filter"])), why) for state, why in _WHY.items()
    ]
    foot = "\n".join(line for line in (key, *below) if line)
    bottom = TOP + math.ceil(len(filters) / columns) * height
    made, ax = _canvas(bottom + FOOT * (foot.count("\n") + 1))
    edge = "" if crops[..., 3].all() else "; hatched is what lies outside the image"
    ax.text(NARROW, TOP / 2, f"{title}{edge}", va="center", fontsize=10)
    ax.text(NARROW, bottom, foot, va="top", fontsize=8, color=style.QUIET)
    for place, filter in enumerate(filters):
        x, y = place % columns * width + GAP / 2, TOP + place // columns * height
        _write_head(ax, (x, y), width - GAP, str(filter), notes.get(filter, ()))
        each = side / kernels.shape[1]
        for down, kernel in enumerate(kernels[filter]):
            _place(ax, kernel, x, y + head + down * each, each - 0.03)
        _draw_nine(ax, crops[(shown["filter"] == filter).to_numpy()], x + each + NARROW, y + head, side)
    return made


def _sizes(count: int, kernels: int) -> tuple[int, float]:
    """How many filters stand side by side, and how large a filter's patches together are, inches.

    Its kernels, in a column beside them, are as high together as they are.
    """
    columns = (4, 5)[count > 24] + (kernels > 1)
    return columns, (style.WIDTH / columns - GAP - NARROW) / (1 + 1 / kernels)


def _canvas(height: float) -> tuple[Figure, Axes]:
    """A figure that is all one plane, measured in inches from its upper left corner."""
    made = style.figure(style.WIDTH, height)
    made.set_layout_engine("none")
    # Hundreds of axes would take seconds to lay out.
    ax = made.add_axes((0, 0, 1, 1), xlim=(0, style.WIDTH), ylim=(height, 0), autoscale_on=False)
    ax.set_axis_off()
    return made, ax


def _write_head(ax: Axes, corner: tuple[float, float], width: float, number: str, notes: Sequence[str]) -> None:
    x, y = corner
    ax.text(x, y + HEAD / 2, number, va="center", fontsize=8, weight="bold")
    for line, said in enumerate(notes):
        indent = 0 if line else 0.08 + 0.075 * len(number)
        fitting = without_end(said, int((width - indent) / CHARACTER))
        ax.text(x + indent, y + (line + 0.5) * HEAD, fitting, va="center", fontsize=7)


def _draw_nine(ax: Axes, crops: np.ndarray, x: float, y: float, side: float) -> None:
    step = side / 3
    for place, crop in enumerate(crops):
        row, column = divmod(place, 3)
        _place(ax, crop, x + column * step, y + row * step, step - 0.03)


def _place(ax: Axes, picture: np.ndarray, x: float, y: float, side: float) -> None:
    if picture.shape[-1] == 4 and not picture[..., 3].all():
        hatched: Any = {"facecolor": "#f4f4f4", "edgecolor": "#b0b0b0", "hatch": "//////", "linewidth": 0}
        ax.add_patch(Rectangle((x, y), side, side, zorder=-1, **hatched))
    ax.imshow(picture, extent=(x, x + side, y + side, y), interpolation="nearest", aspect="auto")
    ax.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor="#999999", linewidth=0.4))
