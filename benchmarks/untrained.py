"""Trials without training, for benchmarks that time only what surrounds it."""

import math
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from pipelines.session.display import Display
from study.config import DataConfig, TrainConfig
from study.data import Dataset
from study.images import Labelled
from study.training import Epoch

NAMES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


class NoBars(Display):
    """A display without progress bars."""

    @property
    def has_bars(self) -> bool:  # noqa: D102
        return False


def dataset() -> Dataset:
    """Ten black images of each of ten classes."""
    images = Labelled(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.arange(100) % 10)
    return Dataset(DataConfig(), "random", "random", "0" * 64, tuple(map(str, range(10))), images, images, "zeros")


def curve(config: TrainConfig) -> np.ndarray:
    """Synthetic validation accuracies: they rise to a height that depends on the settings, with some noise."""
    noise = np.random.default_rng(config.seed).normal(0, 0.005, config.epochs)
    height = 0.7 - 0.1 * (math.log10(config.learning_rate) + 3) ** 2 - 0.5 * math.sqrt(config.weight_decay)
    rise = 1 - np.exp(-np.arange(1, config.epochs + 1) / 2.5)
    accuracies: np.ndarray = 0.1 + max(height - 0.1, 0) * rise + noise
    return accuracies.clip(0, 1)


def trial_on(
    curve: Callable[[TrainConfig], np.ndarray], *, pause: float = 0.0, around: Callable[[], Any] = nullcontext
) -> Callable[..., Generator[Epoch | None]]:
    """A replacement of `pipelines.trials.trainings.trial`: each epoch sleeps, and yields the curve's next accuracy.

    Args:
        curve: the validation accuracies of a training.
        pause: seconds of an epoch.
        around: makes the context manager in which the consumer handles an epoch, even where it ends the trial.
    """

    def trial(images: Any, machine: Any, config: TrainConfig, *, on_batch: Any = None) -> Generator[Epoch | None]:
        for number, accuracy in enumerate(map(float, curve(config)), 1):
            time.sleep(pause)
            metrics = dict(zip(NAMES, (2.3 - 2 * accuracy, accuracy, 2.3 - 2 * accuracy, accuracy), strict=True))
            with around():
                yield Epoch(number, metrics, 1.0, 1.0)

    return trial
