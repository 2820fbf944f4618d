"""Trainings of a few lines for the nodes of a cluster, which import this module: how each can end."""

import os
import signal
import time
from collections.abc import Generator
from typing import Any

from study.device import Machine
from study.errors import Diverged
from study.images import Labelled


def counting(images: Labelled, machine: Machine, last: int, **options: Any) -> Generator[tuple[int, int]]:
    """Yields the number of images with each number up to `last`."""
    for number in range(last):
        yield number, len(images)


def echoing(images: Labelled, machine: Machine, **options: Any) -> Generator[Any]:
    """Yields the machine, and the images, and whether their memory is this process's own."""
    yield machine, images, images.labels.numpy().flags.writeable


def hanging(images: Labelled, machine: Machine, **options: Any) -> Generator[int]:
    yield 1
    time.sleep(10_000)


def killed(images: Labelled, machine: Machine, **options: Any) -> Generator[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield 1


def diverging(images: Labelled, machine: Machine, **options: Any) -> Generator[int]:
    yield 1
    raise Diverged(2, "train_loss", float("nan"))


def hungry(images: Labelled, machine: Machine, **options: Any) -> Generator[int]:
    raise MemoryError
    yield 1


def crashing(images: Labelled, machine: Machine, **options: Any) -> Generator[int]:
    raise ValueError("a bug")
    yield 1
