"""A network as a sequence of modules that shares its parameters, for attribution methods that work by hooks.

Captum's DeepLift and guided backpropagation replace the gradients of ReLU and max pooling by hooks on modules. The
networks of `study.models` call functions there: the hooks then find nothing, and both methods silently return the plain
gradient. Between ReLU and max pooling stands a module that multiplies by 1: where the two are neighbours, Captum's
DeepLift confuses the output of one with the input of the other (its issue 1104), and attributions no longer add up.
"""

import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.models import CNN, Model


class Separator(nn.Module):
    """Returns a copy of its input. `nn.Identity` returns the input itself, which separates nothing for a hook."""

    def forward(self, maps: Tensor) -> Tensor:
        """The `maps`, times 1."""
        return maps * 1.0


class ChannelsLast(nn.Module):
    """Puts the channels last in memory, where a CPU convolves in half the time."""

    def forward(self, images: Tensor) -> Tensor:
        """The same `images`."""
        return images.contiguous(memory_format=torch.channels_last)


class Margins(nn.Module):
    """Every difference of two logits, and every logit: (N, classes · (classes + 1)); `margin_index` says which."""

    def forward(self, logits: Tensor) -> Tensor:
        """For `logits` (N, classes), row by row: logit a minus logit b for each b, then logit a minus 0."""
        return (logits[:, :, None] - functional.pad(logits, (0, 1))[:, None, :]).flatten(1)


def twin(model: Model) -> nn.Sequential:
    """The model as named modules in sequence, with its own parameters and, bit for bit, its logits.

    The names are those of `model.layers`, with `flatten` before a linear layer and `separator1`, `separator2` between
    ReLU and pooling.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    if isinstance(model, CNN):
        pool = nn.MaxPool2d if model.pooling == "max" else nn.AvgPool2d
        for number, convolution in enumerate((model.conv1, model.conv2), start=1):
            modules[f"conv{number}"] = convolution
            modules[f"relu{number}"] = nn.ReLU()
            modules[f"separator{number}"] = Separator()
            modules[f"pool{number}"] = pool(model.pool)
        modules |= {"flatten": nn.Flatten(), "fc": model.fc}
    else:
        modules |= {"flatten": nn.Flatten(), "fc1": model.fc1, "relu1": nn.ReLU(), "fc2": model.fc2}
    return nn.Sequential(modules)


def with_margins(network: nn.Sequential) -> nn.Sequential:
    """The twin with `Margins` as its last module: each of its outputs is a margin of one class over another."""
    modules = [("channels_last", ChannelsLast()), *network.named_children(), ("margins", Margins())]
    return nn.Sequential(OrderedDict(modules))


def margin_index(a: Tensor, b: Tensor | None, classes: int) -> Tensor:
    """The column of `Margins` with logit `a` minus logit `b`, for class numbers (N,); for `b` None with logit `a`."""
    return a * (classes + 1) + (classes if b is None else b)


@contextmanager
def quietly() -> Iterator[None]:
    """Suppresses Captum's warnings, which say that it sets hooks and asks for gradients."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        yield
