"""Attribution methods: for one decision of a network, a value for each pixel of the image. All are Captum's.

The decision is a margin, the logit of class a minus that of class b, or the logit of a alone. Every method takes the
twin of a network (`study.probes.twin`), normalised images, the two classes and background images, and returns a map
per image, summed over the color channels. `METHODS` lists them with what is known of each beforehand: whether its maps
have a sign, and which number their pixels sum to. Which of them can be believed is measured, not listed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

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

MapFunction = Callable[..., Tensor]
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
    exact: bool = True
    """Whether the sum holds to rounding; otherwise up to the error of a sample or of finite steps."""
    layer: str = ""
    """A layer that the method needs; empty: it applies to any network."""

    @property
    def less(self) -> str:
        """The reference in words: "margin minus …"."""
        return REFERENCES[self.reference] if self.reference else ""

    def applies(self, network: nn.Sequential) -> bool:
        """Whether the network has the layer that the method needs."""
        return not self.layer or self.layer in dict(network.named_children())


def cells(side: int) -> Tensor:
    """The number of the cell of each pixel, of 8 × 8 as equal as the side allows: int64, (side, side)."""
    rows = torch.arange(side) * GRID // side
    return rows[:, None] * GRID + rows[None, :]


def _per_image(attribute: Callable[..., Tensor]) -> MapFunction:
    """Decorator: applies a method for one image to several, each with the same seed.

    It takes the twin with `Margins`, the image (1, 3, H, W), the column of its margin and the background images.
    """

    @wraps(attribute)
    def maps(network: nn.Sequential, images: Tensor, pair: Pair, background: Tensor, **settings: Any) -> Tensor:
        explained, (a, b) = with_margins(network), pair
        targets = margin_index(a, b, last_layer(network).out_features)
        parts = []
        for image, target in zip(images, targets, strict=True):
            interruption.check()
            with _seeded(), quietly():
                one = image[None].clone().requires_grad_()
                values = attribute(explained, one, target[None], background, **settings)
            parts.append(values.detach().sum(dim=1)[0])
        return torch.stack(parts)

    return maps


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


@_per_image
def deep_shap(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """DeepLIFT, averaged over the background images."""
    method, batches = DeepLiftShap(explained), background.split(batch_size(background))
    return mean_of([(len(batch), method.attribute(image, batch, target=target)) for batch in batches])


@_per_image
def expected_gradients(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """Gradients at random points between the image and background images, times their distance."""
    method, sizes = GradientShap(explained), batch_sizes(SAMPLES["expected_gradients"], image)
    return mean_of([(size, method.attribute(image, background, n_samples=size, target=target)) for size in sizes])


@_per_image
def integrated_gradients(
    explained: nn.Sequential,
    image: Tensor,
    target: Tensor,
    background: Tensor,
    *,
    start: Callable[[Tensor], Tensor] = torch.zeros_like,
) -> Tensor:
    """The gradient along the straight line from `start` of the image, by default grey, to the image."""
    return IntegratedGradients(explained).attribute(
        image,
        start(image),
        target=target,
        n_steps=STEPS,
        method="riemann_middle",
        internal_batch_size=batch_size(image),
    )


@_per_image
def occlusion(
    explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor, *, window: int = 0, stride: int = 0
) -> Tensor:
    """What the margin loses where a square is covered with grey, averaged over the squares that cover a pixel.

    `window` and `stride` are the square's side and step in pixels; by default `WINDOW` and `STRIDE`, scaled with the
    images.
    """
    channels, scale = image.shape[1], image.shape[-1] / IMAGE_SIZE
    window, stride = window or round(WINDOW * scale), stride or round(STRIDE * scale)
    changes = Occlusion(explained).attribute(
        image,
        (channels, window, window),
        (channels, stride, stride),
        0,
        target,
        perturbations_per_eval=batch_size(image),
    )
    return changes / channels  # Captum gives the loss to each channel


@_per_image
def lime(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """A linear model of the margin, fitted to random choices of cells, the others grey (ridge, as the paper's code)."""
    return _by_cells(Lime(explained, interpretable_model=SkLearnRidge(alpha=1.0)), "lime", image, target)


@_per_image
def kernel_shap(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """Shapley values of the cells against grey, estimated from random coalitions."""
    return _by_cells(KernelShap(explained), "kernel_shap", image, target)


def _by_cells(method: Lime, name: str, image: Tensor, target: Tensor) -> Tensor:
    mask = cells(image.shape[-1])[None, None]
    values = method.attribute(
        image, 0, target, feature_mask=mask, n_samples=SAMPLES[name], perturbations_per_eval=batch_size(image)
    )
    pixels = mask.flatten().bincount()[mask] * image.shape[1]
    return values / pixels  # a cell's value, spread over its pixels


@_per_image
def hirescam(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor, *, layer: str) -> Tensor:
    """Gradient × activation of a layer's pooled maps, summed over filters."""
    method = LayerGradientXActivation(explained, explained.get_submodule(layer))
    return _enlarged(method.attribute(image, target), image)


@_per_image
def input_x_gradient(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """The gradient at the image, times the image."""
    return InputXGradient(explained).attribute(image, target)


@_per_image
def saliency(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """Magnitude of the gradient at the image."""
    return Saliency(explained).attribute(image, target)


@_per_image
def grad_cam(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """Second-layer maps, weighted by their mean gradients, where positive."""
    method = LayerGradCam(explained, explained.get_submodule("pool2"))
    return _enlarged(method.attribute(image, target, relu_attributions=True), image)


@_per_image
def smoothgrad_squared(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """Mean of squared gradients at the image with noise."""
    return NoiseTunnel(Saliency(explained)).attribute(
        image,
        "smoothgrad_sq",
        nt_samples=SAMPLES["smoothgrad_squared"],
        nt_samples_batch_size=batch_size(image),
        stdevs=NOISE,
        target=target,
        abs=False,
    )


@_per_image
def guided_backprop(explained: nn.Sequential, image: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """The gradient at the image, with negative gradients cut at every ReLU."""
    return GuidedBackprop(explained).attribute(image, target)


def _enlarged(maps: Tensor, images: Tensor) -> Tensor:
    """Layer maps (N, C, h, w) at the size of the images: each value spread over its pixels, the sums unchanged."""
    size = images.shape[-2:]
    return functional.interpolate(maps, size, mode="nearest") * (maps[0, 0].numel() / size.numel())


REFERENCES: dict[ReferenceFunction, str] = {
    background_margin: "the mean margin of the background images",
    grey_margin: "the margin of a grey image",
    blurred_margin: "the margin of the blurred image",
    bias_margin: "the difference of the two classes' biases",
}
METHODS = {
    "deep_shap": Method("DeepSHAP", deep_shap, reference=background_margin),
    "expected_gradients": Method("expected gradients", expected_gradients, reference=background_margin, exact=False),
    "integrated_gradients": Method(
        "integrated gradients from grey", integrated_gradients, reference=grey_margin, exact=False
    ),
    "integrated_gradients_blur": Method(
        "integrated gradients from blur",
        partial(integrated_gradients, start=blurred),
        reference=blurred_margin,
        exact=False,
    ),
    "occlusion": Method("occlusion", occlusion),
    "lime": Method("LIME", lime),
    "kernel_shap": Method("KernelSHAP", kernel_shap, reference=grey_margin),
    "hirescam1": Method("HiResCAM, first layer", partial(hirescam, layer="pool1"), layer="pool1"),
    "hirescam2": Method(
        "HiResCAM, second layer", partial(hirescam, layer="pool2"), reference=bias_margin, layer="pool2"
    ),
    "input_x_gradient": Method("input × gradient", input_x_gradient),
    "saliency": Method("saliency", saliency, signed=False),
    "grad_cam": Method("Grad-CAM", grad_cam, signed=False, layer="pool2"),
    "smoothgrad_squared": Method("SmoothGrad²", smoothgrad_squared, signed=False),
    "guided_backprop": Method("guided backprop", guided_backprop),
}
"""The methods, by the name that tables and files use."""
