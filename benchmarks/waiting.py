"""Epochs with OMP_WAIT_POLICY=passive against OpenMP's default, on an idle machine and beside busy processes.

    python -m benchmarks.waiting

A thread of OpenMP that waits for the others spins by default, and takes a core from whatever else would run there. The
two settings are processes that train in turn; the images are random ones of CIFAR-10's size.
"""

import multiprocessing
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Annotated

import typer

from benchmarks.images import random_images
from benchmarks.measure import epoch_of, seconds, surroundings
from benchmarks.output import JsonOption, conclude, show
from study.config import TrainConfig
from study.device import prepare
from study.training import resident

VARIABLE = "OMP_WAIT_POLICY"
POLICIES = ("", "passive")
"""The default, and the setting under test."""


def main(
    images: Annotated[int, typer.Option(help="Images of an epoch.", min=1)] = 4_000,
    rounds: Annotated[int, typer.Option(help="Counted epochs of each, after one that is not.", min=1)] = 7,
    busy: Annotated[int, typer.Option(help="Busy processes beside the second half.", min=1)] = 8,
    threads: Annotated[int, typer.Option(help="Threads of each training; 0 for as many as torch takes.", min=0)] = 0,
    write: JsonOption = None,
) -> None:
    """Train the CNN under both settings in turn, idle and beside busy processes."""
    # Only spawned processes load OpenMP anew, and read the variable.
    spawning = multiprocessing.get_context("spawn")
    machine = prepare("cpu", "float32", threads)
    rows, figures = [], {**surroundings(machine), "images": images, "rounds": rounds, "busy": busy}
    with _trainings(spawning, images, threads) as trainings:
        for place, count in (("idle", 0), (f"beside {busy} busy processes", busy)):
            with _busy(spawning, count):
                taken = [[_epoch(training) for training in trainings] for _ in range(rounds + 1)][1:]
            default, passive = (statistics.median(column) for column in zip(*taken, strict=True))
            rows.append([place, default, passive, passive / default])
            figures |= {f"{'busy' if count else 'idle'}_passive_to_default": passive / default}
    show(f"Seconds an epoch of {images:,} images, {machine}", ["machine", "default", "passive", "ratio"], rows)
    conclude(figures, write)


def _epoch(training: Connection) -> float:
    training.send(None)
    return float(training.recv())


@contextmanager
def _trainings(spawning: multiprocessing.context.SpawnContext, images: int, threads: int) -> Iterator[list[Connection]]:
    """A process for each of the policies, which sends the seconds of an epoch whenever it is sent something."""
    before, processes, pipes = os.environ.get(VARIABLE), [], []
    for policy in POLICIES:
        ours, theirs = spawning.Pipe()
        os.environ.pop(VARIABLE, None)
        if policy:
            os.environ[VARIABLE] = policy
        process = spawning.Process(target=_train, args=(theirs, images, threads), daemon=True)
        process.start()
        processes.append(process)
        pipes.append(ours)
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before
    try:
        yield pipes
    finally:
        for process in processes:
            process.kill()


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
    while True:
        pass


if __name__ == "__main__":
    typer.run(main)
