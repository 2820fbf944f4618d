"""What a convolution and a max pooling do, with every number between input and output, as torch computes them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

EDGES = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
"""Sobel's kernel: positive where it gets brighter to the right. Small integers, so that one can reckon along."""


@dataclass(frozen=True, eq=False)
class Convolved:
    """A convolution of one input (C, H, W) with one kernel (C, k, k), and what happens at each place of its map."""

    padded: np.ndarray
    """The input with its border of zeros, (C, H + 2p, W + 2p)."""
    windows: np.ndarray
    """What the kernel lies on at each place, (H', W', C, k, k)."""
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
    made = functional.conv2d(image, kernel, torch.tensor([bias], dtype=torch.float64), **shape)[0, 0]
    columns = functional.unfold(image, kernel.shape[-1], **shape)[0]
    windows = columns.T.reshape(*made.shape, *kernel.shape[1:])
    padded = functional.pad(image[0], [padding] * 4)
    return Convolved(padded.numpy(), windows.numpy(), (windows * kernel).numpy(), made.numpy())


@torch.no_grad()
def rectify_and_pool(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ReLU of a map (H, W), then max pooling over squares of side `size`.

    Returns:
        The rectified map (H, W), the pooled map (H // size, W // size), and where each pooled value was taken from:
        row and column in the map, (H // size, W // size, 2).
    """
    rectified = functional.relu(torch.from_numpy(values))
    pooled, flat = functional.max_pool2d(rectified[None], size, return_indices=True)
    places = np.stack(np.unravel_index(flat[0].numpy(), values.shape), axis=-1)
    return rectified.numpy(), pooled[0].numpy(), places


def liveliest(channel: Tensor, side: int) -> tuple[int, int]:
    """The top row and left column of the square of `side` pixels in which `channel` (H, W) varies most.

    Of several, the first one row by row.
    """
    columns = functional.unfold(channel.double()[None, None], side)[0]
    place = int(columns.var(dim=0, correction=0).argmax())
    return divmod(place, channel.shape[1] - side + 1)
