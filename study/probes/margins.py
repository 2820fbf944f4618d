"""The decision that is explained: the margin of one class over another, and the margins that maps are counted from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from study.config import IMAGE_SIZE
from study.probes import transforms

BLUR = 1 / 8
"""Standard deviation of the blur that integrated gradients start from, as a share of the image's side."""
BATCH = 250
"""Images of the default size in one pass through the network."""

Pair = tuple[Tensor, Tensor | None]
"""Class numbers (N,) of a and of b; b None for the logit of a alone."""


@torch.no_grad()
def margins(network: nn.Sequential, images: Tensor, pair: Pair) -> Tensor:
    """The margins (N,) of a over b for normalised images."""
    a, b = pair
    logits = torch.cat([network(batch) for batch in images.split(batch_size(images))])
    rows = torch.arange(len(images))
    return logits[rows, a] - (0 if b is None else logits[rows, b])


def pair_of(a: int, b: int | None = None, images: int = 1) -> Pair:
    """The same two classes for a number of images."""
    return torch.full((images,), a), None if b is None else torch.full((images,), b)


def batch_size(images: Tensor) -> int:
    """Number of images as large as these in one pass through the network: fewer where they exceed the default."""
    return max(1, BATCH * IMAGE_SIZE**2 // max(images.shape[-1], IMAGE_SIZE) ** 2)


def batch_sizes(count: int, images: Tensor) -> list[int]:
    """Sizes of the batches for `count` images as large as these: one batch of images of at most the default size."""
    size = max(1, count * IMAGE_SIZE**2 // max(images.shape[-1], IMAGE_SIZE) ** 2)
    return [min(size, count - start) for start in range(0, count, size)]


def mean_of(parts: Sequence[tuple[int, Tensor]]) -> Tensor:
    """The mean over the images of several batches, from the size of each and the mean over its images."""
    total = sum(size for size, _ in parts)
    return torch.stack([values * (size / total) for size, values in parts]).sum(dim=0)


def blurred(images: Tensor) -> Tensor:
    """The images without anything smaller than about `BLUR` of their side."""
    side = images.shape[-1]
    return transforms.gaussian_blur(images, [2 * (side // 2) - 1] * 2, [side * BLUR] * 2)


def last_layer(network: nn.Sequential) -> nn.Linear:
    """The last layer of a twin."""
    layer = network[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def background_margin(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The mean margin (N,) of the background images, by the pair of each image."""
    a, b = pair
    return torch.stack(
        [
            margins(network, background, pair_of(int(a[n]), None if b is None else int(b[n]), len(background))).mean()
            for n in range(len(images))
        ]
    )


def grey_margin(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The margin (N,) of a grey image."""
    return margins(network, torch.zeros_like(images), pair)


def blurred_margin(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The margins (N,) of the blurred images."""
    return margins(network, blurred(images), pair)


def bias_margin(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The margin (N,) of the biases of the last layer alone."""
    bias, (a, b) = last_layer(network).bias.detach(), pair
    return bias[a] - (0 if b is None else bias[b])
