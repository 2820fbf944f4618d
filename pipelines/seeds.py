"""Retrains one trial with one or several seeds, and skips the seeds that are done already."""

import statistics
from collections.abc import Collection
from dataclasses import replace

from analysis.drawing.wording import counted
from pipelines.estimate import say_retraining
from pipelines.retrain import register_model, retrain, retraining
from pipelines.session.context import Context
from pipelines.session.mlflow_pages import run_page
from pipelines.trials.trainings import Images
from pipelines.trials.turns import take_turns
from study.data import Dataset
from study.errors import StudyError
from study.models import trained_model
from study.served import WEIGHTS
from study.tracking.artifacts import MODEL_SUMS, weights_path
from study.tracking.best import finished_seeds, require_searched_on
from study.tracking.checkpoints import Checkpoints
from study.tracking.packaging import PACKED
from study.tracking.registry import delete_model, model_digests, model_name, ready_model, register, versions_of
from study.tracking.runs import Run, metric


def finished(trial: Run, dataset: Dataset, context: Context, epochs: int, seeds: Collection[int]) -> dict[int, Run]:
    """The finished and whole retrainings of `trial` for so many epochs in this precision, by those of `seeds`.

    A model that is missing, altered or of an earlier form is exported again from the weights; one that is not
    registered is registered.
    """
    runs = finished_seeds(context.store, trial, epochs, context.machine.precision)
    # Only these: checking a run hashes all its files, which a server must send first.
    chosen = {seed: run for seed, run in runs.items() if seed in seeds}
    whole = {seed: run for seed, run in chosen.items() if not Checkpoints(context.store, run.id).broken(epochs)}
    for run in whole.values():
        _restore_model(run, trial, dataset, context)
    return whole


def _restore_model(run: Run, trial: Run, dataset: Dataset, context: Context) -> None:
    store, name = context.store, model_name(run)
    exported = ready_model(store.client, run.id)
    if exported and _is_model_whole(run, context):
        if not versions_of(store.client, name, exported):
            context.display.say(f"The model of run {run.id} is registered again, as {name}.")
        register(store.client, exported, name, metric(trial, "best_val_accuracy"), context.display.say)
        return
    context.display.say(
        f"The model of run {run.id} is missing, altered or of an earlier form: it is exported again from its weights."
    )
    delete_model(store.client, run.id)
    config = run.train_config
    weights, _ = store.load_tensors(run.id, weights_path(config.epochs))
    model = trained_model(config.model, weights, classes=len(dataset.classes), side=dataset.side)
    register_model(run.id, model, trial, dataset, context)
    Checkpoints(store, run.id).keep_model(model_digests(store, run.id))


def _is_model_whole(run: Run, context: Context) -> bool:
    store = context.store
    try:
        recorded = store.sums(run.id).get(MODEL_SUMS)
        if recorded and store.digest(run.id, MODEL_SUMS) != recorded:
            return False
        recorded_sums, current = store.sums(run.id, MODEL_SUMS), model_digests(store, run.id)
    except StudyError:
        return False
    # Of models of an earlier form, which take only arrays of one shape, all files may be there too.
    return f"data/{PACKED}/{WEIGHTS}" in current and all(
        current.get(path) == digest for path, digest in recorded_sums.items()
    )


def estimate(
    trial: Run, dataset: Dataset, context: Context, *, epochs: int, seed: int | None, seeds: int, again: bool
) -> None:
    """Says how long it takes to retrain `trial` with those of the `seeds` that are not done, or with all `again`."""
    require_searched_on(trial, dataset.digest, dataset.source)
    first = trial.base_seed if seed is None else seed
    done = {} if again else finished_seeds(context.store, trial, epochs, context.machine.precision)
    missing = [number for number in range(first, first + seeds) if number not in done]
    say_retraining(replace(trial.train_config, epochs=epochs), dataset, context, seeds=len(missing))


def retrain_once(trial: Run, dataset: Dataset, context: Context, *, epochs: int, seed: int | None) -> str:
    """Retrains `trial` unless a finished run exists, as after a command that was stopped at its very end.

    For the arguments, the id that is returned, and what is raised see `pipelines.retrain.retrain`.
    """
    number = trial.base_seed if seed is None else seed
    if run := finished(trial, dataset, context, epochs, [number]).get(number):
        context.display.say(f"Seed {number} is retrained already: run {run.id}; --again trains it once more.")
        context.say_pages(run=run_page(run))
        return run.id
    say_other_epochs(trial, context, epochs)
    say_other_precision(trial, context, epochs, number)
    return retrain(trial, dataset, context, epochs=epochs, seed=seed)


def say_other_precision(trial: Run, context: Context, epochs: int, seed: int) -> None:
    """Says where the same training is finished in another precision, so that a second run surprises nobody."""
    for run in context.store.runs(stage="retrain", trial_run=trial.id, seed=str(seed), status="FINISHED"):
        if run.epochs == epochs and run.precision != context.machine.precision:
            context.display.say(
                f"Seed {seed} is retrained in {run.precision} already (run {run.id[:8]}); in "
                f"{context.machine.precision} it has other weights, and becomes another run."
            )
            return


def say_other_epochs(trial: Run, context: Context, epochs: int) -> None:
    """Says where a trial is retrained for other numbers of epochs, since only seeds of the same number are compared."""
    retrained = context.store.runs(stage="retrain", trial_run=trial.id, status="FINISHED")
    others = sorted({run.epochs for run in retrained} - {0})
    if others and epochs not in others:
        context.display.say(
            f"{trial.full_name} is retrained for {counted(others[-1], 'epoch')} so far, and now for {epochs}: seeds of "
            f"different numbers of epochs are not compared; --epochs {others[-1]} makes them comparable."
        )


def retrain_seeds(
    trial: Run, dataset: Dataset, context: Context, *, epochs: int, seed: int | None, seeds: int
) -> list[str]:
    """Retrains `trial` with `seeds` seeds, counted from `seed`, and prints mean and deviation; returns the runs' ids.

    A seed that has a finished and whole run of as many epochs in the same precision is skipped. For the
    arguments and what is raised see `pipelines.retrain.retrain`.
    """
    first = trial.base_seed if seed is None else seed
    numbers = range(first, first + seeds)
    done = finished(trial, dataset, context, epochs, numbers)
    for number in done:
        context.display.say(f"Seed {number} is retrained already: run {done[number].id}.")
    missing, images = [number for number in numbers if number not in done], Images.of_all(dataset)
    say_other_epochs(trial, context, epochs)
    for number in missing:
        say_other_precision(trial, context, epochs, number)
    trainings = (retraining(trial, dataset, images, context, epochs=epochs, seed=number) for number in missing)
    with context.display.bar(f"seeds {first} to {numbers[-1]}", seeds) as bar:
        bar.advance(len(done))
        retrained = take_turns(trainings, context.cluster.places if context.cluster else 1, bar.advance)
    by_seed = {number: run.id for number, run in done.items()} | dict(zip(missing, retrained, strict=True))
    run_ids = [by_seed[number] for number in numbers]
    accuracies = [metric(context.store.get(run_id), "final_test_accuracy") for run_id in run_ids]
    spread = f" ± {statistics.stdev(accuracies):.4f} (standard deviation)" if seeds > 1 else ""
    of_seeds = f"seeds {first} to {first + seeds - 1}" if seeds > 1 else f"seed {first}"
    mean = f"{statistics.mean(accuracies):.4f}{spread}"
    context.display.say(f"Retrained {trial.full_name}, {of_seeds}, epochs {epochs}: test accuracy {mean}.")
    return run_ids
