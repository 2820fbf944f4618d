"""Bootstrap of the classification measures: how much they would vary with other images."""

import numpy as np

from analysis.results.classification import MEASURES, Predictions, weighted_measures

RESAMPLES = 2000
DRAWN_AT_ONCE = 1_000_000
"""Counts drawn at once (8 MB): bounds the memory for any number of images."""


def bootstrap(
    predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[tuple[str, str], np.ndarray]:
    """The `MEASURES` of bootstrap resamples of the images, (resamples, 5) by (model, split).

    All models of a split share the resamples, so that their rows can be subtracted as pairs. Instead of images, the
    counts of each combination of class and predictions are drawn from a multinomial distribution, which is equivalent
    (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 6). NaN for a split without images.

    Raises:
        ValueError: if the labels of two models differ in a split.
    """
    resampled: dict[tuple[str, str], np.ndarray] = {}
    for split in dict.fromkeys(split for _, split in predictions):
        models = [model for model, of in predictions if of == split]
        labels = predictions[models[0], split][1]
        if any(not np.array_equal(labels, predictions[model, split][1]) for model in models):
            raise ValueError(f"The models were not given the same {split} images: they cannot be compared in pairs.")
        chosen = [predictions[model, split][0].argmax(axis=1) for model in models]
        classes = predictions[models[0], split][0].shape[1]
        values = _resample(np.stack([labels, *chosen], axis=1), classes, resamples, np.random.default_rng(seed))
        resampled |= {(model, split): values[place] for place, model in enumerate(models)}
    return resampled


def _resample(outcomes: np.ndarray, classes: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """The measures (models, resamples, 5) of `outcomes` (N, 1 + models): the true class, each model's prediction."""
    images, models = len(outcomes), outcomes.shape[1] - 1
    if not images:
        return np.full((models, resamples, len(MEASURES)), np.nan)
    cells, counts = np.unique(outcomes, axis=0, return_counts=True)
    true, *predicted = np.moveaxis(np.eye(classes)[cells], 1, 0)
    parts = []
    step = max(1, DRAWN_AT_ONCE // len(cells))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(images, counts / images, size=min(step, resamples - start)).astype(float)
        sizes = drawn @ true
        parts.append([weighted_measures(drawn @ (true * taken), sizes, drawn @ taken) for taken in predicted])
    return np.concatenate(parts, axis=1)
