"""Kernels as RGB pictures, to be drawn beside a filter's patches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize

from analysis.drawing import style


def kernel_pictures(weights: np.ndarray, dilation: int = 1) -> np.ndarray:
    """First-layer kernels as RGB pictures (filters, 1, side, side, 3) in 0..1, on one scale: mid-grey is zero.

    The scale ends at a percentile, see `style.limits_of_most`.

    Args:
        weights: (filters, 3, k, k), for red, green and blue.
        dilation: distance in pixels of neighbouring weights; the gaps are grey.
    """
    _, largest = style.limits_of_most(weights)
    return (0.5 + _spread_out(weights.transpose(0, 2, 3, 1)[:, None], dilation) / (2 * largest)).clip(0, 1)


def slice_pictures(weights: np.ndarray, inputs: Sequence[Sequence[int]], dilation: int = 1) -> np.ndarray:
    """Slices of some input channels of each filter, (filters, n, side, side, 3) in 0..1, on one scale: white is zero.

    Args:
        weights: (filters, channels, k, k).
        inputs: the n input channels to show of each filter.
        dilation: distance in pixels of neighbouring weights; the gaps are white.
    """
    chosen = np.take_along_axis(weights, np.asarray(inputs)[:, :, None, None], axis=1)
    shares = Normalize(*style.limits_of_most(weights))(_spread_out(chosen[..., None], dilation)[..., 0])
    return style.colour_map(style.DIVERGING)(shares)[..., :3]


def _spread_out(weights: np.ndarray, dilation: int) -> np.ndarray:
    """Weights (filters, n, k, k, colours) with the zeros between neighbours that the dilation inserts."""
    side = dilation * (weights.shape[2] - 1) + 1
    wide = np.zeros((*weights.shape[:2], side, side, weights.shape[-1]))
    wide[:, :, ::dilation, ::dilation] = weights
    return wide


def strongest_inputs(weights: np.ndarray, most: int = 3) -> list[list[int]]:
    """The input channels of each filter whose slices have the largest norm, largest first.

    Args:
        weights: (filters, channels, k, k).
        most: number of channels.
    """
    norms = np.linalg.norm(weights.reshape(*weights.shape[:2], -1).astype(np.float64), axis=2)
    return [order.tolist() for order in np.argsort(-norms, axis=1, kind="stable")[:, :most]]
