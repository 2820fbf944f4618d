"""Test accuracy with and without images that have exact duplicates."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.drawing.wording import listed, model_label
from analysis.exhibit import Exhibit
from analysis.results.proportions import CONFIDENCE, wilson


def show(is_doubtful: np.ndarray, predictions: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Exhibit:
    """The accuracy of each model on all test images, and on those that are not doubtful.

    Args:
        is_doubtful: (N,), whether each test image is also a training image, or is in two classes.
        predictions: logits (N, K) and labels (N,) of the test images, by model.
    """
    table = accuracy(is_doubtful, predictions)
    heading = "The test accuracy without duplicates"
    return Exhibit("duplicates_accuracy", heading, caption(table), table, shown=readable(table))


def accuracy(is_doubtful: np.ndarray, predictions: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """The accuracy of each model on all test images, and on those that are not doubtful.

    Returns:
        A row for each model and set of images: model, without_duplicates, images, right, accuracy, and low and high of
        the Wilson interval; NaN if no image is left.
    """
    rows = []
    for model, (logits, labels) in predictions.items():
        is_right = logits.argmax(axis=1) == labels
        for without, kept in ((False, np.ones_like(is_doubtful)), (True, ~is_doubtful)):
            rows.append((model, without, int(kept.sum()), int(is_right[kept].sum())))
    table = pd.DataFrame(rows, columns=["model", "without_duplicates", "images", "right"])
    low, high = wilson(table["right"].tolist(), table["images"].tolist())
    return table.assign(accuracy=table["right"] / table["images"].replace(0, np.nan), low=low, high=high)


def caption(table: pd.DataFrame) -> str:
    """One sentence: each model's accuracy with and without duplicates."""
    images, clean = (int(table.loc[table["without_duplicates"] == without, "images"].iloc[0]) for without in (0, 1))
    doubtful = f"Of {images:,} test images {images - clean:,} are also training images or in two classes"
    if not clean:
        return f"{doubtful}: without them none is left to measure on."
    parts = [f"{_percent(rows)} rather than {rows['accuracy'].iloc[0]:.1%}" for rows in _by_model(table)]
    return f"{doubtful}; without them the accuracy is {listed(parts)}."


def _by_model(table: pd.DataFrame) -> Sequence[pd.DataFrame]:
    return [rows for _, rows in table.groupby("model", sort=False)]


def _percent(rows: pd.DataFrame) -> str:
    clean = rows.iloc[1]
    interval = f"{CONFIDENCE:.0%} interval {clean['low']:.1%} to {clean['high']:.1%}"
    return f"{clean['accuracy']:.1%} ({model_label(clean['model'])}, {interval})"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """An `accuracy` table formatted for the page."""
    interval = [
        "" if np.isnan(low) else f"{low:.1%} to {high:.1%}"
        for low, high in zip(table["low"], table["high"], strict=True)
    ]
    return pd.DataFrame(
        {
            "model": table["model"].map(model_label),
            "test images": np.where(table["without_duplicates"], "without duplicates", "all"),
            "count": table["images"],
            "accuracy": [f"{value:.1%}" if value == value else "undefined" for value in table["accuracy"]],
            f"{CONFIDENCE:.0%} interval": interval,
        }
    )
