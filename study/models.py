"""The networks, and what the analysis asks of one: its layers, their maps and their weights.

The numbers of the report's two are those of Wik (2023), Table 1: with its default settings the CNN has 94,666
parameters and the FFNN 308,310, initialised as PyTorch does by default. All others are functions, see `study.custom`.
"""

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.architectures import CHANNELS, CNNConfig, CustomConfig, FFNNConfig, ModelConfig
from study.config import IMAGE_SIZE
from study.custom import build, change_warning
from study.errors import StudyError
from study.geometry import feature_sizes


def flat(images: Tensor) -> Tensor:
    """Each of `images` (N, C, H, W) as one row, channel by channel: (N, C·H·W)."""
    # `flatten` alone takes a CPU several times as long where the channels lie last in memory.
    return images.contiguous().flatten(1)


class Layered(Protocol):
    """What the analysis asks of a network; `study.convolutions.layered` gives it for any `nn.Module`."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers from the image on: `conv1`, `relu1`, `pool1`, …; ReLU and pooling follow their convolution."""

    @property
    def weights(self) -> Mapping[str, str]:
        """The layers with weights (filters, inputs, …), and the name of each one's weights in the state dict."""

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """The output of each of the `layers` for normalised `images` (N, 3, side, side)."""


class CNN(nn.Module):
    """Two blocks of convolution, ReLU and pooling, then one linear layer.

    Training computes max pooling before ReLU: both orders give the same numbers and gradients, since ReLU is
    monotonic, and this one applies it to a quarter of the values. `activations` gives each layer as it is named.
    """

    layers = ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc")
    weights: Mapping[str, str] = {layer: f"{layer}.weight" for layer in ("conv1", "conv2", "fc")}

    def __init__(self, config: CNNConfig, classes: int, side: int = IMAGE_SIZE):
        """Builds the layers.

        Args:
            config: the sizes of the layers.
            classes: the number of logits.
            side: side of the images, in pixels.

        Raises:
            StudyError: if a layer's output would be empty.
        """
        super().__init__()
        self.side = side
        first, second = config.filters
        pooled = feature_sizes(config, side)["pool2"]
        shape = (config.kernel, config.stride, config.padding, config.dilation)
        self.conv1 = nn.Conv2d(CHANNELS, first, *shape)
        self.conv2 = nn.Conv2d(first, second, *shape)
        self.pool, self.pooling = config.pool, config.pooling
        self.fc = nn.Linear(second * pooled**2, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised `images` (N, 3, side, side)."""
        for convolution in (self.conv1, self.conv2):
            images = self.rectified_and_pooled(convolution(images))
        return cast(Tensor, self.fc(flat(images)))

    def rectified_and_pooled(self, maps: Tensor) -> Tensor:
        """Output of the pooling layer for a convolution's output, `maps` (N, filters, H, W)."""
        if self.pooling == "max":
            return functional.relu(functional.max_pool2d(maps, self.pool))
        # The mean of rectified values is not the rectified mean.
        return self.pooled(functional.relu(maps))

    def pooled(self, maps: Tensor) -> Tensor:
        """The pooled `maps` (N, filters, H, W)."""
        pool = functional.max_pool2d if self.pooling == "max" else functional.avg_pool2d
        return pool(maps, self.pool)

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs of every layer for normalised `images` (N, 3, side, side), by its name in `layers`."""
        outputs = {}
        for number, convolution in enumerate((self.conv1, self.conv2), start=1):
            outputs[f"conv{number}"] = convolution(images)
            outputs[f"relu{number}"] = functional.relu(outputs[f"conv{number}"])
            outputs[f"pool{number}"] = images = self.pooled(outputs[f"relu{number}"])
        outputs["fc"] = self.fc(flat(images))
        return outputs


class FFNN(nn.Module):
    """One hidden layer of ReLU units on the flattened image."""

    layers = ("fc1", "relu1", "fc2")
    weights: Mapping[str, str] = {layer: f"{layer}.weight" for layer in ("fc1", "fc2")}

    def __init__(self, config: FFNNConfig, classes: int, side: int = IMAGE_SIZE):
        """Builds the layers; for the arguments see `CNN`."""
        super().__init__()
        self.side = side
        self.fc1 = nn.Linear(CHANNELS * side**2, config.hidden)
        self.fc2 = nn.Linear(config.hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised `images` (N, 3, side, side)."""
        return self.activations(images)["fc2"]

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs of every layer for normalised `images` (N, 3, side, side), by its name in `layers`."""
        fc1 = self.fc1(flat(images))
        relu1 = functional.relu(fc1)
        return {"fc1": fc1, "relu1": relu1, "fc2": self.fc2(relu1)}


Model = CNN | FFNN
"""The report's networks."""


def build_model(config: ModelConfig, *, classes: int, seed: int, side: int = IMAGE_SIZE) -> nn.Module:
    """The network that `config` describes, for images of this side, on the CPU, with initial weights from `seed`.

    Raises:
        StudyError: if a layer's output would be empty; for a network of the user's own see `custom.build`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(config, CustomConfig):
            return build(config, classes=classes, side=side)
        return CNN(config, classes, side) if isinstance(config, CNNConfig) else FFNN(config, classes, side)


@cache
def parameter_count(config: ModelConfig, *, classes: int, side: int = IMAGE_SIZE) -> int:
    """Number of trainable parameters of the network that `config` describes; cached.

    Raises:
        StudyError: see `build_model`.
    """
    # The report's networks take no memory on this device.
    with contextlib.nullcontext() if isinstance(config, CustomConfig) else torch.device("meta"):
        model = build_model(config, classes=classes, seed=0, side=side)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def trained_model(
    config: ModelConfig, weights: Mapping[str, Tensor], *, classes: int, side: int = IMAGE_SIZE
) -> nn.Module:
    """The network that `config` describes with these weights, on the CPU and in evaluation mode.

    Raises:
        StudyError: see `build_model`; also where the weights are not those of the network that is built.
    """
    model = build_model(config, classes=classes, seed=0, side=side)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        if not isinstance(config, CustomConfig):
            raise
        why = change_warning(config) or "Its code, or that of a library it uses, has changed."
        raise StudyError(f"The weights do not fit the network that {config.model_path} builds now. {why}") from error
    return model.eval()
