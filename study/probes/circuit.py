"""The circuit of one decision: how pixels, filters and links between filters share in a margin.

The margin is the logit of class a minus that of class b. It is counted from its mean over background images, and
DeepSHAP (DeepLIFT averaged over them) divides the difference four times: among the pixels, the first layer's filters,
the second layer's, and the links from a filter of one to a filter of the other. Each division sums to the difference.
The second layer's shares are exact, whatever the method: the last layer is linear in its pooled maps, so that a share
is what the margin loses with the filter's map replaced by its mean over the background.

One backward pass serves all classes and links. Between the convolution's output and the last layer each map stays by
itself, so that DeepLIFT's multipliers there are those of ReLU and pooling, times the weights of the last layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from captum.attr import LayerDeepLift
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from study.errors import require
from study.images import Labelled, normalise, pick
from study.models import CNN
from study.probes.activity import stratified_rows
from study.probes.attributions import deep_shap
from study.probes.margins import batch_size, mean_of, pair_of
from study.probes.twin import quietly, twin
from study.system import interruption
from study.training import evaluation_batch

BACKGROUND = 100
"""Number of background images."""


@dataclass(frozen=True, eq=False)
class Circuit:
    """How a decision of class a over class b came about."""

    a: int
    b: int
    logits: np.ndarray
    """(classes,), of the image."""
    mean_logits: np.ndarray
    """(classes,), over the background."""
    pixels: np.ndarray
    """Shares of the pixels: (side, side)."""
    places: dict[str, np.ndarray]
    """Shares of the filters at each position of their pooled maps: (filters, H, W), by `conv1` and `conv2`."""
    links: np.ndarray
    """Shares of the links: (first layer's filters, second layer's filters)."""
    of_logits: dict[str, np.ndarray]
    """Shares of the filters in each logit: (classes, filters), by `conv1` and `conv2`."""

    @property
    def margin(self) -> float:
        """The margin of the image."""
        return float(self.logits[self.a] - self.logits[self.b])

    @property
    def mean_margin(self) -> float:
        """The mean margin of the background; every division sums to `margin` minus this."""
        return float(self.mean_logits[self.a] - self.mean_logits[self.b])

    def shares(self, layer: str) -> np.ndarray:
        """The shares (filters,) of a layer's filters in the margin."""
        return self.of_logits[layer][self.a] - self.of_logits[layer][self.b]

    def against_each(self, layer: str) -> np.ndarray:
        """The shares (classes, filters) of a layer's filters in the margin of a over each class."""
        return self.of_logits[layer][self.a] - self.of_logits[layer]


def background(train: Labelled, count: int = BACKGROUND) -> Tensor:
    """A stratified sample of `count` training images, as uint8; all of them where there are fewer."""
    rows = stratified_rows(train.labels, count)
    return pick(train.images, rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()])


def rival_of(logits: np.ndarray, label: int | None = None) -> tuple[int, int]:
    """The predicted class and its rival: the true class where the prediction is wrong, else the runner-up.

    Raises:
        StudyError: where there is one class alone.
    """
    require(len(logits) > 1, "A single class has no rival: an explanation needs two classes.")
    order = logits.argsort(kind="stable")[::-1]
    predicted, runner_up = int(order[0]), int(order[1])
    return predicted, runner_up if label is None or label == predicted else label


def circuit(model: CNN, image: Tensor, a: int, b: int, background: Tensor) -> Circuit:
    """The circuit of the margin of class a over class b.

    Takes 1.1 s of one core's time for the study's CNN and 100 background images (Intel Xeon).

    Args:
        model: the network, on the CPU.
        image: uint8, (3, side, side).
        a: number of the class in whose favour positive shares are.
        b: number of its rival.
        background: uint8, (N, 3, side, side).
    """
    # Of large images a few at a time: the maps of 100 images of 256 pixels would take 24 GB.
    batches, parts = background.split(batch_size(background)), list[Circuit]()
    for batch in batches:
        interruption.check()
        parts.append(_circuit(model, image, a, b, batch))

    def mean(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return mean_of([(len(batch), torch.from_numpy(of)) for batch, of in zip(batches, arrays, strict=True)]).numpy()

    return replace(
        parts[0],
        mean_logits=mean(part.mean_logits for part in parts),
        pixels=mean(part.pixels for part in parts),
        places={layer: mean(part.places[layer] for part in parts) for layer in parts[0].places},
        links=mean(part.links for part in parts),
        of_logits={layer: mean(part.of_logits[layer] for part in parts) for layer in parts[0].of_logits},
    )


def _circuit(model: CNN, image: Tensor, a: int, b: int, background: Tensor) -> Circuit:
    """The circuit over a background of few images; all but the image's logits are means over it."""
    inputs, others = normalise(image[None]), normalise(background)
    pixels = deep_shap(twin(model), inputs, pair_of(a, b), others)[0]
    with torch.no_grad():
        maps, mean_maps = (model.activations(images) for images in (inputs, others))
        weights = model.fc.weight.unflatten(1, (-1, *maps["pool2"].shape[2:]))
        second = (maps["pool2"] - mean_maps["pool2"].mean(dim=0)) * weights
        difference = maps["pool1"] - mean_maps["pool1"]
    ratios = _ratios(model, maps["pool1"], mean_maps["pool1"])
    links = torch.stack([_links(model, difference, _weighted(ratios, of_class, model.pool)) for of_class in weights])
    first = _first_places(model, difference, _weighted(ratios, weights[a] - weights[b], model.pool))
    return Circuit(
        a,
        b,
        logits=maps["fc"][0].numpy(),
        mean_logits=mean_maps["fc"].mean(dim=0).numpy(),
        pixels=pixels.numpy(),
        places={"conv1": first.numpy(), "conv2": (second[a] - second[b]).numpy()},
        links=(links[a] - links[b]).numpy(),
        of_logits={"conv1": links.sum(dim=2).numpy(), "conv2": second.sum(dim=(2, 3)).numpy()},
    )


class _Sum(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(1).sum(dim=1)


def _ratios(model: CNN, maps: Tensor, background: Tensor) -> Tensor:
    """DeepLIFT's multipliers of ReLU and pooling at the second convolution's output, for each background image."""
    named = dict(twin(model).named_children())
    tail = nn.Sequential(*(named[name] for name in ("conv2", "relu2", "separator2", "pool2")), _Sum())
    method = LayerDeepLift(tail, tail[0])
    with quietly():
        multipliers: Tensor = method.attribute(
            maps.expand_as(background).clone(),
            background.clone(),
            custom_attribution_func=lambda multipliers, inputs, baselines: multipliers,
        )
    return multipliers.detach()


def _weighted(ratios: Tensor, weights: Tensor, pool: int) -> Tensor:
    """The multipliers at the convolution's output, for the last layer's `weights` (filters, H, W)."""
    enlarged = weights.repeat_interleave(pool, dim=-2).repeat_interleave(pool, dim=-1)
    height, width = (size - part for size, part in zip(ratios.shape[-2:], enlarged.shape[-2:], strict=True))
    return ratios * functional.pad(enlarged, (0, width, 0, height)).detach()


def _geometry(layer: nn.Conv2d) -> dict[str, tuple[int, ...]]:
    assert not isinstance(layer.padding, str)
    return {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}


def _links(model: CNN, difference: Tensor, multipliers: Tensor) -> Tensor:
    """Shares of the links (first, second): each weight times its gradient, where the input is the `difference`."""
    layer = model.conv2
    gradient = conv2d_weight(difference, layer.weight.shape, multipliers, **_geometry(layer))
    return ((layer.weight.detach() * gradient).sum(dim=(2, 3)) / len(difference)).T


def _first_places(model: CNN, difference: Tensor, multipliers: Tensor) -> Tensor:
    """Shares of the first layer's filters at each position: (filters, H, W)."""
    layer = model.conv2
    gradient = conv2d_input(difference.shape, layer.weight.detach(), multipliers, **_geometry(layer))
    return (gradient * difference).mean(dim=0)


@torch.no_grad()
def second_layer_shares(model: CNN, images: Tensor, background: Tensor) -> Tensor:
    """The exact shares of the second layer's filters in the logits of many images: (N, filters, classes).

    Each image's logits minus the mean logits of the background are the sum over filters.

    Args:
        model: the network, on the CPU.
        images: uint8, (N, 3, side, side).
        background: uint8, (M, 3, side, side).
    """
    size = evaluation_batch(images.device, images.shape[-1])
    mean = torch.cat([_pooled(model, batch) for batch in background.split(size)]).mean(dim=0)
    weights = model.fc.weight.unflatten(1, (len(mean), -1))
    shares = []
    for batch in images.split(size):
        interruption.check()
        shares.append(torch.einsum("nfp,cfp->nfc", (_pooled(model, batch) - mean).flatten(2), weights))
    return torch.cat(shares)


def _pooled(model: CNN, images: Tensor) -> Tensor:
    maps = normalise(images)
    for convolution in (model.conv1, model.conv2):
        maps = model.rectified_and_pooled(convolution(maps))
    return maps
