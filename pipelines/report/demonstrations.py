"""Numbers for the figures on how layers compute: convolution, padding, dilation, stride and pooling on one image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis.layers import worked_example
from pipelines.report.network import Network
from study.architectures import CNNConfig
from study.data import normalise
from study.probes.convolution import EDGES, convolve, highest_variance_patch, rectify_and_pool
from study.selection import SelectedImage

PATCH = 8
"""Side in pixels of the patch whose numbers are written out."""
GREEN = 1
"""The channel of the patch: brightness depends most on green."""
SETTINGS = (1, 2, 3)
"""The dilations and the strides that are compared."""
POOL = 2
"""Side of the squares that are pooled."""
PLACES = [(0, 0), (0, 1), (5, 5)]
"""Positions in the patch's map that are computed step by step: the first, its neighbour and the last."""
Panels = dict[str, np.ndarray]


@dataclass(frozen=True)
class Patch:
    """A piece of the image's green channel whose numbers are written out."""

    channel: torch.Tensor
    """The whole channel, (1, H, W)."""
    values: torch.Tensor
    """(1, h, w)."""
    corner: tuple[int, int]
    """Its first row and column."""


def patch(image: SelectedImage) -> Patch:
    """The patch in which the image varies most."""
    channel = image.image[GREEN]
    top, left = highest_variance_patch(channel, PATCH)
    return Patch(channel[None], channel[None, top : top + PATCH, left : left + PATCH], (top, left))


def convolution(patch: Patch) -> Panels:
    """A convolution of the patch, step by step at `PLACES`; see `operations.draw_convolution`."""
    steps = convolve(patch.values, EDGES[None])
    panels = {"patch": patch.values[0].numpy(), "kernel": EDGES.numpy(), "map": steps.map}
    for count, place in enumerate(PLACES, start=1):
        panels |= {f"window {count}": steps.windows[place][0], f"products {count}": steps.products[place][0]}
    return panels | {"whole map": convolve(patch.channel, EDGES[None]).map}


def padding(patch: Patch) -> Panels:
    """The patch convolved with and without padding; see `operations.draw_padding`."""
    panels = {"kernel": EDGES.numpy()}
    for width in (0, 1):
        steps = convolve(patch.values, EDGES[None], padding=width)
        panels |= {f"input, padding {width}": steps.padded[0], f"map, padding {width}": steps.map}
    return panels


def dilation(patch: Patch) -> Panels:
    """Patch and channel convolved with several dilations; see `operations.draw_dilation`."""
    return _by_setting(patch, "dilation")


def stride(patch: Patch) -> Panels:
    """Patch and channel convolved with several strides; see `operations.draw_stride`."""
    return _by_setting(patch, "stride")


def _by_setting(patch: Patch, name: str) -> Panels:
    panels = {"patch": patch.values[0].numpy(), "kernel": EDGES.numpy()}
    for setting in SETTINGS:
        shape = {name: setting}
        panels[f"map, {name} {setting}"] = convolve(patch.values, EDGES[None], **shape).map
        panels[f"whole map, {name} {setting}"] = convolve(patch.channel, EDGES[None], **shape).map
    return panels


def pooling(patch: Patch) -> tuple[Panels, int]:
    """ReLU and max pooling of the channel's map and of a piece of it, and the size; see `pooling.draw_pooling`."""
    whole = convolve(patch.channel, EDGES[None]).map
    rectified, pooled, _ = rectify_and_pool(whole, POOL)
    panels = {"whole map": whole, "whole ReLU": rectified, "whole pooled": pooled}
    # Not the patch of the other figures, but the one that varies most after ReLU.
    top, left = highest_variance_patch(torch.from_numpy(rectified), PATCH)
    piece = whole[top : top + PATCH, left : left + PATCH].copy()
    rectified, pooled, places = rectify_and_pool(piece, POOL)
    kept = np.zeros(piece.shape)
    kept[*places.reshape(-1, 2).T] = pooled.ravel() > 0
    return panels | {"map": piece, "ReLU": rectified, "pooled": pooled, "kept": kept}, POOL


def worked_value(network: Network, filter: int, image: SelectedImage) -> dict[str, Any]:
    """The largest value of the map of a filter of conv1, step by step; the arguments of `worked_example.show`.

    Of all values whose window lies within the image, so that no pixel is padding; of all if there are none.
    """
    config, weights = network.config.model, network.weights(network.last)
    assert isinstance(config, CNNConfig)
    kernel, bias = weights["conv1.weight"][filter], float(weights["conv1.bias"][filter])
    shape = {"padding": config.padding, "stride": config.stride, "dilation": config.dilation}
    steps = convolve(normalise(image.image), kernel, bias, **shape)
    reach = config.dilation * (config.kernel - 1) + 1
    row, column = _largest_within(steps.map, config, reach, image.image.shape[-1])
    return {
        "numbers": worked_example.panels(
            steps.windows[row, column], kernel.numpy(), steps.products[row, column], steps.map
        ),
        "filter": filter,
        "place": (row, column),
        "bias": bias,
        "image": image.pixels,
        "box": [row * config.stride - config.padding, column * config.stride - config.padding, reach, reach],
    }


def _largest_within(values: np.ndarray, config: CNNConfig, reach: int, side: int) -> tuple[int, int]:
    """Row and column of the largest value whose window of `reach` pixels lies within an image of `side` pixels."""
    firsts = np.arange(len(values)) * config.stride - config.padding
    is_within = (firsts >= 0) & (firsts + reach <= side)
    candidates = np.where(np.outer(is_within, is_within), values, -np.inf) if is_within.any() else values
    row, column = np.unravel_index(candidates.argmax(), values.shape)
    return int(row), int(column)
