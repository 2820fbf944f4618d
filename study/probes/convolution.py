"""Convolution and max pooling step by step, with all intermediate values, as torch computes them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

EDGES = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
"""Sobel's kernel: positive where it gets brighter to the right. Small integers, to follow the arithmetic by hand."""


@dataclass(frozen=True, eq=False)
class Convolved:
    """Convolution of an input (C, H, W) with a kernel (C, k, k), with the products at each position."""

    padded: np.ndarray
    """The input with its border of zeros, (C, H + 2p, W + 2p)."""
    windows: np.ndarray
    """The input below the kernel at each position, (H', W', C, k, k)."""
    products: np.ndarray
    """The windows times the kernel, (H', W', C, k, k)."""
    map: np.ndarray
    """torch's convolution, (H', W'): the sums of the products, and the bias."""


@torch.no_grad()
def convolve(
    image: Tensor, kernel: Tensor, bias: float = 0.0, *, padding: int = 0, stride: int = 1, dilation: int = 1
) -> Convolved:
    """Every step of convolving `image` (C, H, W) with one `kernel` (C, k, k), in float64.

    `Convolved.map` is torch's own convolution; the windows are those that its `unfold` lays below the kernel.
    """
    image, kernel = image.double()[None], kernel.double()[None]
    shape = {"padding": padding, "stride": stride, "dilation": dilation}
    output = functional.conv2d(image, kernel, torch.tensor([bias], dtype=torch.float64), **shape)[0, 0]
    columns = functional.unfold(image, kernel.shape[-1], **shape)[0]
    windows = columns.T.reshape(*output.shape, *kernel.shape[1:])
    padded = functional.pad(image[0], [padding] * 4)
    return Convolved(padded.numpy(), windows.numpy(), (windows * kernel).numpy(), output.numpy())


@torch.no_grad()
def rectify_and_pool(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ReLU of a map (H, W), then max pooling over squares of side `size`.

    Returns:
        The rectified map (H, W), the pooled map (H // size, W // size), and the position of each pooled value:
        row and column in the map, (H // size, W // size, 2).
    """
    rectified = functional.relu(torch.from_numpy(values))
    pooled, flat = functional.max_pool2d(rectified[None], size, return_indices=True)
    places = np.stack(np.unravel_index(flat[0].numpy(), values.shape), axis=-1)
    return rectified.numpy(), pooled[0].numpy(), places


def highest_variance_patch(channel: Tensor, side: int) -> tuple[int, int]:
    """Top row and left column of the square of `side` pixels with the highest variance in `channel` (H, W).

    Ties: the first one, row by row.
    """
    columns = functional.unfold(channel.double()[None, None], side)[0]
    place = int(columns.var(dim=0, correction=0).argmax())
    return divmod(place, channel.shape[1] - side + 1)
