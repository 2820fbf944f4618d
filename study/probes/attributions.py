"""Attribution methods: for one decision of a network, a value for each pixel of the image. All are Captum's.

The decision is a margin, the logit of class a minus that of class b, or the logit of a alone. Every method takes the
twin of a network (`study.probes.twin`), normalised images, the two classes and background images, and returns a map
per image, summed over the color channels. `METHODS` lists them with what is known of each beforehand: whether its maps
have a sign, and which number their pixels sum to. Which of them can be believed is measured, not listed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import (
    DeepLiftShap,
    GradientShap,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LayerGradCam,
    LayerGradientXActivation,
    Lime,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn
from torch.nn import functional

from study.config import IMAGE_SIZE
from study.probes.margins import (
    Pair,
    background_margin,
    batch_size,
    batch_sizes,
    bias_margin,
    blurred,
    blurred_margin,
    grey_margin,
    last_layer,
    mean_of,
)
from study.probes.twin import margin_index, quietly, with_margins
from study.system import interruption

SEED = 0
"""Seed of the methods that draw samples; the same images give the same maps."""
GRID = 8
"""Number of cells along a side of the image; LIME and KernelSHAP switch the 8 × 8 cells on and off."""
WINDOW, STRIDE = 6, 2
"""Side and step, in pixels of an image of the default size, of the square that occlusion covers with grey."""
STEPS = 500
"""Steps of integrated gradients: 200 leave up to 1.7 % of the margin unexplained on single images."""
SAMPLES = {"expected_gradients": 300, "lime": 500, "kernel_shap": 1000, "smoothgrad_squared": 50}
NOISE = 0.3
"""Standard deviation of SmoothGrad's noise: 15 % of the range of normalised pixels."""

MapFunction = Callable[[nn.Sequential, Tensor, Pair, Tensor], Tensor]
"""A method: twin, normalised images (N, 3, H, W), pair, normalised background images → maps (N, H, W)."""
ReferenceFunction = Callable[[nn.Sequential, Tensor, Pair, Tensor], Tensor]
"""Takes what a method takes; returns the margin (N,) that the maps' sums are counted from."""


@dataclass(frozen=True)
class Method:
    """An attribution method and what is known of it beforehand."""

    title: str
    maps: MapFunction
    signed: bool = True
    """Whether negative values speak against the class."""
    reference: ReferenceFunction | None = None
    """The pixels of a map sum to the margin minus this one; None: to nothing in particular."""
    less: str = ""
    """The reference in words: "margin minus …"."""
    exact: bool = True
    """Whether the sum holds to rounding; otherwise up to the error of a sample or of finite steps."""
    layer: str = ""
    """A layer that the method needs; empty: it applies to any network."""

    def applies(self, network: nn.Sequential) -> bool:
        """Whether the network has the layer that the method needs."""
        return not self.layer or self.layer in dict(network.named_children())


def cells(side: int) -> Tensor:
    """The number of the cell of each pixel, of 8 × 8 as equal as the side allows: int64, (side, side)."""
    rows = torch.arange(side) * GRID // side
    return rows[:, None] * GRID + rows[None, :]


def deep_shap(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """DeepLIFT, averaged over the background images."""

    def of(image: Tensor, target: Tensor) -> Tensor:
        method, batches = DeepLiftShap(with_margins(network)), background.split(batch_size(background))
        return mean_of([(len(batch), method.attribute(image, batch, target=target)) for batch in batches])

    return _each(network, images, pair, of)


def expected_gradients(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """Gradients at random points between the image and background images, times their distance."""

    def of(image: Tensor, target: Tensor) -> Tensor:
        method, sizes = GradientShap(with_margins(network)), batch_sizes(SAMPLES["expected_gradients"], image)
        return mean_of([(size, method.attribute(image, background, n_samples=size, target=target)) for size in sizes])

    return _each(network, images, pair, of)


def integrated_gradients(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The gradient along the straight line from grey to the image."""
    return _integrated(network, images, pair, torch.zeros_like)


def integrated_gradients_blur(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The gradient along the straight line from the blurred image to the image."""
    return _integrated(network, images, pair, blurred)


def _integrated(network: nn.Sequential, images: Tensor, pair: Pair, start: Callable[[Tensor], Tensor]) -> Tensor:
    def of(image: Tensor, target: Tensor) -> Tensor:
        return IntegratedGradients(with_margins(network)).attribute(
            image,
            start(image),
            target=target,
            n_steps=STEPS,
            method="riemann_middle",
            internal_batch_size=batch_size(image),
        )

    return _each(network, images, pair, of)


def occlusion(
    network: nn.Sequential,
    images: Tensor,
    pair: Pair,
    background: Tensor,
    *,
    window: int | None = None,
    stride: int | None = None,
) -> Tensor:
    """What the margin loses where a square is covered with grey, averaged over the squares that cover a pixel.

    `window` and `stride` are the square's side and step in pixels; by default `WINDOW` and `STRIDE`, scaled with the
    images.
    """
    window = window or _scaled(WINDOW, images)
    stride = stride or _scaled(STRIDE, images)

    def of(image: Tensor, target: Tensor) -> Tensor:
        channels = image.shape[1]
        changes = Occlusion(with_margins(network)).attribute(
            image,
            (channels, window, window),
            (channels, stride, stride),
            0,
            target,
            perturbations_per_eval=batch_size(image),
        )
        return changes / channels  # Captum gives the loss to each channel

    return _each(network, images, pair, of)


def _scaled(pixels: int, images: Tensor) -> int:
    """A length in images of the default size, as pixels of `images`."""
    return max(1, round(pixels * images.shape[-1] / IMAGE_SIZE))


def lime(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """A linear model of the margin, fitted to random choices of cells, the others grey (ridge, as the paper's code)."""
    return _by_cells(partial(Lime, interpretable_model=SkLearnRidge(alpha=1.0)), "lime", network, images, pair)


def kernel_shap(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """Shapley values of the cells against grey, estimated from random coalitions."""
    return _by_cells(KernelShap, "kernel_shap", network, images, pair)


def _by_cells(
    method: Callable[[nn.Module], Lime], name: str, network: nn.Sequential, images: Tensor, pair: Pair
) -> Tensor:
    mask = cells(images.shape[-1])[None, None]
    pixels = mask.flatten().bincount()[mask] * images.shape[1]

    def of(image: Tensor, target: Tensor) -> Tensor:
        values = method(with_margins(network)).attribute(
            image, 0, target, feature_mask=mask, n_samples=SAMPLES[name], perturbations_per_eval=batch_size(image)
        )
        return values / pixels  # a cell's value, spread over its pixels

    return _each(network, images, pair, of)


def hirescam(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor, *, layer: str) -> Tensor:
    """Gradient × activation of a layer's pooled maps, summed over filters."""

    def of(image: Tensor, target: Tensor) -> Tensor:
        explained = with_margins(network)
        method = LayerGradientXActivation(explained, explained.get_submodule(layer))
        return _enlarged(method.attribute(image, target), image)

    return _each(network, images, pair, of)


def input_x_gradient(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The gradient at the image, times the image."""
    return _each(network, images, pair, InputXGradient(with_margins(network)).attribute)


def saliency(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """Magnitude of the gradient at the image."""
    return _each(network, images, pair, Saliency(with_margins(network)).attribute)


def grad_cam(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """Second-layer maps, weighted by their mean gradients, where positive."""

    def of(image: Tensor, target: Tensor) -> Tensor:
        explained = with_margins(network)
        layer = explained.get_submodule("pool2")
        return _enlarged(LayerGradCam(explained, layer).attribute(image, target, relu_attributions=True), image)

    return _each(network, images, pair, of)


def smoothgrad_squared(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """Mean of squared gradients at the image with noise."""

    def of(image: Tensor, target: Tensor) -> Tensor:
        gradient = NoiseTunnel(Saliency(with_margins(network)))
        return gradient.attribute(
            image,
            "smoothgrad_sq",
            nt_samples=SAMPLES["smoothgrad_squared"],
            nt_samples_batch_size=batch_size(image),
            stdevs=NOISE,
            target=target,
            abs=False,
        )

    return _each(network, images, pair, of)


def guided_backprop(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor) -> Tensor:
    """The gradient at the image, with negative gradients cut at every ReLU."""

    def of(image: Tensor, target: Tensor) -> Tensor:
        return GuidedBackprop(with_margins(network)).attribute(image, target)

    return _each(network, images, pair, of)


def _enlarged(maps: Tensor, images: Tensor) -> Tensor:
    """Layer maps (N, C, h, w) at the size of the images: each value spread over its pixels, the sums unchanged."""
    size = images.shape[-2:]
    return functional.interpolate(maps, size, mode="nearest") * (maps[0, 0].numel() / size.numel())


def _each(network: nn.Sequential, images: Tensor, pair: Pair, attribute: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The maps (N, H, W) of single images, each with the same seed."""
    a, b = pair
    targets = margin_index(a, b, last_layer(network).out_features)
    maps = []
    for image, target in zip(images, targets, strict=True):
        interruption.check()
        with _seeded(), quietly():
            maps.append(attribute(image[None].clone().requires_grad_(), target[None]).detach().sum(dim=1)[0])
    return torch.stack(maps)


@contextmanager
def _seeded() -> Iterator[None]:
    """Seeds torch and numpy, both of which Captum draws from, and restores their states."""
    state = np.random.get_state()  # noqa: NPY002 -- Captum draws from it
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            np.random.seed(SEED)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


_MEAN, _GREY = "the mean margin of the background images", "the margin of a grey image"
METHODS = {
    "deep_shap": Method("DeepSHAP", deep_shap, reference=background_margin, less=_MEAN),
    "expected_gradients": Method(
        "expected gradients", expected_gradients, reference=background_margin, less=_MEAN, exact=False
    ),
    "integrated_gradients": Method(
        "integrated gradients from grey", integrated_gradients, reference=grey_margin, less=_GREY, exact=False
    ),
    "integrated_gradients_blur": Method(
        "integrated gradients from blur",
        integrated_gradients_blur,
        reference=blurred_margin,
        less="the margin of the blurred image",
        exact=False,
    ),
    "occlusion": Method("occlusion", occlusion),
    "lime": Method("LIME", lime),
    "kernel_shap": Method("KernelSHAP", kernel_shap, reference=grey_margin, less=_GREY),
    "hirescam1": Method("HiResCAM, first layer", partial(hirescam, layer="pool1"), layer="pool1"),
    "hirescam2": Method(
        "HiResCAM, second layer",
        partial(hirescam, layer="pool2"),
        reference=bias_margin,
        less="the difference of the two classes' biases",
        layer="pool2",
    ),
    "input_x_gradient": Method("input × gradient", input_x_gradient),
    "saliency": Method("saliency", saliency, signed=False),
    "grad_cam": Method("Grad-CAM", grad_cam, signed=False, layer="pool2"),
    "smoothgrad_squared": Method("SmoothGrad²", smoothgrad_squared, signed=False),
    "guided_backprop": Method("guided backprop", guided_backprop),
}
"""The methods, by the name that tables and files use."""
