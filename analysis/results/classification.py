"""Classification measures: accuracy, precision, recall and F1, the report's Table 2."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import special

from analysis.drawing.wording import column_title, model_label

REPORTED = ["accuracy", "precision", "recall", "f1"]
"""The measures of the report's Table 2."""
MEASURES = [*REPORTED, "balanced_accuracy"]
REPORT_TABLE_2 = pd.DataFrame(
    [
        ("cnn", "test", 0.710, 0.708, 0.710, 0.706),
        ("ffnn", "test", 0.520, 0.518, 0.520, 0.518),
        ("cnn", "train", 0.832, 0.833, 0.832, 0.829),
        ("ffnn", "train", 0.589, 0.587, 0.589, 0.587),
    ],
    columns=["model", "split", *REPORTED],
)
"""Wik, "Tracing the Convolutions of a CNN" (2023), Table 2."""

TestPredictions = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Logits (N, K) and labels (N,) of the test images, by model."""
Predictions = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""Logits (N, K) and labels (N,), by (model, split)."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """The class probabilities (N, K) of logits (N, K), in float64, where fewer of a confident model round to 1."""
    return special.softmax(logits.astype(np.float64), axis=1)


def metrics_table(predictions: Predictions) -> pd.DataFrame:
    """The report's Table 2 (accuracy; precision, recall and F1 weighted by class size), and the balanced accuracy.

    Args:
        predictions: logits and labels by (model, split); without images the measures are NaN.

    Returns:
        model, split, images, accuracy, precision, recall, f1, balanced_accuracy.
    """
    rows = [(*key, len(labels), *_measures(logits, labels)) for key, (logits, labels) in predictions.items()]
    return pd.DataFrame(rows, columns=["model", "split", "images", *MEASURES])


def _measures(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return weighted_measures(*class_counts(logits, labels))


def class_counts(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each class the number of correct predictions, of images, and of predictions: (K,) each."""
    chosen, size = logits.argmax(axis=1), logits.shape[1]
    hits, sizes, taken = (np.bincount(values, minlength=size) for values in (labels[chosen == labels], labels, chosen))
    return hits, sizes, taken


def weighted_measures(hits: np.ndarray, sizes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The `MEASURES` (..., 5): precision, recall and F1 are averaged over the classes, weighted by their size.

    Equal to scikit-learn's with ``average="weighted", zero_division=0``, for any number of samples at once. The
    balanced accuracy is the unweighted mean of the recalls (macro recall), of the classes that have images. NaN without
    images.

    Args:
        hits: (..., K), the correctly predicted images of each class.
        sizes: (..., K), the images of each class.
        taken: (..., K), the images predicted as each class.
    """
    images = np.where(sizes.any(axis=-1), sizes.sum(axis=-1), np.nan)
    weights = sizes / images[..., None]
    precision = (weights * hits / np.maximum(taken, 1)).sum(axis=-1)
    f1 = (weights * 2 * hits / np.maximum(sizes + taken, 1)).sum(axis=-1)
    # Recall is hits / sizes: weighted by the sizes, its mean is the accuracy.
    accuracy = hits.sum(axis=-1) / images
    classes = np.where(sizes.any(axis=-1), np.count_nonzero(sizes, axis=-1), np.nan)
    balanced = (hits / np.maximum(sizes, 1)).sum(axis=-1) / classes
    return np.stack([accuracy, precision, accuracy, f1, balanced], axis=-1)


def to_markdown(table: pd.DataFrame) -> str:
    """The table in GitHub's Markdown: three decimals, models in capitals, NaN empty, numbers right-aligned."""
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    lines = [[column_title(name) for name in table], ["---:" if number else "---" for number in numeric]]
    lines += [[_cell(name, value) for name, value in row.items()] for row in table.to_dict("records")]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(name: object, value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return model_label(value) if name == "model" else str(value)
