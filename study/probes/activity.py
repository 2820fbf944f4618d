"""Filter activity: which filters are silent or collapsed, and the network without them.

A filter is a row of any layer that a ReLU follows: a convolution's filter, or a hidden unit of the FFNN.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from study.convolutions import Convolutions
from study.images import pick
from study.models import Model
from study.training import evaluation_batch, predict

COLLAPSED = 1e-3
"""A filter whose weights are all smaller than this counts as collapsed."""


@dataclass(frozen=True)
class Activity:
    """Activity of a layer's filters after ReLU; every array is (filters,)."""

    active_images: np.ndarray
    """Fraction of the sampled images with a positive output anywhere."""
    active_positions: np.ndarray
    """Fraction of all positions of the sampled images with a positive output."""
    silent: np.ndarray
    """Whether the output is zero everywhere on all images, not only the sampled ones."""


def rectified(model: Model) -> list[str]:
    """The layers that a ReLU follows, from the image on."""
    return [layer for layer, after in pairwise(model.layers) if after.startswith("relu")]


def stratified_rows(labels: Tensor, count: int) -> Tensor:
    """Stratified sample of about `count` rows (all if there are fewer), evenly spaced within each class; ascending."""
    return labels.argsort(stable=True)[:: max(1, len(labels) // count)].sort().values


def activity(model: Model, images: Tensor, rows: Tensor) -> dict[str, Activity]:
    """How active the filters of each rectified layer are, by the layer's name.

    The fractions are of a sample; silence is checked on all images. For a CNN half of whose second layer is silent, on
    10,000 images, that takes 2.3 s of one core's time, and counting everything on all of them 3.6 s.

    Args:
        model: the network.
        images: uint8, (N, 3, side, side).
        rows: rows of the sample.
    """
    shares = _shares(model, pick(images, rows))
    silent = silent_filters(model, images, {layer: of_images == 0 for layer, (of_images, _) in shares.items()})
    return {
        layer: Activity(of_images.cpu().numpy(), of_positions.cpu().numpy(), silent[layer].cpu().numpy())
        for layer, (of_images, of_positions) in shares.items()
    }


@torch.no_grad()
def convolution_activity(network: Convolutions, images: Tensor, layers: Collection[str]) -> dict[str, Activity]:
    """How active the filters of convolutions of any network are; those that no ReLU of their own follows are left out.

    Silence, too, is of these images alone: where weights are normalised, no bound can tell it.

    Args:
        network: the convolutions of a network.
        images: uint8, (N, 3, side, side).
        layers: which convolutions.
    """
    rectified = {f"relu{layer.removeprefix('conv')}": layer for layer in layers}
    sums: dict[str, Tensor] = {}

    def count(name: str, output: Tensor) -> None:
        if layer := rectified.get(name):
            sums[layer] = sums.get(layer, 0) + _positive(output.flatten(2))

    device = next(network.model.parameters()).device
    for batch in images.split(evaluation_batch(device, images.shape[-1])):
        with network.watching(count):
            predict(network.model, batch)
    shares = {layer: (summed / len(images)).cpu().numpy() for layer, summed in sums.items()}
    return {layer: Activity(of_images, places, of_images == 0) for layer, (of_images, places) in shares.items()}


def _positive(output: Tensor) -> Tensor:
    """Of an output (N, filters, positions), for each filter how many images and which shares of positions are above 0.

    (2, filters), summed over the images.
    """
    positive = (output > 0).float().mean(2).double()
    return torch.stack([(positive > 0).double().sum(0), positive.sum(0)])


def silent_filters(model: Model, images: Tensor, among: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Masks, bool (filters,) by layer, of the silent filters: zero after ReLU, everywhere, on every image.

    Exact up to float32's rounding: a filter that is not provably silent is computed until an image activates it.

    Args:
        model: the network, which may be in training.
        images: uint8, (N, 3, side, side).
        among: candidates, bool (filters,) by layer; by default all.
    """
    silent = outweighed(model)
    for layer, is_silent in silent.items():
        open_question = ~is_silent if among is None else ~is_silent & among[layer]
        is_silent[_never_active(model, layer, open_question.nonzero().flatten(), images)] = True
    return silent


def filter_counts(model: Model, images: Tensor) -> dict[str, int]:
    """Number of silent, collapsed, and both silent and collapsed filters of each rectified layer on `images`.

    Returns:
        for each layer, e.g. ``conv1``: ``silent_conv1``, see `silent_filters`; ``collapsed_conv1``, filters whose
        weights are all smaller than `COLLAPSED`; ``silent_collapsed_conv1``, filters of which both is true.
    """
    counts = {}
    for layer, silent in silent_filters(model, images).items():
        collapsed = _parameters(model, layer)[0].detach().abs().flatten(1).amax(1) < COLLAPSED
        counts[f"silent_{layer}"] = int(silent.sum())
        counts[f"collapsed_{layer}"] = int(collapsed.sum())
        counts[f"silent_collapsed_{layer}"] = int((silent & collapsed).sum())
    return counts


@torch.no_grad()
def _shares(model: Model, images: Tensor) -> dict[str, Tensor]:
    """The shares of images and of positions (2, filters) that are positive, by layer."""
    sums: dict[str, Tensor] = {}

    def count(layer: str, output: Tensor) -> None:
        sums[layer] = sums.get(layer, 0) + _positive(output)

    with _listening(model, count):
        predict(model, images)
    return {layer: summed / len(images) for layer, summed in sums.items()}


@contextmanager
def _listening(model: Model, hear: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tells `hear` what each rectified layer gives before ReLU, (N, filters, positions), while it is open."""

    def hook(layer: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        hear(layer, output.reshape(*output.shape[:2], -1))

    hooks = [model.get_submodule(layer).register_forward_hook(partial(hook, layer)) for layer in rectified(model)]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@torch.no_grad()
def outweighed(model: Model) -> dict[str, Tensor]:
    """The filters, bool (filters,) by layer, that are silent on any image: the bias outweighs all other terms.

    Bounds go from layer to layer. A normalised image is within [-1, 1], so no output exceeds bias + Σ|w|; a map after
    ReLU is within 0 and its own bound, so that only positive weights raise what the next layer makes of it. It takes
    no image, and finds most of the silent filters.
    """
    silent = {}
    highest: Tensor | None = None
    for layer in rectified(model):
        weight, bias = (tensor.double() for tensor in _parameters(model, layer))
        terms = raising = weight.abs().flatten(1)
        if highest is not None:
            each = highest.repeat_interleave(terms.shape[1] // len(highest))
            terms, raising = terms * each, weight.flatten(1).clamp(min=0) * each
        # The bound of the rounding errors of a sum in float32, in any order.
        rounding = torch.finfo(torch.float32).eps * terms.shape[1] * terms.sum(1)
        bound = bias + raising.sum(1) + rounding
        silent[layer] = bound <= 0
        highest = bound.clamp(min=0)
    return silent


def _parameters(model: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
    return model.get_parameter(f"{layer}.weight"), model.get_parameter(f"{layer}.bias")


@torch.no_grad()
def _never_active(model: Model, layer: str, filters: Tensor, images: Tensor) -> Tensor:
    """Those of `filters` that stay at or below zero on all of `images`."""
    highest: dict[str, Tensor] = {}

    def hear(layer: str, output: Tensor) -> None:
        highest[layer] = output.amax((0, 2))

    for batch in images.split(evaluation_batch(_parameters(model, layer)[0].device, images.shape[-1])):
        if not len(filters):
            break
        narrow = _narrowed(model, layer, filters)
        with _listening(narrow, hear):
            predict(narrow, batch)
        filters = filters[highest[layer] <= 0]
    return filters


def _narrowed(model: Model, layer: str, filters: Tensor) -> Model:
    """A copy that computes only `filters` of `layer`, and nothing with weights after it."""
    narrow = copy.deepcopy(model)
    weight, bias = _parameters(model, layer)
    module = narrow.get_submodule(layer)
    module.weight, module.bias = nn.Parameter(weight[filters]), nn.Parameter(bias[filters])
    names = [name for name, _ in model.named_children()]
    for after in names[names.index(layer) + 1 :]:
        narrow.set_submodule(after, nn.Identity())
    return narrow


@torch.no_grad()
def without(model: Model, dead: Mapping[str, np.ndarray]) -> Model:
    """A copy of `model` in which the maps of the `dead` filters (numbers, by layer) are zero."""
    cut = copy.deepcopy(model)
    for layer, filters in dead.items():
        for tensor in _parameters(cut, layer):
            tensor[torch.tensor(filters)] = 0
    return cut


def parameters_without(model: Model, dead: Mapping[str, np.ndarray]) -> int:
    """How many parameters a network has that lacks the `dead` filters and all weights that read their maps."""
    count, kept = Fraction(0), Fraction(1)
    for layer in (*rectified(model), model.layers[-1]):
        weight, bias = _parameters(model, layer)
        left = len(bias) - len(dead.get(layer, ()))
        count += left * (weight[0].numel() * kept + 1)
        kept = Fraction(left, len(bias))
    return int(count)
