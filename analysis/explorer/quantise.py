"""Quantises a convolution's weights as coarsely as the accuracy of the drawn maps allows."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

NEGLIGIBLE = 1e-30
"""Weights below this count as zero: they cannot be seen, and subnormal numbers make arithmetic slow."""
FINEST = 2.0**-24
"""The smallest step, relative to a filter's largest weight: the precision of float32."""


def patches(inputs: np.ndarray, kernel: int, *, stride: int, padding: int, dilation: int) -> np.ndarray:
    """The patches of `inputs` (N, C, H, W) under a kernel of side `kernel`: a row (C·k·k) for each position."""
    extent = dilation * (kernel - 1) + 1
    padded = np.pad(inputs, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, (extent, extent), axis=(2, 3))
    read = windows[:, :, ::stride, ::stride, ::dilation, ::dilation].transpose(0, 2, 3, 1, 4, 5)
    return read.reshape(-1, inputs.shape[1] * kernel * kernel)


def quantise(
    weights: np.ndarray, seen: np.ndarray, *, weight_error: np.ndarray, map_error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Integer levels, shaped as `weights` (filters, C, k, k), and each filter's step; a weight is about level × step.

    A filter's step keeps the error of every weight within its `weight_error` (filters,), and the error of the feature
    map at every position in `seen` (positions, C·k·k; see `patches`) within its `map_error` (filters,).
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    rows[np.abs(rows) < NEGLIGIBLE] = 0
    finest = np.abs(rows).max(axis=1) * FINEST
    # Rounding errors are uniform and independent: over a patch they add up to this standard deviation per step.
    # Not `(seen.astype(float) ** 2).sum(axis=1)`, whose two copies of all patches take gigabytes for large images.
    squares = np.einsum("ij,ij->i", seen, seen, dtype=np.float64)
    spread = max(float(np.sqrt(squares.max() / 12)), 1e-12)
    step = np.clip(np.minimum(2 * weight_error, map_error / (4 * spread)), np.maximum(finest, NEGLIGIBLE), None)
    while True:
        step = step.astype(np.float32).astype(np.float64)
        levels = np.round(rows / step[:, None])
        error = np.abs(seen @ (levels * step[:, None] - rows).T.astype(np.float32)).max(axis=0)
        excessive = (error > map_error) & (step > finest)
        if not excessive.any():
            return levels.reshape(weights.shape).astype(np.int32), step.astype(np.float32)
        step[excessive] /= 1.5
