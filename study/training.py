"""Training and inference; knows neither Optuna nor MLflow.

The images stay on the device as bytes and are normalised batch by batch; nothing is read back from the device
before the end of an epoch. What a GPU needs beside that is in `study.cuda`.
"""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.config import IMAGE_SIZE, TrainConfig
from study.cuda import Results, Stream, captured
from study.device import Machine
from study.distributed import Ranks
from study.errors import Diverged
from study.images import Labelled, normalise, pick
from study.memory import require_memory
from study.models import Model
from study.state import TrainingState
from study.system import interruption

__all__ = ["Epoch", "Pending", "TrainingState", "before_training", "epochs", "evaluate", "fit", "predict", "resident"]

SEEDS = 1000
"""Multiple of a training's seed from which the seeds of the random numbers in its layers are counted, by epoch."""
EVALUATION_BATCH = {"cpu": 250, "cuda": 1000}
"""Batch size of evaluation by kind of device: small batches fit a CPU's cache, large ones keep a GPU busy."""


@dataclass(frozen=True)
class Epoch:
    """Result of one epoch.

    `metrics` holds train_loss and train_accuracy (means over the epoch, while the weights moved), and
    `<name>_loss` and `<name>_accuracy` of every evaluated set after it. Losses are mean cross-entropies in nats.
    """

    number: int
    """Number of the epoch, from 1; 0 is before training."""
    metrics: dict[str, float]
    seconds: float
    """Duration of the training steps, in seconds; if trainings share a GPU, with the others' work meanwhile."""
    images_per_second: float
    """Training images per second; 0 for epoch 0."""

    @property
    def speed(self) -> dict[str, float]:
        """The speed as metrics, none for epoch 0; MLflow shows those below `system/` on a page of their own."""
        speed = {"system/epoch_seconds": self.seconds, "system/images_per_second": self.images_per_second}
        return speed if self.number else {}


@dataclass(frozen=True)
class Pending:
    """An epoch that is queued on the device, perhaps not done yet."""

    number: int
    images: int
    """Number of training images."""
    results: Results

    def wait(self) -> Epoch:
        """The epoch's result, once it is done.

        Raises:
            Diverged: where a loss is NaN or infinite.
        """
        metrics, seconds = self.results.wait()
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(self.number, name, value)
        return Epoch(self.number, metrics, seconds, self.images / seconds if self.images else 0.0)


class TrainingStep:
    """Trains on one batch, and sums up the epoch's losses and right answers; all on the device."""

    def __init__(self, state: TrainingState, train: Labelled, config: TrainConfig, machine: Machine, steps: int):
        """Takes the number of `steps` in all epochs, over which the learning rate is scheduled."""
        self.state, self.train, self.config, self.machine = state, train, config, machine
        self.ranks = Ranks() if machine.world_size > 1 else None
        self.network = self.ranks.wrapped(state.model) if self.ranks else state.model
        self.steps_in_all = steps
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=machine.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=machine.device)
        self._steps = torch.tensor(state.steps, dtype=state.rate.dtype, device=machine.device)

    def __call__(self, rows: Tensor) -> None:
        """One step on the images at `rows`, (batch,) int64."""
        share = self.ranks.share(rows) if self.ranks else rows
        images, labels = pick(self.train.images, share), self.train.labels.index_select(0, share)
        with self.machine.autocast():
            logits = self.network(normalise(images))
        if self.ranks:
            total = functional.cross_entropy(logits.float(), labels, reduction="sum")
            loss = self.ranks.loss(total, len(rows))
        else:
            loss = functional.cross_entropy(logits.float(), labels)
            total = loss.detach() * len(rows)
        self.state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._set_rate()
        self.state.optimiser.step()
        self.loss_sum += total.detach()
        self.correct += (logits.argmax(1) == labels).sum()

    def _set_rate(self) -> None:
        """Sets the learning rate of this step: linear warm-up, then constant or half a cosine."""
        warmup, is_cosine = self.config.warmup_steps, self.config.schedule == "cosine"
        if not (warmup or is_cosine):
            return
        # Computed on the device from the number of steps before this one, so that a captured step does it too.
        rate = torch.full_like(self._steps, self.config.learning_rate)
        if warmup:
            rate *= ((self._steps + 1) / warmup).clamp(max=1)
        if is_cosine:
            done = (self._steps - warmup).clamp(min=0) / max(1, self.steps_in_all - warmup)
            rate *= (1 + torch.cos(math.pi * done)) / 2
        self.state.rate.copy_(rate)
        self._steps += 1

    def reset(self) -> None:
        """Begins the sums of another epoch."""
        self.loss_sum.zero_()
        self.correct.zero_()

    def means(self, images: int) -> dict[str, Tensor]:
        """The metrics of an epoch of so many images."""
        if self.ranks:
            self.ranks.add(self.loss_sum, self.correct)
        return {"train_loss": self.loss_sum / images, "train_accuracy": self.correct.double() / images}


def resident(data: Labelled, machine: Machine) -> Labelled:
    """`data` on the device, in the memory layout in which convolutions are fast; copies only if needed."""
    return data.to(machine.device).channels_last()


def epochs(
    state: TrainingState,
    train: Labelled,
    config: TrainConfig,
    machine: Machine,
    *,
    rows: Tensor | None = None,
    evaluate: Mapping[str, Labelled],
    on_batch: Callable[[int], None] | None = None,
) -> Generator[Pending]:
    """Trains from `state` to `config.epochs`, one epoch per value of the generator.

    On a GPU each epoch is only queued, on this training's own stream, so that several trainings that take turns keep
    the device busy. Read `state` only after `Pending.wait` of the latest epoch.

    Args:
        state: changed in place.
        train: the training images; `resident` ones are shared by several trainings without a copy.
        config: the settings.
        machine: device and precision.
        rows: the images to train on, int64; by default all. A split then needs no copy of its images.
        evaluate: further sets, by the prefix of their metrics, e.g. ``{"val": ...}``.
        on_batch: called with the number of images after each step is done, or queued.
    """
    stream = Stream(machine.device)
    with stream.current():
        rows = (torch.arange(len(train)) if rows is None else rows).to(machine.device)
        sets = {name: images.to(machine.device) for name, images in evaluate.items()}
        require_memory(state.model, config, train.images.shape[-1], len(rows), machine)
        training = TrainingStep(state, resident(train, machine), config, machine, config.steps(len(rows)))
        # Another network may do what cannot be captured, such as to choose by a value; and processes wait for others.
        is_captured = isinstance(state.model, Model) and not training.ranks
        step = captured(training, machine if is_captured else replace(machine, graphs=False))
    state.begun = True
    try:
        while state.epoch < config.epochs:
            with stream.current():
                begin = stream.record_event()
                state.model.train()
                training.reset()
                if not isinstance(state.model, Model):
                    # For layers that draw numbers, such as dropout: a continued training draws the same.
                    torch.manual_seed(config.seed * SEEDS + state.epoch)
                order = torch.randperm(len(rows), generator=state.order).to(machine.device)
                for batch in training.train.prefetched(rows[order].split(config.batch_size)):
                    step(batch)
                    state.steps += 1
                    if on_batch:
                        on_batch(len(batch))
                    interruption.check()
                end = stream.record_event()
                metrics = training.means(len(rows)) | _evaluate_all(state.model, sets)
                state.epoch += 1
                results = Results(metrics, (begin, end), stream)
            yield Pending(state.epoch, len(rows), results)
    finally:
        # Queued work still uses memory that is freed when this ends.
        stream.synchronize()


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
    """Trains from `state` to `config.epochs`, calling `on_epoch` after every epoch.

    An exception from `on_epoch` ends the training, with `state` as of that epoch.

    Args:
        state: see `epochs`, also for `train`, `config`, `machine`, `rows`, `evaluate` and `on_batch`.
        train: the training images.
        config: the settings.
        machine: device and precision.
        rows: the images to train on.
        evaluate: further sets.
        on_epoch: called with the result of each epoch.
        on_batch: called with the number of images after each step.
        from_start: whether to evaluate a new state first, as epoch 0.

    Raises:
        Diverged: when a loss is NaN or infinite.
    """
    if from_start and not state.begun:
        on_epoch(before_training(state.model, evaluate, machine))
    for pending in epochs(state, train, config, machine, rows=rows, evaluate=evaluate, on_batch=on_batch):
        on_epoch(pending.wait())


def evaluation_batch(device: torch.device, side: int) -> int:
    """Number of images of this side to evaluate at once: fewer where they are larger than the default."""
    return max(1, EVALUATION_BATCH[device.type] * IMAGE_SIZE**2 // max(side, IMAGE_SIZE) ** 2)


def before_training(model: nn.Module, evaluate: Mapping[str, Labelled], machine: Machine) -> Epoch:
    """The result of epoch 0: `model` as it is on these sets, by the prefix of their metrics."""
    sets = {name: images.to(machine.device) for name, images in evaluate.items()}
    return Epoch(0, {name: value.item() for name, value in _evaluate_all(model, sets).items()}, 0.0, 0.0)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (N, classes), float32 on the model's device, of uint8 `images` (N, 3, side, side).

    Always computed in float32, whatever the precision of the training, so that saved weights give the same results.
    """
    model.eval()
    device = next(model.parameters()).device
    size = evaluation_batch(device, images.shape[-1])
    # Filled batch by batch: a list of small results would fragment the memory.
    logits = torch.empty(0)
    for number, batch in enumerate(images.split(size)):
        outputs = model(normalise(batch.to(device)).contiguous(memory_format=torch.channels_last))
        if number == 0:
            logits = outputs.new_empty(len(images), outputs.shape[1])
        logits[number * size :][: len(outputs)] = outputs
        interruption.check()
    return logits


def evaluate(model: nn.Module, data: Labelled) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy of `model` on `data`."""
    loss, share = _evaluate(model, data)
    return loss.item(), share.item()


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction of correct predictions."""
    return (logits.argmax(1) == labels).double().mean()


def _evaluate(model: nn.Module, data: Labelled) -> tuple[Tensor, Tensor]:
    logits = predict(model, data.images)
    labels = data.labels.to(logits.device)
    return functional.cross_entropy(logits, labels), accuracy(logits, labels)


def _evaluate_all(model: nn.Module, sets: Mapping[str, Labelled]) -> dict[str, Tensor]:
    metrics = {}
    for name, data in sets.items():
        metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = _evaluate(model, data)
    return metrics
