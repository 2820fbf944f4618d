"""Top activating patches: the patches of test images that activate each filter most, beside its kernels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.drawing import filter_rows
from analysis.drawing.wording import are, listed, quoted, sentence, several
from analysis.exhibit import Exhibit
from analysis.filters.ablation import main_effects
from analysis.filters.kernel_pictures import kernel_pictures, slice_pictures, strongest_inputs
from analysis.filters.patch_sheet import draw_top_patches, responding

PATCHES = 9
"""Patches per filter, drawn three by three."""
DRAWS = 1000
"""Draws of random patches, which tell by how much filters agree by chance."""
CONSTANT = 1e-5
"""Share of a filter's peak by which its map must vary, within or between images, to count as a response."""


@dataclass(frozen=True, eq=False)
class FilterResponses:
    """Responses of one layer's filters to N images; all arrays but `weights` are (N, filters)."""

    peak: np.ndarray
    """The largest activation."""
    mean: np.ndarray
    """The mean activation."""
    top: np.ndarray
    """The first row of pixels of the patch with the largest activation; negative if it begins outside the image."""
    left: np.ndarray
    """The first column of pixels of that patch."""
    side: int
    """Side in pixels of a filter's receptive field."""
    weights: np.ndarray
    """(filters, channels, k, k)."""
    dilation: int


def show(
    layer: str,
    responses: FilterResponses,
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    selectivity: pd.DataFrame,
    ablation: pd.DataFrame,
) -> Exhibit:
    """The patches of test images that activate each filter of `layer` most.

    Args:
        layer: ``conv1``, whose kernels are shown in colour, or ``conv2``, whose strongest slices are shown.
        responses: those of the layer's filters.
        images: (N, 3, H, W), bytes.
        labels: (N,), indices of `classes`.
        classes: the names.
        selectivity: from `selectivity.class_selectivity`.
        ablation: from `effects.ablation_effects`.
    """
    corners, weights = (responses.top, responses.left), responses.weights
    table = top_patches(responses.peak, responses.mean, corners, labels, classes)
    inputs = None if layer == "conv1" else strongest_inputs(weights)
    figure = draw_top_patches(
        table,
        crop_patches(table, images, responses.side),
        title=f"{layer}: the test patches that activate each filter most",
        key=f"AUC lost: × 100. {_SLICES if inputs else _KERNELS}",
        notes=_notes(layer, selectivity, ablation, inputs),
        kernels=slice_pictures(weights, inputs, responses.dilation)
        if inputs
        else kernel_pictures(weights, responses.dilation),
    )
    about = f"{note(responses.side)} {chance(table, labels)}" + (f" {_INPUTS}" if inputs else "")
    heading = f"The patches that activate the filters of {layer} most"
    return Exhibit(f"patches_{layer}", heading, caption(table), table, figure, note=about)


_KERNELS = "In the kernels, all on one scale, mid-grey is a weight of zero."
_SLICES = (
    "Left of the patches, from above, the kernels for the inputs, all on one scale: blue is a negative weight, white "
    "zero, red positive."
)
_INPUTS = "Inputs are the filters of conv1 that it weighs most."


def _notes(
    layer: str, selectivity: pd.DataFrame, ablation: pd.DataFrame, inputs: list[list[int]] | None
) -> dict[int, list[str]]:
    """For each filter: the class it responds to most, the class that loses most AUC without it, and its inputs."""
    effects = main_effects(ablation)
    losses = {
        row["filter"]: f"AUC lost {_written(100 * row['lost'])}: {row['class']}"
        for row in effects[(effects["layer"] == layer) & (effects["lost"] > 0)].to_dict("records")
    }
    notes = {}
    for row in selectivity[selectivity["layer"] == layer].to_dict("records"):
        number = row["filter"]
        notes[number] = [
            f"most for {row['class']}" if row["class"] else "too weak to be rated",
            losses.get(number, "AUC lost: none"),
        ]
        if inputs is not None:
            notes[number].append(f"inputs {', '.join(map(str, inputs[number]))}")
    return notes


def _written(lost: float) -> str:
    """A loss above a filter's patches, with a digit that is not zero."""
    return f"{lost:.1f}" if lost >= 0.095 else f"{lost:.2f}" if lost >= 0.005 else "<0.01"


def top_patches(
    peak: np.ndarray,
    mean: np.ndarray,
    corners: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
) -> pd.DataFrame:
    """The patches of different images that activate each filter most, best first.

    Args:
        peak: (N, filters), the largest activation in each image.
        mean: (N, filters), the mean activation in each image.
        corners: the first row and the first column of pixels of the patch with the largest activation, (N, filters)
            each; negative if it begins outside the image.
        labels: (N,), indices of `classes`.
        classes: the names.

    Returns:
        filter; state: responds, silent, faint (no activation beyond rounding) or constant (the same everywhere); rank
        (from 1), image (index of the test image), class, activation, top and left. A filter that responds has up to
        `PATCHES` rows; any other has one row, with NaN from rank on.
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
    table = pd.concat(parts, ignore_index=True)
    return table[["filter", "state", "rank", "image", "class", "activation", "top", "left"]]


def _state(peak: np.ndarray, mean: np.ndarray, least: float) -> str:
    highest = peak.max()
    if highest <= least:
        return "faint" if highest > 0 else "silent"
    varies = max(np.ptp(peak), np.abs(peak - mean).max()) > CONSTANT * highest
    return "responds" if varies else "constant"


def crop_patches(table: pd.DataFrame, images: np.ndarray, side: int) -> np.ndarray:
    """The patches of a `top_patches` table, RGBA bytes (patches, side, side, 4); transparent outside the image.

    Args:
        table: from `top_patches`.
        images: (N, 3, H, W), bytes: the images of the table.
        side: side of a patch in pixels.
    """
    shown = responding(table)
    patches = np.zeros((len(shown), side, side, 4), np.uint8)
    places = shown[["image", "top", "left"]].to_numpy()
    for patch, (number, top, left) in zip(patches, places, strict=True):
        # Negative corners are clipped: numpy would count them from the other end of the image.
        part = images[number][:, max(top, 0) : top + side, max(left, 0) : left + side].transpose(1, 2, 0)
        place = patch[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
        place[..., :3], place[..., 3] = part, 255
    return patches


def caption(table: pd.DataFrame) -> str:
    """One sentence: the filter whose patches agree most on a class, and how many filters have no patches."""
    shown = responding(table)
    states = table.drop_duplicates("filter")["state"].value_counts()
    without = [state for state in ("silent", "faint", "constant") if state in states]
    left = [f"{states[state]} {are(states[state])} {state}" for state in without]
    of = f"of {states.sum()} filters, {listed(left)} on all images" if left else ""
    if shown.empty:
        return sentence(of)
    # Few patches agree more easily.
    sizes = shown.groupby("filter")["filter"].transform("size")
    counts = shown[sizes == sizes.max()].groupby(["filter", "class"], sort=False).size().reset_index(name="count")
    return f"{_most_agreed(shown, counts[counts['count'] == counts['count'].max()])}{of and '; '}{of}."


def _most_agreed(shown: pd.DataFrame, most: pd.DataFrame) -> str:
    """The filter whose patches agree most on a class; `most` has a row for each filter and class that tie."""
    first, *others = most.to_dict("records")
    if others:
        named = several([f"filter {row['filter']} on {quoted(row['class'])}" for row in (first, *others)])
        most_of = shown.groupby("filter").size().max()
        return f"At most {first['count']} of a filter's {most_of} patches show one class, in {len(most)} cases: {named}"
    patches = (shown["filter"] == first["filter"]).sum()
    text = f"The patches of filter {first['filter']} agree most on a class: {first['count']} of {patches} show"
    return f"{text} {quoted(first['class'])}"


def chance(table: pd.DataFrame, labels: np.ndarray) -> str:
    """A sentence: on how many patches some filter would agree by chance; empty if no filter responds.

    Args:
        table: from `top_patches`.
        labels: (N,), the classes of the images that the patches were chosen from.
    """
    sizes = responding(table).groupby("filter").size().to_numpy()
    if not len(sizes):
        return ""
    rng, shares = np.random.default_rng(0), np.bincount(labels) / len(labels)
    most = int(np.median(np.max([rng.multinomial(size, shares, DRAWS).max(axis=1) for size in sizes], axis=0)))
    return f"Of as many filters with patches at random, one would agree on {most} (median of {DRAWS:,} draws)."


def note(side: int) -> str:
    """How the patches of `side` pixels were chosen, and what the lines beside a filter's number mean."""
    return (
        f"Patches of {side} × {side} pixels, each filter's of different test images. Beside a filter's number stands "
        "the class that it responds to most on average, and below it how much AUC (× 100) the class that depends most "
        "on it loses."
    )
