"""One decision: the margin of one class over another in one image, and the shares that it consists of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MOST = 6
"""Filters shown of each layer."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The margin of one class over another in one image, and the shares that it consists of."""

    image: np.ndarray
    """(H, W, 3), bytes."""
    description: str
    classes: Sequence[str]
    chosen: int
    """Number of the class that positive shares speak for."""
    rival: int
    probabilities: np.ndarray
    """(classes,)."""
    margin: float
    mean_margin: float
    """Of the background images."""
    background: int
    """Number of background images."""
    pixels: np.ndarray
    """Shares (H, W)."""
    places: Mapping[str, np.ndarray]
    """Shares (filters, H, W), by layer."""
    against: Mapping[str, np.ndarray]
    """Shares (classes, filters) in the margin over each class, by layer."""
    links: np.ndarray
    """Shares (first layer's filters, second layer's)."""
    kernels: Mapping[str, np.ndarray]
    """(filters, channels, k, k), by layer."""

    @property
    def explained(self) -> float:
        """What pixels, filters and links each sum to."""
        return self.margin - self.mean_margin

    def shares(self, layer: str) -> np.ndarray:
        """The shares (filters,) in the margin over the rival."""
        return self.against[layer][self.rival]

    def leading(self, layer: str) -> list[int]:
        """The `MOST` filters with the largest shares, either way, from most for the class to most against it."""
        shares = self.shares(layer)
        largest = [filter for filter in np.argsort(-np.abs(shares), kind="stable")[:MOST] if shares[filter]]
        return sorted(map(int, largest), key=lambda filter: -shares[filter])
