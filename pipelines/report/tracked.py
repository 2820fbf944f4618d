"""Tables of tracked runs for the figures: a search's trials, a network's seeds, an experiment's trainings."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

import pandas as pd

from analysis.drawing.wording import settings
from analysis.exhibit import Exhibit
from analysis.searches import dead_filters, network_sizes, pareto, recipe, winner
from analysis.searches.search import RATES
from pipelines.report.exhibits import command_line
from pipelines.report.network import SPLITS, Network
from study.architectures import MODELS, CNNConfig
from study.config import DataConfig, OptimiserConfig, SearchConfig, TrainConfig, default_trials, model_config
from study.models import parameter_count
from study.names import LONGEST_NAME
from study.provenance import short_commit
from study.search.space import has_effect
from study.tracking import best
from study.tracking.hints import images, search_words
from study.tracking.runs import Run, differing_params, metric
from study.tracking.store import Store
from study.tracking.tags import experiment_tags

MUST_AGREE = ("dataset_digest", "model_settings", "epochs", "precision", "seed", "split_seed", "validation_fraction")
"""Params in which two searches must agree to be compared, as far as both recorded them."""
MAY_DIFFER = ("pruner", *(item.name for item in fields(OptimiserConfig)), "device", "git_commit")
"""Params in which they may differ; the figure then names them."""


def runs_by_seed(store: Store, network: Network) -> dict[int, Run]:
    """The retrainings like the network's, see `best.finished_seeds`, by seed; for its own seed its own run."""
    trial, precision = store.get(network.run.trial_run), network.run.precision
    runs = best.finished_seeds(store, trial, network.config.epochs, precision)
    return dict(sorted((runs | {network.config.seed: network.run}).items()))


def seed_tables(
    networks: Mapping[str, Network], where: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, dict[str, str]]:
    """The curves, final accuracies and commands that `convergence.show` takes."""
    by_model = {name: runs_by_seed(network.store, network) for name, network in networks.items()}
    histories = {
        name: pd.concat([networks[name].store.history(run.id).assign(seed=seed) for seed, run in runs.items()])
        for name, runs in by_model.items()
    }
    finals = [
        (name, split, seed, metric(run, f"final_{split}_accuracy"))
        for name, runs in by_model.items()
        for split in reversed(SPLITS)
        for seed, run in runs.items()
    ]
    commands = {
        name: command_line(
            where, "retrain", "--run", network.run.id[:8], "--epochs", str(network.config.epochs), "--seeds", "3"
        )
        for name, network in networks.items()
        if len(by_model[name]) == 1
    }
    return histories, pd.DataFrame(finals, columns=["model", "split", "seed", "accuracy"]), commands


def trials(store: Store, search: Run) -> pd.DataFrame:
    """The finished trials of `search` as `analysis.searches.search` takes them."""
    runs = store.runs([search.dataset_key], stage="trial", search=search.search, status="FINISHED")
    names = {name: "planned_epochs" if name == "epochs" else name for name in (*RATES, *search.choices)}
    rows = []
    for run in runs:
        config = run.train_config
        values = {name: value for name, value in config.hyperparameters().items() if has_effect(name, config.model)}
        rows.append(
            {
                "number": run.trial_number,
                "state": run.reason,
                **{column: values.get(name) for name, column in names.items()},
                "parameters": run.parameters,
                "val_accuracy": metric(run, "best_val_accuracy"),
                "val_loss": metric(run, "best_val_loss"),
                "epochs": _trained_epochs(run),
            }
        )
    columns = ["number", "state", *names.values(), "parameters", "val_accuracy", "val_loss", "epochs"]
    return pd.DataFrame(rows, columns=columns).sort_values("number", ignore_index=True)


def _trained_epochs(trial: Run) -> int:
    """How many epochs a trial trained; of a diverged one without the epoch in which it diverged, as Optuna has it."""
    if trial.stopped_epoch is None:
        return trial.epochs
    return trial.stopped_epoch - (trial.reason == "diverged")


def reference(network: Network) -> pareto.Reference | None:
    """The report's network for these classes, with the highest validation accuracy of all trials that have it.

    None for another network than the report's two.
    """
    if network.name not in MODELS:
        return None
    model = model_config(network.name)
    complete = best.complete_trials(network.store, network.run.dataset_key, model=network.name)
    accuracy = (metric(run, "best_val_accuracy") for run in complete if run.train_config.model == model)
    return pareto.Reference(
        parameter_count(model, classes=len(network.classes), side=network.side), next(accuracy, math.nan)
    )


def retrained(store: Store, dataset: str) -> pd.DataFrame:
    """The finished retrainings on the data set with key `dataset`, as `analysis.searches.network_sizes` takes them.

    Those whose trial does not record its number of parameters are left out.
    """
    trials = {run.id: run for run in store.runs([dataset], stage="trial")}
    rows = []
    for run in store.runs([dataset], stage="retrain", status="FINISHED"):
        trial = trials.get(run.trial_run)
        if trial is None or math.isnan(trial.parameters):
            continue
        config = run.train_config
        values = config.differing()
        training = {item.name: values.pop(item.name) for item in fields(config) if item.name in values}
        rows.append(
            {
                "model": run.model,
                "network": settings(values) or "default settings",
                "training": settings(training),
                "parameters": trial.parameters,
                "epochs": config.epochs,
                "trial": trial.trial_number,
                "search": trial.search,
                "is_report": config.model == CNNConfig(),
                "seed": config.seed,
                "test_accuracy": metric(run, "final_test_accuracy"),
            }
        )
    columns = [*network_sizes.OF_NETWORK, "seed", "test_accuracy"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates([*network_sizes.OF_NETWORK, "seed"], ignore_index=True)


def importance(store: Store, search: Run) -> pd.DataFrame:
    """The importance of each hyperparameter, as the search's run keeps it."""
    columns = {"parameter": str, "importance": float}
    if len(search.objectives) > 1:
        columns["importance_parameters"] = float
    return store.load_table(search.id, "search/importance.csv", columns)


def title(search: Run) -> str:
    """E.g. ``Grid search digits-cnn``."""
    sampler = search.sampler
    return f"{'TPE' if sampler == 'tpe' else sampler.capitalize()} search {search.search}"


def grid_command(search: Run, trained: TrainConfig, where: Sequence[str]) -> str:
    """The command that searches the report's grid with the same network and images; unpruned, to train all epochs.

    Args:
        search: that it is to be compared with.
        trained: the settings of one of its trials.
        where: the options of the home and the store.
    """
    name = f"{search.search}-grid"
    grid = SearchConfig(
        name=name if len(name.encode()) <= LONGEST_NAME else "grid",
        model=trained.model,
        trials=default_trials("grid"),
        sampler="grid",
        pruner="none",
        epochs=search.epochs,
        seed=search.seed,
        **trained.shared(),
    )
    return command_line(where, *search_words(grid, search.data_config), "--no-retrain")


def comparable(own: Run, searches: Iterable[Run]) -> list[Run]:
    """The searches that can be compared with `own`: grid searches if it is none, else the others.

    Those without pruning come first, since they trained each point for all epochs; else in the order of `searches`.
    """
    others = [run for run in searches if (run.sampler == "grid") != (own.sampler == "grid")]
    alike = [run for run in others if run.choices == own.choices and not differing_params(own, run, MUST_AGREE)]
    return sorted(alike, key=lambda run: run.pruner != "none")


def differences(shown: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """The settings, apart from the points tried, in which two searches differ; empty for one search."""
    if len(shown) < 2:
        return {}
    own, other = shown
    differing = differing_params(own, other, MAY_DIFFER)
    if commits := differing.get("git_commit"):
        differing["git_commit"] = short_commit(commits[0]), short_commit(commits[1])
    return differing


def latest_experiment(store: Store, name: str, dataset: str, model: str) -> Run | None:
    """The latest experiment of that name with this model on the data set with this key."""
    return next((run for run in store.runs([dataset], **experiment_tags(name, model)) if run.conditions), None)


def experiment_command(name: str, data: DataConfig, model: str, where: Sequence[str]) -> str:
    """The command that runs the experiment of that name with this model on the images of `data`."""
    models = [] if model == "cnn" else ["--model", model]
    return command_line(where, "experiment", name, *images(data), *models)


def experiment_exhibits(store: Store, parent: Run) -> list[Exhibit]:
    """Figure and tables of the experiment recorded as the run `parent`; the first states the result."""
    if parent.experiment == "winner":
        return winner.show(winner_table(store, parent))
    if parent.experiment == "recipe":
        return recipe.show(recipe_table(store, parent))
    return list(dead_filters.show(*dead_filters_tables(store, parent)))


def compared(store: Store, parent: Run) -> list[Run]:
    """The finished replicates of the experiment's last comparison, in the order of its seeds and conditions."""
    finished = store.runs([parent.dataset_key], stage="replicate", parent=parent.id, status="FINISHED")
    replicates = {(run.seed, run.condition): run for run in finished}
    wanted = [(seed, condition) for seed in parent.seeds for condition in parent.conditions]
    return [replicates[replicate] for replicate in wanted if replicate in replicates]


def dead_filters_tables(store: Store, parent: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of `analysis.searches.dead_filters`: a row per training, and a row per training and counted step."""
    trainings, counts = [], []
    for run in compared(store, parent):
        config, history = run.train_config, store.history(run.id)
        assert isinstance(config.model, CNNConfig)
        diverged = run.reason == "diverged"
        trainings.append(
            {
                "condition": run.condition,
                "seed": config.seed,
                "group": run.group,
                "optimiser": config.optimiser,
                "learning_rate": config.learning_rate,
                "warmup_steps": config.warmup_steps,
                "weight_decay": config.weight_decay,
                "filters_conv1": config.model.filters[0],
                "filters_conv2": config.model.filters[1],
                "epochs": config.epochs,
                "diverged": diverged,
                "val_accuracy": math.nan if diverged else metric(run, "val_accuracy"),
            }
        )
        # These were recorded by optimiser step, which the history calls epoch.
        steps = history.rename(columns={"epoch": "step"})[["step", *dead_filters.COUNTS]].dropna()
        counts.append(steps.astype(int).assign(condition=run.condition, seed=config.seed))
    return pd.DataFrame(trainings), pd.concat(counts, ignore_index=True)


def winner_table(store: Store, parent: Run) -> pd.DataFrame:
    """The table that `analysis.searches.winner` takes: a row per training, the search's best trial first."""
    rows = []
    for run in compared(store, parent):
        config, diverged = run.train_config, run.reason == "diverged"
        rows.append(
            {
                "trial": run.trial_number,
                "learning_rate": config.learning_rate,
                "weight_decay": config.weight_decay,
                "searched": metric(store.get(run.trial_run), "best_val_accuracy"),
                "seed": config.seed,
                "val_accuracy": math.nan if diverged else metric(run, "best_val_accuracy"),
            }
        )
    return pd.DataFrame(rows)


def recipe_table(store: Store, parent: Run) -> pd.DataFrame:
    """The table that `analysis.searches.recipe` takes: a row per training, the unchanged settings first."""
    rows = []
    for run in compared(store, parent):
        diverged = run.reason == "diverged"
        rows.append(
            {
                # The conditions are called after the first, which says nothing where all have the same.
                "condition": run.condition.removeprefix(f"{parent.conditions[0]}: "),
                "epochs": run.train_config.epochs,
                "seed": run.seed,
                **{name: math.nan if diverged else metric(run, name) for name in recipe.MEASURES},
            }
        )
    return pd.DataFrame(rows)
