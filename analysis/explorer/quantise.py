"""A convolution's weights as whole numbers, as coarse as what is drawn from them allows."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

NEGLIGIBLE = 1e-30
"""Collapsed weights fall to where numbers are subnormal and arithmetic slow; none so small can be seen."""
FINEST = 2.0**-24
"""The finest step, relative to a filter's largest weight: that of float32."""


def patches(inputs: np.ndarray, kernel: int, *, stride: int, padding: int, dilation: int) -> np.ndarray:
    """What a convolution's kernel, of side `kernel`, sees of `inputs` (N, C, H, W): a row (C·k·k) for each place."""
    extent = dilation * (kernel - 1) + 1
    padded = np.pad(inputs, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, (extent, extent), axis=(2, 3))
    seen = windows[:, :, ::stride, ::stride, ::dilation, ::dilation].transpose(0, 2, 3, 1, 4, 5)
    return seen.reshape(-1, inputs.shape[1] * kernel * kernel)


def quantise(
    weights: np.ndarray, seen: np.ndarray, *, weight_error: np.ndarray, map_error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The levels, int32 and shaped as `weights` (filters, C, k, k), and each filter's step; level × step is the weight.

    A filter's step is as large as keeps every weight within its `weight_error` (filters,), and the feature map's
    value at every place in `seen` (places, C·k·k; see `patches`) within its `map_error` (filters,).
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    rows[np.abs(rows) < NEGLIGIBLE] = 0
    finest = np.abs(rows).max(axis=1) * FINEST
    # Rounding errors are uniform and independent: over a patch they add up to this standard deviation per step.
    spread = max(float(np.sqrt((seen.astype(np.float64) ** 2).sum(axis=1).max() / 12)), 1e-12)
    step = np.clip(np.minimum(2 * weight_error, map_error / (4 * spread)), np.maximum(finest, NEGLIGIBLE), None)
    while True:
        step = step.astype(np.float32).astype(np.float64)
        levels = np.round(rows / step[:, None])
        error = np.abs(seen @ (levels * step[:, None] - rows).T.astype(np.float32)).max(axis=0)
        excessive = (error > map_error) & (step > finest)
        if not excessive.any():
            return levels.reshape(weights.shape).astype(np.int32), step.astype(np.float32)
        step[excessive] /= 1.5
