"""Filters that no longer do anything: how many are silent, and how many have lost their weights."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.images import normalise
from study.models import CNN

COLLAPSED = 1e-3
"""Below this in all its weights a filter counts as collapsed."""
BATCH = 250
"""Images at a time."""


def count(model: CNN, images: Tensor) -> dict[str, int]:
    """How many filters of each convolution are silent on `images`, how many have collapsed, and how many are both.

    Args:
        model: the network, on any device.
        images: uint8, (N, 3, 32, 32).

    Returns:
        for either layer, e.g. ``conv1``: ``silent_conv1``, filters whose ReLU gives zero everywhere on every image,
        computed in float32; ``collapsed_conv1``, filters whose weights are all smaller than `COLLAPSED`;
        ``silent_collapsed_conv1``, filters of which both is true.
    """
    counts = {}
    for layer, silent in silent_filters(model, images).items():
        collapsed = (_largest_weights(_convolutions(model)[layer]) < COLLAPSED).cpu()
        counts[f"silent_{layer}"] = int(silent.sum())
        counts[f"collapsed_{layer}"] = int(collapsed.sum())
        counts[f"silent_collapsed_{layer}"] = int((silent & collapsed).sum())
    return counts


@torch.no_grad()
def silent_filters(model: CNN, images: Tensor) -> dict[str, Tensor]:
    """Which filters of `conv1` and `conv2` are silent on `images` (N, 3, 32, 32): bool (filters,) on the CPU."""
    device = model.conv1.weight.device
    silent = {
        layer: torch.ones(convolution.out_channels, dtype=torch.bool)
        for layer, convolution in _convolutions(model).items()
    }
    for batch in images.split(BATCH):
        maps = model.conv1(normalise(batch.to(device)).contiguous(memory_format=torch.channels_last))
        silent["conv1"] &= _never_positive(maps)
        # One positive value settles a filter: only those without one are computed again, which are few.
        open_ones = silent["conv2"].nonzero().flatten()
        if len(open_ones):
            pooled = functional.relu(functional.max_pool2d(maps, model.pool))
            silent["conv2"][open_ones] = _never_positive(_some_maps(model.conv2, pooled, open_ones.to(device)))
        elif not silent["conv1"].any():
            break
    return silent


def _convolutions(model: CNN) -> dict[str, nn.Conv2d]:
    return {"conv1": model.conv1, "conv2": model.conv2}


def _largest_weights(convolution: nn.Conv2d) -> Tensor:
    return convolution.weight.detach().abs().amax((1, 2, 3))


def _never_positive(maps: Tensor) -> Tensor:
    return (maps.amax((0, 2, 3)) <= 0).cpu()


def _some_maps(convolution: nn.Conv2d, images: Tensor, filters: Tensor) -> Tensor:
    """What only these `filters` of the convolution make of `images`."""
    weight, bias = convolution.weight[filters], cast(Tensor, convolution.bias)[filters]
    shape = convolution.stride, cast(tuple[int, int], convolution.padding), convolution.dilation
    return functional.conv2d(images, weight, bias, *shape)
