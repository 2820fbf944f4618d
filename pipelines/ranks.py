"""A retraining that the processes of `torchrun` share: the first one leads and records, the others follow.

The stage runs in the first process alone. It names each training to the others, which load the same images and train
along on their share of every batch.
"""

import atexit
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pipelines.session.context import Context
from pipelines.trials.trainings import Images, OnBatch, TrainedEpoch, retraining
from study import distributed
from study.data import Dataset, load_dataset
from study.device import Machine, prepare
from study.errors import Diverged
from study.home import Home
from study.system.torchrun import world_size


def lead(context: Context) -> Context:
    """The context of the first process, which the others follow until it ends."""
    distributed.join(context.machine.device)
    atexit.register(_dismiss)
    return replace(context, machine=replace(context.machine, world_size=world_size()))


def _dismiss() -> None:
    distributed.broadcast()
    distributed.leave()


def shared(
    images: Images, dataset: Dataset, machine: Machine, *arguments: Any, on_batch: OnBatch
) -> Generator[TrainedEpoch]:
    """Runs `retraining` in all processes; yields what it yields in the first one, which calls this.

    Args:
        images: all images of `dataset`.
        dataset: what the others load, from the same cache file.
        machine: see `retraining`, also for `arguments` and `on_batch`.
        *arguments: settings and checkpoint.
        on_batch: called after each batch of all processes.

    Raises:
        Diverged: where a loss is no longer finite.
        StudyError: where another process has ended.
    """
    distributed.broadcast((dataset.config, dataset.cache, arguments))
    # A process that stops in a training leaves the others in it, and `torchrun` ends them.
    atexit.unregister(_dismiss)
    try:
        with distributed.losses_explained():
            yield from retraining(images, machine, *arguments, on_batch=on_batch)
    except Diverged:
        # So it did in the others.
        atexit.register(_dismiss)
        raise
    atexit.register(_dismiss)


def follow(home: Home, device: str, precision: str, threads: int) -> None:
    """Trains along in another process than the first, until that has done.

    Raises:
        StudyError: where another process has ended.
    """
    machine = replace(prepare(device, precision, threads), world_size=world_size())
    distributed.join(machine.device)
    known: dict[Any, Dataset] = {}
    while job := distributed.broadcast():
        config, cache, arguments = job
        if config not in known:
            known[config] = load_dataset(config, home, cache=cache)
        # Where it diverges, it does so in the first one, too.
        with distributed.losses_explained(), suppress(Diverged):
            deque(retraining(Images.of_all(known[config]), machine, *arguments), maxlen=0)
    distributed.leave()
