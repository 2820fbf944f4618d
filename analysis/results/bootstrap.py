"""Measures of images that are drawn anew with replacement: how far other images would have changed them."""

import numpy as np

from analysis.results.classification import MEASURES, Predictions, weighted_measures

RESAMPLES = 2000
DRAWN_AT_ONCE = 1_000_000
"""Counts that are drawn at once, 8 MB of them: bounds the memory for any number of images."""


def bootstrap(
    predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[tuple[str, str], np.ndarray]:
    """The measures (resamples, 4), see `MEASURES`, of images drawn anew with replacement, by (model, split).

    All models of a split see the same draws, so that row by row they can be subtracted. What is drawn is how often
    each combination of class and predictions occurs, a multinomial: the same as drawing images, without the images
    (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 6). NaN for a split without images.

    Raises:
        ValueError: for models whose labels in a split differ.
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
    """The measures (models, resamples, 4) of `outcomes` (N, 1 + models): the class, and what each model took it for."""
    images, models = len(outcomes), outcomes.shape[1] - 1
    if not images:
        return np.full((models, resamples, len(MEASURES)), np.nan)
    cells, counts = np.unique(outcomes, axis=0, return_counts=True)
    true, *taken = np.moveaxis(np.eye(classes)[cells], 1, 0)
    parts = []
    step = max(1, DRAWN_AT_ONCE // len(cells))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(images, counts / images, size=min(step, resamples - start)).astype(float)
        sizes = drawn @ true
        parts.append([weighted_measures(drawn @ (true * one), sizes, drawn @ one) for one in taken])
    return np.concatenate(parts, axis=1)
