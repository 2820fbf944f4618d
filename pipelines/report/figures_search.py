"""The part of the analysis about the search that chose the settings: where it looked, and what mattered."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from analysis.drawing.wording import listed
from analysis.exhibit import Exhibit
from analysis.searches import search as figures
from pipelines.report.exhibits import command_line, joined
from study.tracking.runs import Run, metric
from study.tracking.store import Store


def trials(store: Store, search: Run) -> pd.DataFrame:
    """The finished trials of `search` as `analysis.searches.search` takes them, from their runs."""
    runs = store.runs([search.tags["dataset"]], stage="trial", search=search.tags["search"], status="FINISHED")
    rows = [
        {
            "number": int(run.tags["optuna_trial"]),
            "state": run.tags["status_reason"],
            "learning_rate": float(run.params["learning_rate"]),
            "weight_decay": float(run.params["weight_decay"]),
            "val_accuracy": metric(run, "best_val_accuracy"),
            "epochs": int(run.tags.get("stopped_epoch", run.params["epochs"])),
        }
        for run in runs
    ]
    columns = ["number", "state", "learning_rate", "weight_decay", "val_accuracy", "epochs"]
    return pd.DataFrame(rows, columns=columns).sort_values("number", ignore_index=True)


def show_heatmap(store: Store, own: Run, found: list[Run], where: Sequence[str]) -> Iterator[Exhibit]:
    """Validation accuracy by learning rate and weight decay, of the search `own` and of a comparable one of `found`."""
    shown = [own, *beside(own, found)[:1]]
    tables = {f"{_kind(run)} {run.tags['search']}": trials(store, run) for run in shown}
    note = figures.heatmap_note(tables) + _differing(shown)
    points = []
    if not any(run.params["sampler"] == "grid" for run in shown):
        points.append(f"The report's 8 × 8 grid was not run: `{_grid_command(own, where)}` puts it beside this.")
    numbers = joined({name: figures.heatmap(table) for name, table in tables.items()}).rename(
        columns={"model": "search"}
    )
    heading, text = "Validation accuracy over learning rate and weight decay", figures.heatmap_caption(tables)
    figure = figures.draw_heatmaps(tables)
    yield Exhibit("search_heatmap", heading, text, numbers, figure, points=points, note=note)


def _grid_command(own: Run, where: Sequence[str]) -> str:
    """The report's grid of the same network on the same images; unpruned, as each point is to be shown in full."""
    model, dataset, epochs = own.tags["model"], own.params["dataset"], own.params["epochs"]
    words = ["tune", "--model", model, "--dataset", dataset, "--sampler", "grid", "--pruner", "none"]
    return command_line(where, *words, "--epochs", epochs, "--search", f"{own.tags['search']}-grid", "--no-retrain")


def _kind(run: Run) -> str:
    return "Grid search" if run.params["sampler"] == "grid" else f"{run.params['sampler'].upper()} search"


ALIKE = ("dataset_digest", "model_settings", "epochs", "precision", "seed", "split_seed", "validation_fraction")
"""What two searches must share to stand side by side, as far as both have recorded it."""
MAY_DIFFER = ("pruner", "batch_size", "optimiser", "warmup_steps", "device", "git_commit")
"""What they may differ in, which is then said."""


def beside(own: Run, found: Iterable[Run]) -> list[Run]:
    """The searches that can be compared with `own`, and are a grid where it is none, or the reverse.

    Those without pruning first, which saw all epochs at every point; among these in the order of `found`.
    """
    others = [run for run in found if (run.params["sampler"] == "grid") != (own.params["sampler"] == "grid")]
    alike = [run for run in others if not _differences(own, run, ALIKE)]
    return sorted(alike, key=lambda run: run.params.get("pruner") != "none")


def _differences(one: Run, other: Run, names: Iterable[str]) -> list[str]:
    both = [name for name in names if name in one.params and name in other.params]
    return [name for name in both if one.params[name] != other.params[name]]


def _differing(shown: list[Run]) -> str:
    """What the two searches differ in beside where they looked; nothing for one search."""
    if len(shown) < 2:
        return ""
    own, other = shown
    said = [
        f"{name.replace('_', ' ')} ({own.params[name][:10]}, {other.params[name][:10]})"
        for name in _differences(own, other, MAY_DIFFER)
    ]
    return f" The two searches also differ in {listed(said)}." if said else ""


def show_importance(store: Store, own: Run) -> Iterator[Exhibit]:
    """Which hyperparameter matters."""
    table = store.load_table(own.id, "search/importance.csv", {"parameter": str, "importance": float})
    heading = "Which hyperparameter matters"
    text = figures.importance_caption(table, trials(store, own))
    if table.empty:
        yield Exhibit("search_importance", heading, text)
        return
    yield Exhibit("search_importance", heading, text, table, figures.draw_importance(table))
