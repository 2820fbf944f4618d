"""Calibration, whether confidence equals accuracy: the reliability diagram and the expected calibration error."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, label_first, panels
from analysis.drawing.wording import model_label
from analysis.exhibit import Exhibit, joined
from analysis.results.classification import TestPredictions, softmax
from analysis.results.proportions import CONFIDENCE, wilson

BINS = 15
"""Number of bins of equal width, as in Guo et al. (2017)."""
NOTE = (
    f"Over- or under-confident: the mean confidence lies outside the accuracy's {CONFIDENCE:.0%} interval. The "
    "expected calibration error sums absolute differences: by chance alone it lies above 0 for a calibrated model too."
)


def show(predictions: TestPredictions) -> Exhibit:
    """The reliability diagram of each model, on the test images."""
    tables = {model: reliability(*kept) for model, kept in predictions.items()}
    heading, figure = "Calibration: is confidence as high as accuracy?", draw_reliability(tables)
    return Exhibit("calibration", heading, caption(tables), joined(tables), figure, note=NOTE)


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """The images by confidence, the probability of the predicted class, in bins (low, high] of equal width.

    Guo et al. (2017), "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 2.

    Args:
        logits: (N, K), finite.
        labels: (N,), indices of the K classes.
        bins: number of bins.

    Returns:
        A row for every bin: low, high, images, confidence (mean), accuracy, and the bounds of its Wilson interval,
        accuracy_low and accuracy_high. Means and bounds are NaN for a bin without images.
    """
    confidence = softmax(logits).max(axis=1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    right = np.bincount(place[logits.argmax(axis=1) == labels], minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    edges = np.linspace(0, 1, bins + 1)
    means = {
        name: np.divide(sums, images, out=np.full(bins, np.nan), where=images > 0)
        for name, sums in (("confidence", sure), ("accuracy", right))
    }
    low, high = wilson(right.tolist(), images.tolist())
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "images": images, **means})
    return table.assign(accuracy_low=low, accuracy_high=high)


def expected_calibration_error(table: pd.DataFrame) -> float:
    """The mean distance of confidence and accuracy over the bins of a `reliability` table, weighted by images.

    Guo et al. (2017), equation 3. NaN without images.
    """
    if not table["images"].sum():
        return float("nan")
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["images"]).sum() / table["images"].sum())


UNCLEAR = "over- or under-confidence on average is not shown"


def caption(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: each model's expected calibration error, and whether it is over- or under-confident."""
    bins = len(next(iter(tables.values())))
    phrases = []
    for model, table in tables.items():
        sure, right = (
            np.average(table[name].fillna(0), weights=table["images"]) for name in ("confidence", "accuracy")
        )
        images = int(table["images"].sum())
        (low,), (high,) = wilson([round(right * images)], [images])
        word = "over-confident" if sure > high else "under-confident" if sure < low else UNCLEAR
        phrases.append(
            f"{model_label(model)} {expected_calibration_error(table):.3f} (mean confidence {sure:.3f}, accuracy "
            f"{right:.3f}: {word})"
        )
    return f"Expected calibration error over {bins} bins of equal width: {'; '.join(phrases)}."


@style.styled
def draw_reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each model: accuracy against confidence; below it the share of the images in each bin.

    The black dash of a bin is its mean confidence: a bar below the dash means over-confidence.
    """
    width = 5.6 if len(tables) == 1 else style.WIDTH
    figure, axes = panels(width, 5.4, 2, len(tables), sharex=True, sharey="row", height_ratios=[3, 1])
    for column, (model, table) in enumerate(tables.items()):
        top, below = axes[:, column]
        _draw_accuracy(top, model, table)
        below.bar(table["low"], 100 * table["images"] / table["images"].sum(), **_bar_options(table), color=style.QUIET)
        below.set(xlabel="confidence: probability of the predicted class")
        error = expected_calibration_error(table)
        top.set_title(f"{model_label(model)}: expected calibration error {error:.3f}, {len(table)} bins")
    label_first(axes[0], "accuracy")
    label_first(axes[1], "images (%)")
    key = axes[0, 0].get_legend_handles_labels()
    figure.legend(*key, loc="outside lower center", ncols=entries_in_row(len(key[1])))
    return figure


def _draw_accuracy(ax: Axes, model: str, table: pd.DataFrame) -> None:
    filled = table[table["images"] > 0]
    colour = style.model_colour(model)
    ax.bar(filled["low"], filled["accuracy"], **_bar_options(filled), color=colour, alpha=0.45, label="accuracy")
    span = [filled["accuracy"] - filled["accuracy_low"], filled["accuracy_high"] - filled["accuracy"]]
    middle = (filled["low"] + filled["high"]) / 2
    words = f"its {CONFIDENCE:.0%} interval"
    ax.errorbar(middle, filled["accuracy"], yerr=span, fmt="none", color=colour, capsize=2, label=words)
    ax.hlines(filled["confidence"], filled["low"], filled["high"], color=style.INK, lw=1.6, label="mean confidence")
    ax.plot([0, 1], [0, 1], color=style.QUIET, linewidth=1, linestyle=":")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.grid(True)


def _bar_options(table: pd.DataFrame) -> dict[str, Any]:
    """Options of `Axes.bar` that draw each bin over its whole width, with a gap to its neighbours."""
    return {"width": table["high"] - table["low"], "align": "edge", "edgecolor": style.PAPER, "linewidth": 0.8}
