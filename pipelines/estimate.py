"""How long searches and retrainings take, estimated from a few timed steps of each network; nothing is recorded."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from analysis.drawing.wording import counted
from pipelines.session.context import Context
from study.config import SearchConfig, TrainConfig
from study.data import Dataset
from study.device import Machine, failures_explained
from study.models import build_model
from study.search.space import costliest
from study.training import Epoch, TrainingState, fit

STEPS = 4
"""Steps of an epoch that is timed."""


def seconds_per_image(settings: TrainConfig, dataset: Dataset, machine: Machine) -> float:
    """Time of a training step per image: the shorter of two short epochs, since the first pays for warming up."""
    settings = replace(settings, epochs=2)
    model = build_model(settings.model, classes=len(dataset.classes), seed=0, side=dataset.side)
    state = TrainingState(model, settings, machine)
    rows = torch.arange(min(STEPS * settings.batch_size, len(dataset.train)))
    timed: list[Epoch] = []
    with failures_explained(machine):
        fit(state, dataset.train, settings, machine, rows=rows, evaluate={}, on_epoch=timed.append)
    return min(epoch.seconds for epoch in timed) / len(rows)


def say_estimate(searches: Sequence[SearchConfig], dataset: Dataset, context: Context, *, retrain_epochs: int) -> None:
    """Prints, for each search and the retraining after it, the most that its training takes on this machine."""
    total = 0.0
    for config in searches:
        each = seconds_per_image(TrainConfig(model=costliest(config), **config.shared()), dataset, context.machine)
        searched = each * config.trials * config.epochs * len(dataset.splits.train_rows)
        retrained = each * retrain_epochs * len(dataset.train)
        total += searched + retrained
        pruned = ", much less with pruning" if config.pruner != "none" else ""
        after = f"; {counted(retrain_epochs, 'epoch')} of retraining for {duration(retrained)}"
        context.display.say(
            f"{config.model.name}: {counted(config.trials, 'trial')} of up to {counted(config.epochs, 'epoch')} train "
            f"for at most {duration(searched)}{pruned}{after if retrain_epochs else ''}."
        )
    context.display.say(f"Estimated from {STEPS} steps each: at most {duration(total)} of training in all.")


def say_retraining(settings: TrainConfig, dataset: Dataset, context: Context, *, seeds: int) -> None:
    """Prints how long retraining with so many seeds takes on this machine, one after the other."""
    if not seeds:
        context.display.say("Nothing is left to retrain.")
        return
    each = seconds_per_image(settings, dataset, context.machine) * settings.epochs * len(dataset.train)
    context.display.say(
        f"{settings.model.name}: {counted(seeds, 'retraining')} of {counted(settings.epochs, 'epoch')} for "
        f"{duration(seeds * each)}, estimated from {STEPS} steps."
    )


def duration(seconds: float) -> str:
    """A duration to two digits or so: ``8 s``, ``12 min``, ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
