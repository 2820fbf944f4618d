"""`study experiment NAME`: a named comparison over settings and seeds, on the validation split, every run tracked.

`dead-filters` compares settings that may cause or prevent silent and collapsed filters. `winner` trains a search's
best trials again with other seeds. `recipe` changes one choice of training at a time from the best trial. Leaves one
run for the experiment, with its tables and figure, and one run below it for each training; the same command continues
it.
"""

import shlex
from dataclasses import fields, replace
from itertools import count, islice
from pathlib import Path

from pipelines import replicates
from pipelines.config import DEAD_FILTERS_EPOCHS, WINNER_TOP, ExperimentConfig
from pipelines.replicates import Plan
from pipelines.session.context import Context
from pipelines.session.mlflow_pages import COMPARISON_FILES, run_page
from pipelines.session.notes import describe_comparison
from study.config import DataConfig, TrainConfig
from study.data import Dataset
from study.errors import StudyError
from study.experiments import Condition, dead_filters, recipe
from study.tracking import best as selection
from study.tracking.hints import images
from study.tracking.runs import Run
from study.tracking.tags import trial_reference


def experiment(config: ExperimentConfig, context: Context, data: DataConfig | None = None) -> Path:
    """Trains the missing runs of the experiment, writes its tables and figure, and returns their folder.

    Args:
        config: which experiment.
        context: the stores, the machine and the display.
        data: the images; by default CIFAR-10, for `winner` those of the latest search of its model.

    Raises:
        StudyError: where another process runs the same, or `winner` finds fewer than two complete trials.
        KeyboardInterrupt: after the training under way was marked as interrupted.
    """
    dataset = context.load(data or _images(config, context))
    plan = _plan(config, dataset, context)
    with replicates.claimed(plan, dataset, context) as parent:
        replicates.run_missing(plan, parent, dataset, context)
        folder, text = _publish(context.store.get(parent), context)
        describe_comparison(context.store, context.store.get(parent), text, _command(config, dataset))
    context.display.say(text)
    context.display.say(f"Tables and figure: {folder}")
    context.say_pages(experiment=run_page(context.store.get(parent)))
    return folder


def _plan(config: ExperimentConfig, dataset: Dataset, context: Context) -> Plan:
    if config.name == "dead-filters":
        return _dead_filters(config)
    best = selection.best_trial(context.store, dataset.key, config.model or "cnn", dataset.config)
    selection.require_searched_on(best, dataset.digest, dataset.source)
    return _winner(config, best, context) if config.name == "winner" else _recipe(config, best)


def _images(config: ExperimentConfig, context: Context) -> DataConfig:
    if config.name == "dead-filters":
        return DataConfig()
    return selection.choose_trial(context.store, "best", config.model or "cnn").data_config


def _dead_filters(config: ExperimentConfig) -> Plan:
    epochs = config.epochs or DEAD_FILTERS_EPOCHS
    return Plan(
        experiment=config.name,
        conditions=dead_filters(epochs),
        seeds=tuple(range(config.seed, config.seed + config.seeds)),
        epochs=epochs,
        model="cnn",
    )


def _winner(config: ExperimentConfig, best: Run, context: Context) -> Plan:
    search = best.search
    trials = selection.complete_trials(context.store, best.dataset_key, model=best.model, search=search)
    trials = trials[: config.top or WINNER_TOP]
    if len(trials) < 2:
        raise StudyError(f"Search {search} has only one complete trial: raise --trials of `study tune`.")
    epochs = config.epochs or best.epochs
    used = {trial.seed for trial in trials}
    unused = (seed for seed in count(config.seed) if seed not in used)
    return Plan(
        experiment=config.name,
        conditions=tuple(_condition(trial, epochs) for trial in trials),
        seeds=tuple(islice(unused, config.seeds)),
        epochs=epochs,
        model=best.model,
        search=search,
    )


def _recipe(config: ExperimentConfig, best: Run) -> Plan:
    epochs = config.epochs or TrainConfig.epochs
    base = replace(best.train_config, epochs=epochs)
    return Plan(
        experiment=config.name,
        conditions=recipe(base, f"trial {best.trial_number} of {best.search}"),
        seeds=tuple(range(config.seed, config.seed + config.seeds)),
        epochs=epochs,
        model=best.model,
        search=best.search,
    )


def _condition(trial: Run, epochs: int) -> Condition:
    label = f"trial {trial.trial_number} of {trial.search}"
    return Condition(label, replace(trial.train_config, epochs=epochs), tags=trial_reference(trial))


def _publish(parent: Run, context: Context) -> tuple[Path, str]:
    """Writes tables and figure, logs them to the run, and returns their folder and the result in words."""
    # Drawing takes seconds to import, which the first training need not wait for.
    from pipelines.report.exhibits import Report, write
    from pipelines.report.tracked import experiment_exhibits

    folder = context.report_folder(f"{parent.dataset_key}-{parent.experiment}-{parent.id[:8]}")
    report, exhibits = Report(folder), experiment_exhibits(context.store, parent)
    for exhibit in exhibits:
        report.add(exhibit)
    text = exhibits[0].in_words
    write(folder / "findings.md", f"{text}\n")
    context.store.log_sums(parent.id, context.store.log_folder(parent.id, folder, COMPARISON_FILES))
    return folder, text


def _command(config: ExperimentConfig, dataset: Dataset) -> str:
    """The command that continues the experiment, for any home."""
    options = {item.name: getattr(config, item.name) for item in fields(config) if item.name != "name"}
    defaults = ExperimentConfig(name=config.name)
    given = [
        word
        for name, value in options.items()
        if value != getattr(defaults, name)
        for word in (f"--{name}", str(value))
    ]
    return shlex.join(["study", "experiment", config.name, *images(dataset.config), *given])
