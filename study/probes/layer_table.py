"""The networks layer by layer (the report's Table 1): output shapes and numbers of parameters."""

from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from study.architectures import CHANNELS, CNNConfig, CustomConfig, ModelConfig
from study.config import IMAGE_SIZE
from study.convolutions import Convolutions
from study.geometry import feature_sizes
from study.models import build_model

COLUMNS = ["model", "layer", "what", "output", "equation_2", "parameters"]


def architecture(config: ModelConfig, *, classes: int, side: int = IMAGE_SIZE) -> pd.DataFrame:
    """A row for each layer, for images of this side: model, layer, what, output, equation_2, parameters.

    `output` is the shape for one image, `equation_2` the computation of its side, n_out = (n_in - k + 2p) / s + 1 of
    Wik (2023), with d(k - 1) + 1 for the k of a dilated kernel; empty if it does not apply. For the report's networks
    both follow from the formulas, and no model is built; the layers of any other are its modules, as they run.

    Raises:
        StudyError: if a layer's output would be empty.
    """
    if isinstance(config, CustomConfig):
        rows = _modules(build_model(config, classes=classes, seed=0, side=side), side)
    else:
        rows = _cnn(config, classes, side) if isinstance(config, CNNConfig) else _ffnn(config.hidden, classes, side)
    return pd.DataFrame([(config.name, *row) for row in rows], columns=COLUMNS)


Row = tuple[str, str, str, str, int]


def _cnn(config: CNNConfig, classes: int, side: int) -> list[Row]:
    sizes, before = feature_sizes(config, side), (CHANNELS, side)
    rows: list[Row] = [("input", "image", _shape(*before, side), "", 0)]
    for number, filters in enumerate(config.filters, start=1):
        rows += _block(config, number, filters, before, sizes)
        before = filters, sizes[f"pool{number}"]
    values = before[0] * before[1] ** 2
    return [*rows, _linear("fc", values, classes)]


def _block(config: CNNConfig, number: int, filters: int, before: tuple[int, int], sizes: dict[str, int]) -> list[Row]:
    (channels, side), kernel, pool = before, config.kernel, config.pool
    convolved, pooled = sizes[f"conv{number}"], sizes[f"pool{number}"]
    dilated = f", dilation {config.dilation}" if config.dilation > 1 else ""
    what = f"{filters} kernels {channels} × {kernel} × {kernel}, padding {config.padding}, stride {config.stride}"
    reach = config.dilation * (kernel - 1) + 1
    return [
        (
            f"conv{number}",
            what + dilated,
            _shape(filters, convolved, convolved),
            _equation_2(side, reach, config.padding, config.stride, convolved),
            filters * (channels * kernel**2 + 1),
        ),
        (f"relu{number}", "ReLU", _shape(filters, convolved, convolved), "", 0),
        (
            f"pool{number}",
            f"{config.pooling} pooling {pool} × {pool}, stride {pool}",
            _shape(filters, pooled, pooled),
            _equation_2(convolved, pool, 0, pool, pooled),
            0,
        ),
    ]


def _ffnn(hidden: int, classes: int, side: int) -> list[Row]:
    return [
        ("input", "image", _shape(CHANNELS, side, side), "", 0),
        _linear("fc1", CHANNELS * side**2, hidden),
        ("relu1", "ReLU", str(hidden), "", 0),
        _linear("fc2", hidden, classes),
    ]


def _linear(name: str, before: int, after: int) -> Row:
    return name, f"linear, {before:,} to {after:,}", str(after), "", after * (before + 1)


def _shape(*lengths: int) -> str:
    return " × ".join(map(str, lengths))


def _equation_2(size: int, reach: int, padding: int, stride: int, after: int) -> str:
    quotient = f"({size} − {reach} + 2·{padding}) / {stride}"
    exact = (size - reach + 2 * padding) % stride == 0
    return f"{quotient if exact else f'⌊{quotient}⌋'} + 1 = {after}"


def _modules(model: nn.Module, side: int) -> list[Row]:
    """The modules without parts of their own, in the order in which they first run; convolutions by number and name."""
    numbers = {name: layer for layer, name in Convolutions(model, side).names.items()}
    rows: dict[str, Row] = {"": ("input", "image", _shape(CHANNELS, side, side), "", 0)}

    def hook(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        what, equation = f"{type(module).__name__}({module.extra_repr()})", ""
        if isinstance(module, nn.Conv2d):
            what, equation = f"{name}: {_kernels(module)}", _side_of(module, inputs[0].shape[-1], output.shape[-1])
        rows.setdefault(name, (numbers.get(name, name), what, _shape(*output.shape[1:]), equation, parameters))

    leaves = [(name, module) for name, module in model.named_modules() if not any(True for _ in module.children())]
    hooks = [module.register_forward_hook(partial(hook, name)) for name, module in leaves]
    with torch.no_grad():
        model(torch.zeros(1, CHANNELS, side, side))
    for handle in hooks:
        handle.remove()
    return list(rows.values())


def _kernels(layer: nn.Conv2d) -> str:
    filters, channels, *sides = layer.weight.shape
    shown = {name: getattr(layer, name) for name in ("padding", "stride", "dilation")}
    same = {
        name: value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value for name, value in shown.items()
    }
    dilated = f", dilation {same['dilation']}" if same["dilation"] != 1 else ""
    return f"{filters} kernels {_shape(channels, *sides)}, padding {same['padding']}, stride {same['stride']}{dilated}"


def _side_of(layer: nn.Conv2d, before: int, after: int) -> str:
    if isinstance(layer.padding, str):
        return ""
    reach = layer.dilation[-1] * (layer.kernel_size[-1] - 1) + 1
    return _equation_2(before, reach, int(layer.padding[-1]), layer.stride[-1], after)
