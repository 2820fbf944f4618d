"""All stages for both models, with the report's Table 2 beside ours; also one search and retraining."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from analysis.drawing.wording import counted
from pipelines.config import AnalysisConfig
from pipelines.continued import UnderWay, close_dead
from pipelines.estimate import say_estimate
from pipelines.retrain import retrain
from pipelines.seeds import finished, say_other_precision
from pipelines.session.context import Context
from pipelines.session.mlflow_pages import run_page
from pipelines.session.ties import tied_trials, ties
from pipelines.tune import tune
from study.config import AFTER_DATASET, DataConfig, SearchConfig, TrainConfig
from study.data import Dataset
from study.errors import require
from study.ranges import least_accuracy
from study.search.settings import require_continuable
from study.search.space import GRID
from study.system.processes import named
from study.tracking import best
from study.tracking.runs import Run, is_under_way, metric

if TYPE_CHECKING:
    from pipelines.analyse import Analysis


def search_and_retrain(
    config: SearchConfig,
    dataset: Dataset,
    context: Context,
    *,
    epochs: int | None,
    prefer: str = "",
    workers: int = 0,
    dry_run: bool = False,
) -> None:
    """Searches, then retrains the best trial unless that was done.

    Args:
        config: the search.
        dataset: the images.
        context: the stores, the machine and the display.
        epochs: of the retraining; 0: none, None: as of `best.default_epochs`.
        prefer: which trial is the best, see `best.best_trial`.
        workers: see `tune`.
        dry_run: whether only to say how long it would take.
    """
    config = _complete(config, dataset, context)
    if dry_run:
        _require_continuable(config, dataset, context)
        most = config.epochs if "epochs" in config.choices else TrainConfig.epochs
        say_estimate([config], dataset, context, retrain_epochs=most if epochs is None else epochs)
        return
    tune(config, dataset, replace(context, is_part=epochs != 0), workers=workers)
    if epochs != 0:
        _retrain_best(config, dataset, context, epochs, prefer)


def _require_continuable(config: SearchConfig, dataset: Dataset, context: Context) -> None:
    require_continuable(config, context.storage, digest=dataset.digest, image_size=dataset.side)


def estimate_given(config: SearchConfig, dataset: Dataset, context: Context, *, epochs: int | None, seeds: int) -> None:
    """Says how long the only trial of a search and its retrainings take, as if nothing was done yet."""
    config = _complete(config, dataset, context)
    say_estimate([config], dataset, context, retrain_epochs=seeds * (epochs or TrainConfig.epochs))


def run_only_trial(config: SearchConfig, dataset: Dataset, context: Context) -> Run:
    """Trains the trial of a search of one trial on the validation split, unless that was done, and returns its run.

    Raises:
        StudyError: where its loss diverges.
    """
    config = _complete(config, dataset, context)
    complete = best.complete_trials(context.store, dataset.key, search=config.name)
    if not complete:
        context.display.say(
            f"First a trial at these settings: {counted(config.epochs, 'epoch')} on the training split, for its "
            "validation accuracy."
        )
    tune(config, dataset, replace(context, is_part=True))
    complete = complete or best.complete_trials(context.store, dataset.key, search=config.name)
    require(bool(complete), f"The only trial of {config.name} was not completed: choose another --lr or --decay.")
    return complete[0]


def _complete(config: SearchConfig, dataset: Dataset, context: Context) -> SearchConfig:
    """The search with its default name filled in, and at most as many trials as its grid has points."""
    name = config.name.replace(AFTER_DATASET, f"{dataset.key}-{config.model.name}")
    config = replace(config, name=name, image_size=dataset.side)
    points = len(GRID) ** 2
    if config.sampler == "grid" and config.trials > points:
        context.display.say(f"The grid has {points} points: --trials {config.trials} is replaced by {points}.")
        config = replace(config, trials=points)
    return config


def _retrain_best(
    config: SearchConfig, dataset: Dataset, context: Context, epochs: int | None, prefer: str = ""
) -> None:
    trial = best.best_trial(context.store, dataset.key, config.model.name, prefer=prefer)
    epochs = epochs or best.default_epochs(context.store, trial)
    if (least := least_accuracy(prefer)) is not None:
        context.display.say(
            f"The smallest {config.model.name} with a validation accuracy of at least {least:g} is {trial.full_name}: "
            f"{trial.parameters:,.0f} parameters, {metric(trial, 'best_val_accuracy'):.4f}. Other commands name it by "
            f"--run best:{'' if config.model.name == 'cnn' else f'{config.model.name}:'}{prefer}."
        )
    else:
        complete = best.complete_trials(context.store, dataset.key, model=config.model.name)
        if any(run.search != config.name for run in (trial, *tied_trials(complete))):
            sentence = (
                f"The best {config.model.name} of all searches on {dataset.key} is {trial.full_name}, validation "
                f"accuracy {metric(trial, 'best_val_accuracy'):.4f}: it is the one that is retrained. {ties(complete)}"
            )
            context.display.say(sentence.rstrip())
    seed = trial.base_seed
    close_dead(trial, seed, epochs, context)
    run = finished(trial, dataset, context, epochs, [seed]).get(seed)
    state = "retrained already"
    if run is None:
        candidates = context.store.runs(stage="retrain", trial_run=trial.id, seed=str(seed))
        under_way = (other for other in candidates if is_under_way(other) and other.epochs == epochs)
        run = next(under_way, None)
        if run is None:
            say_other_precision(trial, context, epochs, seed)
            try:
                retrain(trial, dataset, context, epochs=epochs)
                return
            except UnderWay as other:
                # It began after the look above.
                run = other.run
        state = f"being retrained by {named(run.worker)}, for which this command does not wait"
    context.display.say(f"The best, {trial.full_name}, is {state}: run {run.id}.")
    context.say_pages(run=run_page(run))


def reproduce(
    searches: Sequence[SearchConfig],
    data: DataConfig,
    context: Context,
    *,
    retrain_epochs: int,
    workers: int = 0,
    dry_run: bool = False,
) -> "Analysis | None":
    """Runs every stage for every search's model, then the report; skips what is done already.

    First it says how long that takes, and nothing else is done with `dry_run`.
    """
    dataset = context.load(data)
    say_estimate(searches, dataset, context, retrain_epochs=retrain_epochs)
    if dry_run:
        for config in searches:
            _require_continuable(_complete(config, dataset, context), dataset, context)
        return None
    # Drawing takes seconds to import, which `study tune` need not wait for.
    from pipelines.analyse import analyse

    part, numbers, total = replace(context, is_part=True), count(1), 2 * len(searches) + 1

    def begin(text: str) -> None:
        context.display.heading(f"{next(numbers)}/{total} {text}")

    for config in (_complete(config, dataset, context) for config in searches):
        trials, epochs = counted(config.trials, "trial"), counted(config.epochs, "epoch")
        begin(f"Search: {config.model.name}, {trials} of up to {epochs}")
        tune(config, dataset, part, workers=workers)
        begin(f"Retrain: {config.model.name}, the best trial for {counted(retrain_epochs, 'epoch')}")
        _retrain_best(config, dataset, part, retrain_epochs)
    begin(f"Analyse: {' and '.join(config.model.name for config in searches)}")
    return analyse("best", AnalysisConfig(), context, dataset)
