"""All stages for both models, and the report's Table 2 beside ours; also a search with the retraining after it."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.analyse import analyse
from pipelines.context import Context
from pipelines.retrain import retrain
from pipelines.tune import tune
from study import selection
from study.config import AFTER_DATASET, AnalysisConfig, DataConfig, SearchConfig
from study.data import Dataset
from study.search import GRID


def search_and_retrain(
    config: SearchConfig, data: DataConfig, dataset: Dataset, context: Context, *, epochs: int
) -> None:
    """Searches, then retrains the best trial for `epochs` (0: not at all) unless that was done."""
    if config.name == AFTER_DATASET:
        config = replace(config, name=f"{dataset.key}-{config.model.name}")
    points = len(GRID) ** 2
    if config.sampler == "grid" and config.trials > points:
        context.display.say(f"The grid has {points} points: --trials {config.trials} is taken as {points}.")
        config = replace(config, trials=points)
    tune(config, data, dataset, context)
    if epochs:
        _retrain_best(config, data, dataset, context, epochs)


def _retrain_best(config: SearchConfig, data: DataConfig, dataset: Dataset, context: Context, epochs: int) -> None:
    trial = selection.best_trial(context.store, dataset.key, config.model.name)
    done = [
        run
        for run in selection.retrained(context.store, trial, trial.tags["base_seed"])
        if run.params["epochs"] == str(epochs)
    ]
    if done:
        context.display.say(f"The best {config.model.name}, {trial.name}, is retrained already: run {done[0].id}.")
    else:
        retrain(trial, data, dataset, context, epochs=epochs)


def reproduce(searches: Sequence[SearchConfig], data: DataConfig, context: Context, *, retrain_epochs: int) -> None:
    """Every stage for every search's model, then the report; what is done already is skipped."""
    dataset = context.load(data)
    for config in searches:
        search_and_retrain(config, data, dataset, context, epochs=retrain_epochs)
    analyse("best", AnalysisConfig(), context, dataset=data.dataset, loaded=dataset)
