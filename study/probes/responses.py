"""Responses of the CNN's filters to many images: mean, maximum, and its position."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from study.architectures import CNNConfig
from study.geometry import feature_sizes, receptive_fields
from study.images import normalise
from study.models import CNN
from study.system import interruption
from study.training import evaluation_batch


@dataclass(frozen=True)
class Responses:
    """Responses of one layer's filters to each image; all arrays are (N, filters)."""

    mean: np.ndarray
    """The mean of the pooled map, which is what the next layer sees; float32."""
    peak: np.ndarray
    """Maximum of the ReLU map over the units that count; float32."""
    top: np.ndarray
    """First row of the receptive field of the peak's unit; negative within the padding."""
    left: np.ndarray
    """First column of that receptive field."""
    side: int
    """Side of the receptive field, in pixels."""


@torch.no_grad()
def filter_responses(model: CNN, config: CNNConfig, images: Tensor) -> dict[str, Responses]:
    """Responses of each filter to each of `images`, by `conv1` and `conv2`.

    The unit with a peak is one of the ReLU map: with max pooling, a pooled unit answers with the one that wins its
    window, and so sees at most what that one sees (5 × 5 pixels in the first layer of the default network, 14 × 14 in
    the second; the windows taken together are 6 × 6 and 16 × 16); with average pooling it answers with the mean of its
    window. All units count that pooling passes on; in the first layer, where a border of zeros beside a bright or dark
    image outdoes what is in the image, those alone that see no padding, if there are any.

    Args:
        model: the network.
        config: what it was built from.
        images: uint8, (N, 3, side, side), N ≥ 1.
    """
    spans = {layer: _counted(config, layer, model.side) for layer in ("conv1", "conv2")}
    parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {layer: [] for layer in spans}
    for batch in images.split(evaluation_batch(model.fc.weight.device, images.shape[-1])):
        maps = normalise(batch.to(model.fc.weight.device))
        for layer, convolution in (("conv1", model.conv1), ("conv2", model.conv2)):
            passed = functional.relu_(convolution(maps))
            maps = model.pooled(passed)
            units = slice(spans[layer].start, spans[layer].stop)
            peak, unit = passed[:, :, units, units].flatten(2).max(dim=2)
            parts[layer].append((maps.mean(dim=(2, 3)), peak, unit))
        interruption.check()
    return {layer: _responses(config, layer, spans[layer], parts[layer]) for layer in spans}


def _counted(config: CNNConfig, layer: str, side: int) -> range:
    """The units, in one direction, that count for the peak."""
    pooled = f"pool{layer[-1]}"
    units = range(feature_sizes(config, side)[pooled] * config.pool)
    inside = [unit for unit in units if receptive_fields(config, side)[layer].inside(unit)]
    return range(inside[0], inside[-1] + 1) if layer == "conv1" and inside else units


def _responses(config: CNNConfig, layer: str, units: range, parts: list[tuple[Tensor, Tensor, Tensor]]) -> Responses:
    mean, peak, unit = (torch.cat(values).cpu().numpy() for values in zip(*parts, strict=True))
    # Where a field starts, its step and its side do not depend on the size of the image.
    field = receptive_fields(config)[layer]
    top, left = (field.start + field.step * (units.start + place) for place in np.divmod(unit, len(units)))
    return Responses(mean, peak, top, left, field.side)
