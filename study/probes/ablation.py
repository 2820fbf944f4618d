"""Ablation of the CNN's filters: the exact logits with each filter's map replaced in turn.

A filter is its map as the next layer sees it, after ReLU and pooling (`pool1`, `pool2`). It is replaced by

- ``mean``: the map's mean over a set of images, at each position by itself. What varies from image to image goes, and
  nothing else: every input of the next layer keeps its mean, in the middle as at the borders, where padding makes the
  maps differ. One constant for all positions would also take away that average shape, which says nothing of an image.
- ``zero``: nothing. That shifts the logits of all images as well, and so mixes evidence with bias.

Only what depends on a filter is computed anew: the linear layer is linear in each map of the second convolution, and
the second convolution in each map of the first. 96 filters on 10,000 images take 16 to 19 s of one core (AMD EPYC,
float32), the means before it 4 s.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from study.config import REPLACEMENTS
from study.errors import require_known
from study.images import normalise
from study.models import CNN, flat
from study.probes.activity import outweighed
from study.system import interruption
from study.training import evaluation_batch


@dataclass(frozen=True)
class Ablation:
    """Logits of the whole network, and without each filter."""

    logits: Tensor
    """(N, classes), float32: of the whole network."""
    without: dict[str, Tensor]
    """(filters, N, classes), float32, by `conv1` and `conv2`: with that filter's map replaced."""


@torch.no_grad()
def replacement_maps(model: CNN, images: Tensor, by: str = "mean") -> dict[str, Tensor]:
    """Replacements of the filters' pooled maps: (filters, H, W), float32, by `conv1` and `conv2`.

    Args:
        model: the network.
        images: uint8, (N, 3, side, side), N ≥ 1: the images of the mean.
        by: ``"mean"`` or ``"zero"``.

    Raises:
        StudyError: for another replacement.
    """
    require_known("replacement", by, REPLACEMENTS)
    if by == "zero":
        return {layer: torch.zeros_like(maps[0]) for layer, maps in _pooled(model, images[:1]).items()}
    # In double precision a map that is the same in all images has exactly itself for its mean.
    totals = {layer: torch.zeros_like(maps[0]).double() for layer, maps in _pooled(model, images[:1]).items()}
    for batch in images.split(evaluation_batch(model.fc.weight.device, images.shape[-1])):
        for layer, maps in _pooled(model, batch).items():
            totals[layer] += maps.sum(dim=0, dtype=torch.float64)
        interruption.check()
    return {layer: (total / len(images)).float() for layer, total in totals.items()}


def _pooled(model: CNN, images: Tensor) -> dict[str, Tensor]:
    first, _, second = _forward(model, images)
    return {"conv1": first, "conv2": second}


def _forward(model: CNN, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled maps of the first layer, output of the second convolution, pooled maps of the second layer."""
    first = model.rectified_and_pooled(model.conv1(normalise(images.to(model.fc.weight.device))))
    convolved = model.conv2(first)
    return first, convolved, model.rectified_and_pooled(convolved)


@torch.no_grad()
def ablate(model: CNN, images: Tensor, replacements: dict[str, Tensor]) -> Ablation:
    """The logits of `images` without each filter of both convolutions in turn.

    Needs memory for one batch and for the logits: 39 MB for 96 filters, 10,000 images and 10 classes.

    Args:
        model: the network.
        images: uint8, (N, 3, side, side).
        replacements: from `replacement_maps`, of these images or of others.
    """
    count, classes = len(images), model.fc.out_features
    logits = torch.empty(count, classes)
    without = {layer: torch.empty(len(maps), count, classes) for layer, maps in replacements.items()}
    size = evaluation_batch(model.fc.weight.device, images.shape[-1])
    # Second-layer filters that nothing can make active stay zero whatever the first layer gives. Where that is all,
    # none is left out, as a convolution needs one.
    living = ~outweighed(model)["conv2"]
    living |= ~living.any()
    for start, batch in zip(range(0, count, size), images.split(size), strict=True):
        place = slice(start, start + len(batch))
        first, convolved, second = _forward(model, batch)
        whole = model.fc(flat(second))
        logits[place] = whole
        without["conv2"][:, place] = whole - _shares(model, second - replacements["conv2"])
        for filter, changed in enumerate(_without_first(model, first - replacements["conv1"], convolved, living)):
            without["conv1"][filter, place] = changed
        interruption.check()
    return Ablation(logits, without)


def _shares(model: CNN, maps: Tensor) -> Tensor:
    """Contribution of each of the second layer's `maps` (N, filters, H, W) to the logits: (filters, N, classes)."""
    weights = model.fc.weight.unflatten(1, (maps.shape[1], -1))
    return maps.flatten(2).transpose(0, 1) @ weights.permute(1, 2, 0)


def _without_first(model: CNN, removed: Tensor, convolved: Tensor, living: Tensor) -> Iterator[Tensor]:
    """The logits (N, classes) without each filter of the first layer.

    Args:
        model: the network.
        removed: (N, filters, H, W), the part to subtract from each pooled map of the first layer.
        convolved: output of the second convolution for the whole maps.
        living: bool, which filters of the second layer to compute; the others are silent on any image.
    """
    layer = model.conv2
    # Choosing channels puts them first in memory, where pooling takes a CPU nine times as long.
    weight, convolved = layer.weight[living], convolved[:, living].contiguous(memory_format=torch.channels_last)
    read = model.fc.weight.unflatten(1, (len(living), -1))[:, living].flatten(1)
    for filter in range(removed.shape[1]):
        part = functional.conv2d(
            removed[:, filter : filter + 1],
            weight[:, filter : filter + 1],
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
        )
        left = torch.sub(convolved, part, out=part)
        yield functional.linear(flat(model.rectified_and_pooled(left)), read, model.fc.bias)
