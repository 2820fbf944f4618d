"""The trainings of the stages as generators of results, which run in this process or on a node of a cluster.

They know no store: the process that started one records what it yields.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from study.config import TrainConfig
from study.data import Dataset
from study.device import Machine
from study.errors import Diverged
from study.images import Labelled
from study.models import CNN, build_model
from study.probes.activity import filter_counts
from study.state import TrainingState
from study.system.processes import usage
from study.training import Epoch, before_training, epochs, resident

EARLY_STEPS = frozenset({10, 20, 40, 80, 160})
"""Optimiser steps after which filters are counted, beside every epoch."""
OnBatch = Callable[[int], None] | None
"""Called with the number of images after each step."""


@dataclass(frozen=True, eq=False)
class Images:
    """What a training needs of a data set."""

    train: Labelled
    held_out: Labelled
    """Images to measure on after each epoch: the validation split, or the test images."""
    classes: int
    side: int
    """Side of the images, in pixels."""
    rows: Tensor | None = None
    """Rows of the training split in `train`, int64; None: all."""

    @classmethod
    def of_splits(cls, dataset: Dataset, machine: Machine | None = None) -> "Images":
        """The training and validation split; with `machine`, on its device."""
        splits = dataset.splits
        parts = splits.images, splits.validation
        train, held_out = (resident(part, machine) if machine else part.channels_last() for part in parts)
        return cls(train, held_out, len(dataset.classes), dataset.side, splits.train_rows)

    @classmethod
    def of_all(cls, dataset: Dataset) -> "Images":
        """All training images, measured on the test images."""
        return cls(dataset.train, dataset.test, len(dataset.classes), dataset.side)

    def __len__(self) -> int:
        """Number of images that are trained on."""
        return len(self.train if self.rows is None else self.rows)


def _new_state(images: Images, machine: Machine, config: TrainConfig) -> TrainingState:
    model = build_model(config.model, classes=images.classes, seed=config.seed, side=images.side)
    return TrainingState(model, config, machine)


def trial(
    images: Images, machine: Machine, config: TrainConfig, *, on_batch: OnBatch = None
) -> Generator[Epoch | None]:
    """Trains a trial; yields each epoch's result, and None while the device works on it.

    Raises:
        Diverged: where a loss is no longer finite.
    """
    training = epochs(
        _new_state(images, machine, config),
        images.train,
        config,
        machine,
        rows=images.rows,
        evaluate={"val": images.held_out},
        on_batch=on_batch,
    )
    with closing(training):
        for pending in training:
            # While the device works on this epoch, other trials queue theirs.
            yield None
            yield pending.wait()


@dataclass
class Measured:
    """What a replicate yields after each epoch, and once before training."""

    epoch: Epoch | None = None
    counts: dict[int, dict[str, int]] = field(default_factory=dict)
    """The counts of silent and collapsed filters, by optimiser step; empty for a network without filters."""


def replicate(
    images: Images, machine: Machine, config: TrainConfig, *, on_batch: OnBatch = None
) -> Generator[Measured]:
    """Trains a replicate of an experiment, and counts silent and collapsed filters in its first steps too.

    Raises:
        Diverged: where a loss is no longer finite; what was counted before is yielded first.
    """
    state, held_out = _new_state(images, machine, config), images.held_out.to(machine.device)
    counts: dict[int, dict[str, int]] = {}

    def count() -> None:
        if isinstance(state.model, CNN) and state.steps not in counts:
            counts[state.steps] = filter_counts(state.model, held_out.images)

    def after_batch(number: int) -> None:
        if on_batch:
            on_batch(number)
        if state.steps in EARLY_STEPS:
            count()

    count()
    yield Measured(counts=dict(counts))
    training = epochs(
        state,
        images.train,
        config,
        machine,
        rows=images.rows,
        evaluate={"val": held_out},
        on_batch=after_batch,
    )
    sent = set(counts)
    with closing(training):
        for pending in training:
            try:
                epoch = pending.wait()
            except Diverged:
                yield Measured(counts=_but(counts, sent))
                raise
            count()
            yield Measured(epoch, _but(counts, sent))
            sent = set(counts)


def _but(counts: Mapping[int, dict[str, int]], sent: set[int]) -> dict[int, dict[str, int]]:
    return {step: counted for step, counted in counts.items() if step not in sent}


@dataclass(frozen=True)
class TrainedEpoch:
    """What a retraining yields after each epoch, and for a new one before training, as epoch 0."""

    epoch: Epoch
    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    """See `TrainingState.tensors`."""
    usage: dict[str, float]
    """Processor time and memory of the process that trains."""


def retraining(
    images: Images,
    machine: Machine,
    config: TrainConfig,
    checkpoint: Mapping[str, Tensor] | None = None,
    *,
    on_batch: OnBatch = None,
) -> Generator[TrainedEpoch]:
    """Trains on all training images, from new weights or the state `checkpoint`.

    Raises:
        Diverged: where a loss is no longer finite.
    """
    state = _new_state(images, machine, config)
    if checkpoint:
        state.restore(checkpoint)
    after, evaluate = partial(_trained, state), {"test": images.held_out}
    if not state.begun:
        yield after(before_training(state.model, evaluate, machine))
    training = epochs(state, images.train, config, machine, evaluate=evaluate, on_batch=on_batch)
    with closing(training):
        for pending in training:
            yield after(pending.wait())


def _trained(state: TrainingState, epoch: Epoch) -> TrainedEpoch:
    return TrainedEpoch(epoch, state.weights(), state.tensors(), usage())
