"""The part of the analysis about the search that chose the settings: where it looked, and what mattered."""

import shlex
from collections.abc import Iterator
from functools import partial

import pandas as pd

from analysis import search as figures
from analysis.report import Section
from pipelines.artifacts import Network
from pipelines.output import Report, Step, joined
from study.tracking import Run, Store, metric


def steps(network: Network, store: Store, report: Report) -> Iterator[Step]:
    """A step for each figure about the search of `network`, and about a grid search of the same model beside it."""
    found = store.runs([network.run.tags["dataset"]], stage="search", model=network.name)
    own = [run for run in found if run.tags["search"] == network.run.tags["search"]]
    if own:
        yield "search_heatmap", partial(_add_heatmap, store, own[0], found, report)
    if own and "trials" in own[0].tags:
        yield "search_importance", partial(_add_importance, store, own[0], report)


def trials(store: Store, search: Run) -> pd.DataFrame:
    """The finished trials of `search` as `analysis.search` takes them, from their runs."""
    runs = store.runs([search.tags["dataset"]], stage="trial", search=search.tags["search"], status="FINISHED")
    rows = [
        {
            "number": int(run.tags["optuna_trial"]),
            "state": run.tags["status_reason"],
            "learning_rate": float(run.params["learning_rate"]),
            "weight_decay": float(run.params["weight_decay"]),
            "val_accuracy": metric(run, "best_val_accuracy"),
        }
        for run in runs
    ]
    columns = ["number", "state", "learning_rate", "weight_decay", "val_accuracy"]
    return pd.DataFrame(rows, columns=columns).sort_values("number", ignore_index=True)


def _add_heatmap(store: Store, own: Run, found: list[Run], report: Report) -> None:
    shown = [own, *_of_the_other_kind(own, found)[:1]]
    tables = {f"{_kind(run)} {run.tags['search']}": trials(store, run) for run in shown}
    text = figures.heatmap_caption(tables)
    if not any(run.params["sampler"] == "grid" for run in shown):
        text += f" The report's 8 × 8 grid was not run: `{_grid_command(own)}` puts it beside this."
    numbers = joined({name: figures.heatmap(table) for name, table in tables.items()}).rename(
        columns={"model": "search"}
    )
    heading = "Validation accuracy over learning rate and weight decay"
    report.add_figure("search_heatmap", heading, text, numbers, figures.draw_heatmaps(tables))


def _grid_command(own: Run) -> str:
    model, dataset, epochs = own.tags["model"], own.params["dataset"], own.params["epochs"]
    words = ["study", "tune", "--model", model, "--dataset", dataset, "--sampler", "grid", "--epochs", epochs]
    return shlex.join([*words, "--search", f"{own.tags['search']}-grid", "--no-retrain"])


def _kind(run: Run) -> str:
    return "Grid search" if run.params["sampler"] == "grid" else f"{run.params['sampler'].upper()} search"


def _of_the_other_kind(own: Run, found: list[Run]) -> list[Run]:
    """The searches of the same network on the same images that are a grid where `own` is none, or the reverse."""
    alike = [run for run in found if all(run.params[name] == own.params[name] for name in ("model_settings", "epochs"))]
    return [run for run in alike if (run.params["sampler"] == "grid") != (own.params["sampler"] == "grid")]


def _add_importance(store: Store, own: Run, report: Report) -> None:
    table = store.load_table(own.id, "search/importance.csv")
    heading = "Which hyperparameter matters"
    text = figures.importance_caption(table, trials(store, own))
    if table.empty:
        report.sections.append(Section(heading, text))
        return
    report.add_figure("search_importance", heading, text, table, figures.draw_importance(table))
