"""The retrainings of one trial with one seed or several: those that are done already, and those that are missing."""

import statistics
from collections.abc import Collection

from pipelines.checkpoints import Checkpoints
from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.session.mlflow_pages import run_page
from study.data import Dataset
from study.errors import StudyError
from study.tracking.artifacts import MODEL_SUMS
from study.tracking.best import finished_seeds
from study.tracking.registry import model_digests
from study.tracking.runs import Run, metric


def finished(trial: Run, context: Context, epochs: int, seeds: Collection[int]) -> dict[int, Run]:
    """The retrainings of `trial` for so many epochs, in this precision, that ended and are whole; by those `seeds`."""
    found = finished_seeds(context.store, trial, epochs, context.machine.precision)
    # Of these alone: all files of a run are hashed, and over a server fetched, to know that it is whole.
    return {seed: run for seed, run in found.items() if seed in seeds and _is_whole(run, epochs, context)}


def _is_whole(run: Run, epochs: int, context: Context) -> bool:
    if Checkpoints(context.store, run.id).broken(epochs):
        return False
    try:
        kept, now = context.store.sums(run.id, MODEL_SUMS), model_digests(context.store, run.id)
    except StudyError:
        return False
    return bool(now) and all(now.get(path) == digest for path, digest in kept.items())


def retrain_once(trial: Run, dataset: Dataset, context: Context, *, epochs: int, seed: int | None) -> str:
    """Retrains `trial` unless that was done: the same command, after it was stopped at its very end, finds its run.

    For the arguments, the id that is returned, and what is raised see `pipelines.retrain.retrain`.
    """
    number = trial.base_seed if seed is None else seed
    if run := finished(trial, context, epochs, [number]).get(number):
        context.display.say(f"Seed {number} is retrained already: run {run.id}; --again trains it once more.")
        context.say_pages(run=run_page(run))
        return run.id
    return retrain(trial, dataset, context, epochs=epochs, seed=seed)


def retrain_seeds(
    trial: Run, dataset: Dataset, context: Context, *, epochs: int, seed: int | None, seeds: int
) -> list[str]:
    """Retrains `trial` with `seeds` seeds, counted from `seed`, and says the mean and deviation; returns the runs' ids.

    A seed that was retrained to its end, for as many epochs and in the same precision, is not trained again, as long
    as what it kept is whole. For the arguments and what is raised see `pipelines.retrain.retrain`.
    """
    first = trial.base_seed if seed is None else seed
    numbers = range(first, first + seeds)
    done = finished(trial, context, epochs, numbers)
    run_ids = []
    for number in numbers:
        if number in done:
            context.display.say(f"Seed {number} is retrained already: run {done[number].id}.")
            run_ids.append(done[number].id)
        else:
            run_ids.append(retrain(trial, dataset, context, epochs=epochs, seed=number))
    accuracies = [metric(context.store.get(run_id), "final_test_accuracy") for run_id in run_ids]
    spread = f" ± {statistics.stdev(accuracies):.4f} (standard deviation)" if seeds > 1 else ""
    which = f"seeds {first} to {first + seeds - 1}" if seeds > 1 else f"seed {first}"
    context.display.say(
        f"Retrained {trial.name}, {which}, epochs {epochs}: test accuracy {statistics.mean(accuracies):.4f}{spread}."
    )
    return run_ids
