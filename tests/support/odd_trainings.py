"""Trainings of a few lines for the nodes of a cluster, which import this module: how each can end."""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from study.device import Machine
from study.errors import Diverged
from study.images import Labelled


def counting(images: Labelled, machine: Machine, last: int, **options: Any) -> Generator[tuple[int, int]]:
    """Yields the number of images with each number up to `last`."""
    for number in range(last):
        yield number, len(images)


def echoing(images: Labelled, machine: Machine, **options: Any) -> Generator[Any]:
    """Yields the machine, the images, and the file that their memory is mapped from."""
    yield machine, images, _file_behind(images.images.data_ptr())


def _file_behind(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *path = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return " ".join(path)
    return ""


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
