"""Settings of the networks: the layers of the report's two, and the functions that build all others."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from study.errors import require, require_at_least, require_known

MODELS = ("cnn", "ffnn")
"""The report's networks."""
ARCHITECTURES = {"resnet18": "study.examples:resnet18", "three_layers": "study.examples:three_layers"}
"""Further networks of this package by name, with the functions that build them."""
CHANNELS = 3
"""Colour channels of an image that a network takes."""
POOLINGS = ("max", "average")


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """The report's convolutional network: two blocks of convolution, ReLU and pooling, then a linear layer."""

    filters: tuple[int, int] = (32, 64)
    """Number of filters of the first and the second convolution."""
    kernel: int = 5
    """Side of the square kernels, in pixels."""
    padding: int = 2
    """Zero padding on each side before a convolution, in pixels."""
    stride: int = 1
    """Stride of the convolutions, in pixels."""
    dilation: int = 1
    """Spacing between kernel elements, in pixels; 1 is an ordinary convolution."""
    pool: int = 2
    """Side and stride of the pooling windows, in pixels; 1 is no pooling."""
    pooling: str = "max"
    """`max` or `average`."""

    name = "cnn"

    def __post_init__(self) -> None:
        require(len(self.filters) == 2, f"filters is {self.filters}: name two counts, e.g. 32 and 64.")
        require_at_least(1, first_filter_count=self.filters[0], second_filter_count=self.filters[1])
        require_at_least(1, kernel=self.kernel, stride=self.stride, dilation=self.dilation, pool=self.pool)
        require_at_least(0, padding=self.padding)
        require_known("pooling", self.pooling, POOLINGS)


@dataclass(frozen=True, kw_only=True)
class FFNNConfig:
    """The report's feed-forward network: one hidden layer on the flattened image."""

    hidden: int = 100
    """Number of hidden units."""

    name = "ffnn"

    def __post_init__(self) -> None:
        require_at_least(1, hidden_units=self.hidden)


@dataclass(frozen=True, kw_only=True)
class CustomConfig:
    """Any other network, by the function that builds it; see `study.custom`."""

    model_path: str
    """The function, ``package.module:function``."""
    model_source: str = ""
    """SHA-256 of the function's file; empty for the functions of `ARCHITECTURES`, which belong to the commit."""
    # Not hashable; equality still compares it.
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further arguments of the function, by name; a search can draw them."""

    def __post_init__(self) -> None:
        file = re.fullmatch(r".*[/\\](\w+)\.py(:\w+)", self.model_path)
        advice = f"{file[1]}{file[2]} in its folder" if file else "package.module:function, e.g. my_network:build"
        require(
            bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", self.model_path)),
            f"The model {self.model_path!r} is no function: write {advice}.",
        )
        require(
            self.name not in {*MODELS, *ARCHITECTURES} or ARCHITECTURES.get(self.name) == self.model_path,
            f"The model {self.model_path} would be recorded as {self.name}, which is another network's name: rename "
            "the function.",
        )

    @property
    def name(self) -> str:
        """Name of the function, by which runs are recorded; for one called `build` that of its module."""
        module, _, function = self.model_path.partition(":")
        return module.rpartition(".")[2] if function == "build" else function


ModelConfig = CNNConfig | FFNNConfig | CustomConfig


def default_model(config: ModelConfig) -> ModelConfig:
    """The report's settings of the same network; a network of the user's own without further arguments."""
    return replace(config, arguments={}) if isinstance(config, CustomConfig) else type(config)()


def model_option(config: ModelConfig) -> str:
    """The value of --model that means this network."""
    is_path = isinstance(config, CustomConfig) and config.name not in ARCHITECTURES
    return config.model_path if isinstance(config, CustomConfig) and is_path else config.name
