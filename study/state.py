"""State of a training: model, optimiser, random order and progress, with checkpoints as named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from study.config import TrainConfig
from study.device import Machine


class TrainingState:
    """Model, optimiser and learning rate, random generator of the image order, finished epochs and steps."""

    def __init__(self, model: nn.Module, config: TrainConfig, machine: Machine):
        on_gpu = machine.device.type == "cuda"
        self.model = model.to(machine.device).to(memory_format=torch.channels_last)
        # A tensor, so that a captured step can change it; the precision is the fused optimiser's own on each device.
        self.rate = torch.tensor(
            config.learning_rate, dtype=torch.float32 if on_gpu else torch.float64, device=machine.device
        )
        algorithm = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = algorithm(
            self.model.parameters(), lr=self.rate, weight_decay=config.weight_decay, fused=True, capturable=on_gpu
        )
        self.order = torch.Generator().manual_seed(config.seed)
        self.begun = False
        self.epoch = 0
        self.steps = 0

    def weights(self) -> dict[str, Tensor]:
        """A copy of the model's weights by name, on the CPU."""
        return {name: _copy(tensor) for name, tensor in self.model.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Checkpoint: the whole state as named tensors on the CPU, to be stored without pickle; see `restore`."""
        kept = {f"model.{name}": tensor for name, tensor in self.weights().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                kept[f"optimiser.{key}.{name}"] = _copy(value)
        kept["order"] = self.order.get_state()
        kept["progress"] = torch.tensor([self.epoch, self.steps])
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores a checkpoint made by `tensors`."""
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        for name, parameter in self.model.named_parameters():
            self.optimiser.state[parameter] = {
                key.split(".")[1]: _beside(parameter, value)
                for key, value in tensors.items()
                if key.startswith("optimiser.") and key.split(".", 2)[2] == name
            }
        self.order.set_state(tensors["order"])
        self.begun = True
        self.epoch, self.steps = tensors["progress"].tolist()


def weights_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's weights in a checkpoint made by `TrainingState.tensors`."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _beside(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` on the device and in the memory layout of `parameter`, whose memory a fused optimiser walks with it."""
    return torch.empty_like(parameter).copy_(value) if value.dim() else value.to(parameter.device)
