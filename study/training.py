"""Training and inference; knows neither Optuna nor MLflow.

The images stay on the device as bytes and are normalised batch by batch; nothing is read back from the device
before the end of an epoch.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.config import TrainConfig
from study.data import Labelled, normalise
from study.device import Machine
from study.errors import Diverged
from study.images import pick

EVALUATION_BATCH = 250


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave.

    `metrics` holds train_loss and train_accuracy (means over the epoch, while the weights moved), and
    `<name>_loss` and `<name>_accuracy` of every evaluated set after it. Losses are mean cross-entropies in nats.
    """

    number: int
    """Counted from 1; 0 is before training."""
    metrics: dict[str, float]
    seconds: float
    """Time for the training steps alone, seconds."""
    images_per_second: float
    """Training images per second; 0 for epoch 0."""


class TrainingState:
    """All that the next epoch depends on: the model, the optimiser, the order of images to come, epochs done."""

    def __init__(self, model: nn.Module, config: TrainConfig, machine: Machine):
        self.model = model.to(machine.device).to(memory_format=torch.channels_last)
        algorithm = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = algorithm(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.order = torch.Generator().manual_seed(config.seed)
        self.begun = False
        self.epoch = 0
        self.steps = 0

    def weights(self) -> dict[str, Tensor]:
        """A copy of the model's weights by name, on the CPU."""
        return {name: _copy(tensor) for name, tensor in self.model.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Everything as named tensors on the CPU, so that it can be kept without pickle; see `restore`."""
        kept = {f"model.{name}": tensor for name, tensor in self.weights().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                kept[f"optimiser.{key}.{name}"] = _copy(value)
        kept["order"] = self.order.get_state()
        kept["progress"] = torch.tensor([self.epoch, self.steps])
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes back to where `tensors()` was taken."""
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


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _beside(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` on the device and in the memory layout of `parameter`, whose memory a fused optimiser walks with it."""
    return torch.empty_like(parameter).copy_(value) if value.dim() else value.to(parameter.device)


def resident(data: Labelled, machine: Machine) -> Labelled:
    """`data` on the device, in the memory layout in which convolutions are fast; no copy where it is so already."""
    return data.to(machine.device).channels_last()


def fit(
    state: TrainingState,
    train: Labelled,
    config: TrainConfig,
    machine: Machine,
    *,
    rows: Tensor | None = None,
    evaluate: Mapping[str, Labelled],
    on_epoch: Callable[[Epoch], None],
    on_batch: Callable[[int], None] | None = None,
    from_start: bool = False,
) -> None:
    """Trains from where `state` is to `config.epochs`, calling `on_epoch` after every epoch.

    What `on_epoch` raises ends the training, with `state` as it was after that epoch.

    Args:
        state: what is trained; changed in place.
        train: the training images; several trainings on the same ones save time with `resident` ones.
        config: the settings.
        machine: device and precision.
        rows: which of the images are trained on, where not all are: a split needs no copy of them.
        evaluate: further sets, by the name that begins their metrics, e.g. ``{"val": ...}``.
        on_epoch: told each epoch's result.
        on_batch: told the number of images after each step, for a progress bar.
        from_start: whether a state that has not begun is evaluated first, as epoch 0.

    Raises:
        Diverged: when a loss is NaN or infinite.
    """
    train = resident(train, machine)
    rows = (torch.arange(len(train)) if rows is None else rows).to(machine.device)
    sets = {name: images.to(machine.device) for name, images in evaluate.items()}
    if from_start and not state.begun:
        on_epoch(Epoch(0, _evaluate_all(state.model, sets), 0.0, 0.0))
    state.begun = True
    while state.epoch < config.epochs:
        start = time.perf_counter()
        metrics = _train_epoch(state, train, rows, config, machine, on_batch)
        seconds = time.perf_counter() - start
        state.epoch += 1
        metrics |= _evaluate_all(state.model, sets) if _finite(metrics) else {}
        _raise_if_diverged(state.epoch, metrics)
        on_epoch(Epoch(state.epoch, metrics, seconds, len(rows) / seconds))


def _train_epoch(
    state: TrainingState,
    train: Labelled,
    rows: Tensor,
    config: TrainConfig,
    machine: Machine,
    on_batch: Callable[[int], None] | None,
) -> dict[str, float]:
    state.model.train()
    order = rows[torch.randperm(len(rows), generator=state.order).to(machine.device)]
    loss_sum = torch.zeros((), dtype=torch.float64, device=machine.device)
    correct = torch.zeros((), dtype=torch.int64, device=machine.device)
    for index in order.split(config.batch_size):
        _warm_up(state, config)
        labels = train.labels[index]
        with machine.autocast():
            logits = state.model(normalise(pick(train.images, index)))
        loss = functional.cross_entropy(logits.float(), labels)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        state.steps += 1
        loss_sum += loss.detach() * len(index)
        correct += (logits.argmax(1) == labels).sum()
        if on_batch:
            on_batch(len(index))
    return {"train_loss": loss_sum.item() / len(rows), "train_accuracy": correct.item() / len(rows)}


def _warm_up(state: TrainingState, config: TrainConfig) -> None:
    if state.steps < config.warmup_steps:
        share = (state.steps + 1) / config.warmup_steps
        for group in state.optimiser.param_groups:
            group["lr"] = config.learning_rate * share
    elif state.steps == config.warmup_steps:
        for group in state.optimiser.param_groups:
            group["lr"] = config.learning_rate


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (N, classes), float32 on the model's device, of uint8 `images` (N, 3, 32, 32).

    Always in float32: what is reported is what the saved weights give, whatever precision they were trained in.
    """
    model.eval()
    device = next(model.parameters()).device
    # Filled batch by batch: small results kept between the large arrays of each batch would leave holes in memory.
    logits = torch.empty(0)
    for number, batch in enumerate(images.split(EVALUATION_BATCH)):
        found = model(normalise(batch.to(device)).contiguous(memory_format=torch.channels_last))
        if number == 0:
            logits = found.new_empty(len(images), found.shape[1])
        logits[number * EVALUATION_BATCH :][: len(found)] = found
    return logits


def evaluate(model: nn.Module, data: Labelled) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy of `model` on `data`."""
    logits = predict(model, data.images)
    labels = data.labels.to(logits.device)
    loss = functional.cross_entropy(logits, labels)
    return loss.item(), (logits.argmax(1) == labels).double().mean().item()


def _evaluate_all(model: nn.Module, sets: Mapping[str, Labelled]) -> dict[str, float]:
    metrics = {}
    for name, data in sets.items():
        metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = evaluate(model, data)
    return metrics


def _finite(metrics: Mapping[str, float]) -> bool:
    return all(math.isfinite(value) for value in metrics.values())


def _raise_if_diverged(epoch: int, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise Diverged(epoch, name, value)
