"""Epochs with OpenMP's ways of waiting, on an idle machine and beside busy processes.

    python -m benchmarks.waiting

A thread of OpenMP that waits for the others spins by default, for long, and takes a core from whatever else would run
there; GOMP_SPINCOUNT says for how many rounds, before it sleeps. Each setting is a process, and all train in turn; the
images are random ones of CIFAR-10's size.
"""

import multiprocessing
import os
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Annotated

import typer

from benchmarks.images import random_images
from benchmarks.measure import epoch_of, seconds, surroundings
from benchmarks.output import JsonOption, conclude, show
from pipelines.session.isolation import SPINS
from study.config import TrainConfig
from study.device import prepare
from study.training import resident

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SETTINGS = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    **{f"{count:,} rounds": {"GOMP_SPINCOUNT": str(count)} for count in (10_000, SPINS, 200_000)},
}
"""The default, and the settings under test."""


def main(
    images: Annotated[int, typer.Option(help="Images of an epoch.", min=1)] = 4_000,
    rounds: Annotated[int, typer.Option(help="Counted epochs of each, after one that is not.", min=1)] = 7,
    busy: Annotated[list[int], typer.Option(help="Number of busy processes beside it; may be repeated.")] = [0, 2, 8],  # noqa: B006  # typer copies it
    threads: Annotated[int, typer.Option(help="Threads of each training; 0 for as many as torch takes.", min=0)] = 0,
    write: JsonOption = None,
) -> None:
    """Train the CNN under all settings in turn, idle and beside busy processes."""
    # Only spawned processes load OpenMP anew, and read the variables.
    spawning = multiprocessing.get_context("spawn")
    machine = prepare("cpu", "float32", threads)
    rows, figures = [], {**surroundings(machine), "images": images, "rounds": rounds}
    with _trainings(spawning, images, threads) as trainings:
        for count in busy:
            with _busy(spawning, count):
                taken = [[_epoch(training) for training in trainings] for _ in range(rounds + 1)][1:]
            medians = [statistics.median(column) for column in zip(*taken, strict=True)]
            rows.append([count, *medians])
            figures |= {
                f"{name} to default beside {count}": median / medians[0]
                for name, median in zip(SETTINGS, medians, strict=True)
            }
    show(f"Seconds an epoch of {images:,} images, {machine}", ["busy processes", *SETTINGS], rows)
    conclude(figures, write)


def _epoch(training: Connection) -> float:
    training.send(None)
    return float(training.recv())


@contextmanager
def _trainings(spawning: multiprocessing.context.SpawnContext, images: int, threads: int) -> Iterator[list[Connection]]:
    """A process for each of the settings, which sends the seconds of an epoch whenever it is sent something."""
    processes, pipes = [], []
    for setting in SETTINGS.values():
        ours, theirs = spawning.Pipe()
        process = spawning.Process(target=_train, args=(theirs, images, threads), daemon=True)
        with _environment(setting):
            process.start()
        processes.append(process)
        pipes.append(ours)
    try:
        yield pipes
    finally:
        for process in processes:
            process.kill()


@contextmanager
def _environment(setting: Mapping[str, str]) -> Iterator[None]:
    """The environment with `VARIABLES` as in `setting`, or not set."""
    before = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    os.environ.update(setting)
    try:
        yield
    finally:
        for name in setting:
            del os.environ[name]
        os.environ.update(before)


def _train(pipe: Connection, images: int, threads: int) -> None:
    machine = prepare("cpu", "float32", threads)
    epoch = epoch_of(resident(random_images(images), machine), TrainConfig(), machine)
    while True:
        pipe.recv()
        pipe.send(seconds(epoch))


@contextmanager
def _busy(spawning: multiprocessing.context.SpawnContext, count: int) -> Iterator[None]:
    processes = [spawning.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def _spin() -> None:
    # A parent that is killed cannot stop it.
    parent = os.getppid()
    while os.getppid() == parent:
        pass


if __name__ == "__main__":
    typer.run(main)
