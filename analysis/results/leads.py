"""Which of several measures is the highest, and which it is tied with: how often each leads in bootstrap resamples.

The test images of each class are resampled by themselves, so that no class vanishes.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.drawing.wording import several
from analysis.results.proportions import CONFIDENCE

RESAMPLES = 1000
DRAWN_AT_ONCE = 4_000_000
"""Images drawn at once: bounds the memory for any number of images."""
NOTE = (
    f"Tied: the fewest that, with what is named before them, lead in {CONFIDENCE:.0%} of {RESAMPLES:,} bootstrap "
    "resamples of each class's test images."
)


def weights(labels: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each image is in each resample, (resamples, N) in float32, in parts of some resamples.

    Args:
        labels: (N,), the class of each image.
        resamples: how many.
        seed: of the draws.
    """
    rng, images = np.random.default_rng(seed), len(labels)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    step = max(1, DRAWN_AT_ONCE // max(1, images))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = [of_class[rng.integers(0, len(of_class), (rows, len(of_class)))] for of_class in members]
        places = np.concatenate([*drawn, np.empty((rows, 0), int)], axis=1) + images * np.arange(rows)[:, None]
        counts = np.bincount(places.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float32)


def sums(labels: np.ndarray, contributions: np.ndarray) -> np.ndarray:
    """The sums of contributions (N, …) over each resample of the images, (resamples, …)."""
    flat = contributions.reshape(len(labels), -1).astype(np.float32)
    parts = [part @ flat for part in weights(labels)]
    return np.concatenate(parts).reshape(-1, *contributions.shape[1:])


def lead_shares(resampled: np.ndarray) -> np.ndarray:
    """The share of resamples (…, n) in which each of n measures is the highest; equal ones share a resample.

    NaN never leads, unless all are.
    """
    values = np.where(np.isnan(resampled), -np.inf, resampled).reshape(-1, resampled.shape[-1])
    # Equal measures differ by the rounding errors of float32.
    leads = values >= values.max(axis=1, keepdims=True) - 1e-7
    return np.asarray((leads / leads.sum(axis=1, keepdims=True)).mean(axis=0))


def tied(shares: np.ndarray, leaders: Sequence[int]) -> list[int]:
    """The places tied with the leaders, most often first: with them, the fewest that lead in `CONFIDENCE` of resamples.

    Args:
        shares: from `lead_shares`.
        leaders: places of the highest measure, several if they are equal.
    """
    others = [int(place) for place in np.argsort(-shares, kind="stable") if place not in leaders]
    reached = shares[list(leaders)].sum() + np.cumsum([0.0, *shares[others]])
    return others[: int(np.searchsorted(reached, CONFIDENCE - 1e-9))]


def tie_clause(names: Sequence[str], noun: str = "", mark: str = ",") -> str:
    """A clause with the names that are tied with the one named before, after their noun; empty for none.

    Args:
        names: of the tied.
        noun: before the names, in the singular.
        mark: punctuation before the clause.
    """
    before = f"{noun}{'s' if len(names) > 1 else ''} " if noun else ""
    return f"{mark} tied with {before}{several(names)}" if names else ""
