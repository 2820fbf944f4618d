"""The convolutions of any network, in the order in which they run, with the ReLU and the pooling that follow them.

Hooks find the convolutions. What comes after is not always a module: `functional.relu` and `Tensor.relu` are seen where
torch calls them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from study.architectures import CHANNELS
from study.config import IMAGE_SIZE
from study.models import CNN, FFNN, Layered

ORDER = ("conv", "relu", "pool")
RELU = {functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
POOLING = {functional.max_pool2d, torch.max_pool2d, functional.avg_pool2d}
DROPOUT = {functional.dropout, functional.dropout2d}
NORMALISATION = {functional.batch_norm, functional.group_norm, functional.instance_norm}
NEXT: dict[tuple[str, Any], str] = {
    **{("conv", function): "conv" for function in NORMALISATION | DROPOUT | POOLING},
    **{("conv", function): "relu" for function in RELU},
    **{("relu", function): "relu" for function in DROPOUT},
    **{("relu", function): "pool" for function in POOLING},
}
"""What a function makes of the output of a convolution, or of the ReLU after it.

After any other function the values belong to no single convolution.
"""


def layered(model: nn.Module, side: int = IMAGE_SIZE) -> Layered:
    """The layers, maps and weights of a network: its own for the report's networks, else those of its convolutions."""
    return model if isinstance(model, CNN | FFNN) else Convolutions(model, side)


def maps_of(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names of the maps of each convolution: its own, and those of the ReLU and the pooling that follow it."""
    groups: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        if layer.startswith("conv"):
            groups[layer] = (layer,)
        elif groups and layer.startswith(("relu", "pool")):
            last = next(reversed(groups))
            groups[last] = (*groups[last], layer)
    return groups


class Convolutions:
    """The `nn.Conv2d` layers of a network, called conv1, conv2, … in the order in which they first run.

    A ReLU counts as a convolution's if only normalisation, dropout or pooling stands between the two, and a pooling if
    it follows that ReLU: after the sum of a residual block, neither belongs to a single convolution.
    """

    def __init__(self, model: nn.Module, side: int = IMAGE_SIZE):
        """Sets the network to evaluation, and runs it once, on an image of zeros, to see which layers there are."""
        self.model = model.eval()
        self.names: Mapping[str, str] = {}
        parameters = dict(model.named_parameters())
        device = next(iter(parameters.values())).device
        outputs = self._outputs(torch.zeros(1, CHANNELS, side, side, device=device))
        # Without those whose weights are computed from others, e.g. by weight normalisation.
        self.weights: Mapping[str, str] = {
            layer: f"{name}.weight" for layer, name in self.names.items() if f"{name}.weight" in parameters
        }
        self.layers = tuple(layer for layer in outputs if f"conv{layer[4:]}" in self.weights)

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """The output of each of the `layers` for normalised `images` (N, 3, side, side)."""
        outputs = self._outputs(images)
        return {layer: outputs[layer] for layer in self.layers}

    @torch.no_grad()
    def _outputs(self, images: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        with self.watching(lambda layer, output: outputs.update({layer: output.clone()})) as watch:
            self.model(images)
        self.names = {f"conv{number}": name for name, number in watch.numbers.items()}
        return dict(sorted(outputs.items(), key=lambda item: (int(item[0][4:]), ORDER.index(item[0][:4]))))

    @contextmanager
    def watching(self, see: Callable[[str, Tensor], None]) -> Iterator["_Watch"]:
        """While the network runs once within the block, calls `see` with the name and the output of each layer."""
        watch = _Watch(see)
        hooks = [
            module.register_forward_hook(partial(watch.begin, name))
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        try:
            with watch:
                yield watch
        finally:
            for hook in hooks:
                hook.remove()


class _Watch(TorchFunctionMode):
    """Follows the output of each convolution to its ReLU and its pooling, by the functions that torch calls."""

    def __init__(self, see: Callable[[str, Tensor], None]):
        super().__init__()
        self.see = see
        self.numbers: dict[str, int] = {}
        """The place of each convolution in the order of their first calls, from 1, by the name of the module."""
        self._followed: dict[int, tuple[Tensor, str, int]] = {}
        """What a tensor is, and of which convolution, by its id; the tensor is kept, so that no other gets its id."""
        self._seen: set[str] = set()

    def begin(self, name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        """The hook of the convolution called `name`."""
        if name not in self.numbers:
            self.numbers[name] = len(self.numbers) + 1
            self._follow(output, "conv", self.numbers[name])

    def _follow(self, output: Tensor, kind: str, number: int) -> None:
        self._followed[id(output)] = output, kind, number
        layer = f"{kind}{number}"
        if layer not in self._seen:
            self._seen.add(layer)
            self.see(layer, output)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the function, and follows what it makes of a tensor that is followed."""
        before = self._followed.get(id(args[0])) if args else None
        output = function(*args, **(kwargs or {}))
        if before and (kind := NEXT.get((before[1], function))):
            self._follow(output, kind, before[2])
        elif before and output is args[0]:
            # It was changed in place, e.g. by adding the input of a residual block.
            del self._followed[id(output)]
        return output
