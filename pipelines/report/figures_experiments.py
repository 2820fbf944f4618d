"""What the experiments found, from their runs to tables and figures in a report."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd

from analysis.page import Section
from analysis.searches import dead_filters, findings, winner
from pipelines.report.exhibits import Report, Step
from study.config import EXPERIMENTS, CNNConfig, TrainConfig
from study.tracking import experiment_runs
from study.tracking.runs import Run, metric
from study.tracking.store import Store

HEADINGS = {
    "dead-filters": "Why filters fall silent and collapse",
    "winner": "Is the search's winner really the winner",
}


def steps(store: Store, dataset: str, model: str, report: Report, source: str = "cifar10") -> Iterator[Step]:
    """The experiments that were run on the data set with key `dataset`; where one was not, the command is named.

    `source` is that data set as `--dataset` names it.
    """
    for name in EXPERIMENTS:
        if name == "winner" or model == "cnn":
            yield name.replace("-", "_"), partial(_add_latest, store, name, dataset, model, report, source)


def _add_latest(store: Store, name: str, dataset: str, model: str, report: Report, source: str) -> None:
    found = [run for run in experiment_runs.find(store, dataset, name, model=model) if "conditions" in run.tags]
    if found:
        add(store, found[0], report)
        return
    command = report.command("experiment", name, "--dataset", source, *([] if model == "cnn" else ["--model", model]))
    text = f"Not yet measured on {dataset}: `{command}` trains and compares, and the next analysis shows it."
    report.sections.append(Section(HEADINGS[name], text))


def add(store: Store, parent: Run, report: Report) -> str:
    """Adds tables and figure of the experiment that the run `parent` stands for; returns what was found, in words."""
    return _ADDERS[parent.tags["experiment"]](store, parent, report)


def _add_dead_filters(store: Store, parent: Run, report: Report) -> str:
    trainings, counts = dead_filters_tables(store, parent)
    table = dead_filters.ends(trainings, counts)
    text, points, note = findings.caption(table), findings.points(table, counts), findings.note(table)
    heading = HEADINGS["dead-filters"]
    figure = dead_filters.draw(table, counts)
    report.add_figure("dead_filters", heading, text, counts, figure, points=points, note=note)
    report.add_numbers("dead_filters_trainings", table)
    summary = dead_filters.summary(table)
    report.add_numbers("dead_filters_means", summary)
    shown, about = dead_filters.readable(summary), dead_filters.caption(summary)
    report.add_table("dead_filters_conditions", f"{heading}: every condition", about, shown, note=CONDITIONS_NOTE)
    contrasts = findings.contrasts(table)
    shown, about = findings.readable(contrasts), findings.contrasts_caption(contrasts)
    report.add_table("dead_filters_contrasts", f"{heading}: the comparisons", about, contrasts, shown, note=note)
    return "\n".join([text, *(f"- {point}" for point in points), note])


CONDITIONS_NOTE = "Means ± standard deviations over the seeds, after the last epoch, on the validation images."


def dead_filters_tables(store: Store, parent: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of `analysis.searches.dead_filters`: a row per training, and a row per training and counted step."""
    trainings, counted = [], []
    for run in experiment_runs.compared(store, parent):
        config, history = TrainConfig.from_params(run.params), store.history(run.id)
        assert isinstance(config.model, CNNConfig)
        diverged = run.tags["status_reason"] == "diverged"
        trainings.append(
            {
                "condition": run.tags["condition"],
                "seed": config.seed,
                "group": run.tags["group"],
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
        # These were recorded by optimiser step, in whose place the table has everything's step.
        steps_of = history.rename(columns={"epoch": "step"})[["step", *dead_filters.COUNTS]].dropna()
        counted.append(steps_of.astype(int).assign(condition=run.tags["condition"], seed=config.seed))
    return pd.DataFrame(trainings), pd.concat(counted, ignore_index=True)


def _add_winner(store: Store, parent: Run, report: Report) -> str:
    trainings = winner_table(store, parent)
    table = winner.ranking(trainings)
    text, points = winner.caption(table), winner.points(table)
    report.add_figure(
        "winner", HEADINGS["winner"], text, trainings, winner.draw(trainings), points=points, note=winner.NOTE
    )
    heading, about = f"{HEADINGS['winner']}: the trials", winner.table_caption(table)
    report.add_table("winner_ranking", heading, about, table, winner.readable(table), note=winner.NOTE)
    return "\n".join([text, *(f"- {point}" for point in points), winner.NOTE])


def winner_table(store: Store, parent: Run) -> pd.DataFrame:
    """The table that `analysis.searches.winner` takes: a row per training, the search's best trial first."""
    rows = []
    for run in experiment_runs.compared(store, parent):
        config, diverged = TrainConfig.from_params(run.params), run.tags["status_reason"] == "diverged"
        rows.append(
            {
                "trial": int(run.tags["optuna_trial"]),
                "learning_rate": config.learning_rate,
                "weight_decay": config.weight_decay,
                "searched": metric(store.get(run.tags["trial_run"]), "best_val_accuracy"),
                "seed": config.seed,
                "val_accuracy": math.nan if diverged else metric(run, "best_val_accuracy"),
            }
        )
    return pd.DataFrame(rows)


_ADDERS: dict[str, Callable[[Store, Run, Report], str]] = {
    "dead-filters": _add_dead_filters,
    "winner": _add_winner,
}
