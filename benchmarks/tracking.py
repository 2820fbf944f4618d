"""Overhead of MLflow and Optuna in a search, per epoch and per trial, and its growth with the number of trials.

python -m benchmarks.tracking   # some minutes, most of them in the long search

The search is run with the default sampler and pruner and with SQLite stores in temporary homes, but without training:
epochs end at once, with synthetic curves, so that only bookkeeping is timed. The baseline is the trials around the
tenth in two short searches, before and after the long one, each with its own stores.

The share of a search is relative to an epoch of the CNN, timed on random images and extrapolated to 45,000 training and
5,000 validation images. Metrics are written in the background, for several epochs at once where epochs are short; the
share counts one write per epoch, as if the training waited for it.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from unittest import mock

import numpy as np
import typer

from benchmarks import untrained
from benchmarks.images import random_images
from benchmarks.measure import seconds, surroundings
from benchmarks.output import JsonOption, conclude, show
from pipelines.session.context import Context
from pipelines.trials import runner as stage
from study.config import SearchConfig, TrainConfig
from study.device import Machine, prepare
from study.home import Home
from study.models import build_model
from study.search import search
from study.tracking.store import Store
from study.tracking.tags import search_tags
from study.tracking.writer import Writer
from study.training import TrainingState, fit, resident

SHORT = 20
"""Number of trials of a short search, and of the timed end of the long one."""
AROUND_TEN = slice(5, 16)
TRAINING_IMAGES, VALIDATION_IMAGES = 45_000, 5_000


@dataclass
class Timed:
    """Durations of a search: seconds of each trial, from end to end, and of each of its epochs."""

    trials: list[float] = field(default_factory=list)
    epochs: list[list[float]] = field(default_factory=list)
    write: float = 0.0
    """Seconds to write the metrics of one epoch."""


def main(
    trials: Annotated[int, typer.Option(help="Of the long search.", min=SHORT)] = 1000,
    threads: int = 0,
    device: str = "auto",
    precision: str = "auto",
    write: JsonOption = None,
) -> None:
    """Run the three searches, train a little, and compare."""
    machine = prepare(device, precision, threads)
    epoch = _epoch_seconds(machine)
    before, timed, after = (_search(total, machine) for total in (SHORT, trials, SHORT))
    _show_growth(timed)
    early = statistics.median(before.trials[AROUND_TEN] + after.trials[AROUND_TEN])
    late = statistics.median(timed.trials[-SHORT:])
    epochs = statistics.mean(map(len, timed.epochs))
    in_epochs = [duration for trial in timed.epochs[-SHORT:] for duration in trial]
    conclude(
        {
            **surroundings(machine),
            "trials": trials,
            "epochs_per_trial": epochs,
            "seconds_per_trial_at_10": early,
            f"seconds_per_trial_at_{trials}": late,
            "growth": late / early,
            "seconds_per_epoch": statistics.mean(in_epochs),
            "seconds_per_epoch_in_background": timed.write,
            "seconds_per_training_epoch": epoch,
            "share_of_search_at_10": _share(early, epochs, timed.write, epoch),
            "share_of_search": _share(late, epochs, timed.write, epoch),
        },
        write,
    )


def _share(trial: float, epochs: float, write: float, training: float) -> float:
    overhead = trial + epochs * write
    return overhead / (overhead + epochs * training)


def _search(total: int, machine: Machine) -> Timed:
    """Runs a search of `total` trials without training, in its own stores."""
    timed = Timed()
    with tempfile.TemporaryDirectory() as folder, _untrained(timed):
        home = Home(root=Path(folder))
        context = Context(home, Store(home), home.storage_url, machine, display=untrained.NoBars())
        config, dataset = SearchConfig(name="tracking", trials=total), untrained.dataset()
        opened = search.open_search(config, context.storage, digest=dataset.digest)
        parent = context.store.start(dataset.key, config.name, tags=search_tags(config), params=config.settings())
        clock = time.perf_counter()

        def on_end(ended: stage.EndedTrial) -> None:
            nonlocal clock
            timed.trials.append(time.perf_counter() - clock)
            clock += timed.trials[-1]

        stage.run_trials(opened, config, dataset, context, parent=parent, on_end=on_end)
        timed.write = _write_seconds(context.store, parent)
    return timed


@contextmanager
def _untrained(timed: Timed) -> Iterator[None]:
    """Replaces the training of trials, and times what they do at the end of each epoch."""

    @contextmanager
    def around() -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:  # being pruned takes time as well
            timed.epochs[-1].append(time.perf_counter() - start)

    def curve(config: TrainConfig) -> np.ndarray:
        timed.epochs.append([])
        return untrained.curve(config)

    with mock.patch.object(stage, "trial", untrained.trial_on(curve, around=around)):
        yield


def _write_seconds(store: Store, run_id: str) -> float:
    metrics = {f"metric_{number}": 0.5 for number in range(7)}

    def write(writer: Writer, step: int) -> None:
        writer.log(run_id, metrics, step)
        writer.drain()

    with Writer(store) as writer:
        return statistics.median(seconds(lambda step=step: write(writer, step)) for step in range(SHORT))  # type: ignore[misc]


def _epoch_seconds(machine: Machine, steps: int = 20) -> float:
    """Seconds per epoch of the CNN with validation, extrapolated from `steps` steps."""
    config = TrainConfig(epochs=4)
    train, validation = (
        resident(random_images(size), machine)
        for size in (steps * config.batch_size, steps * config.batch_size * VALIDATION_IMAGES // TRAINING_IMAGES)
    )
    ends: list[float] = []
    state = TrainingState(build_model(config.model, classes=10, seed=0), config, machine)
    sets = {"val": validation}
    fit(state, train, config, machine, evaluate=sets, on_epoch=lambda epoch: ends.append(time.perf_counter()))
    # The first epoch is not counted: it warms up.
    return statistics.median(np.diff(ends).tolist()) * TRAINING_IMAGES / len(train)


def _show_growth(timed: Timed) -> None:
    ends = [end for end in (SHORT, 50, 100, 200, 500, 1000, 2000) if end < len(timed.trials)] + [len(timed.trials)]
    rows = [(end, *_milliseconds(timed, slice(end - SHORT // 2, end))) for end in ends]
    show("Milliseconds of bookkeeping", ("ten trials up to", "a trial", "an epoch"), rows)


def _milliseconds(timed: Timed, part: slice) -> Sequence[float]:
    epochs = [duration for trial in timed.epochs[part] for duration in trial]
    return 1000 * statistics.median(timed.trials[part]), 1000 * statistics.mean(epochs)


if __name__ == "__main__":
    typer.run(main)
