"""The part of the analysis about the search that chose the settings: where it looked, and what mattered."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from analysis.drawing.wording import listed
from analysis.exhibit import Exhibit
from analysis.searches import search as figures
from pipelines.report.exhibits import command_line, joined
from study.tracking.runs import Run, differing_params, metric
from study.tracking.store import Store


def trials(store: Store, search: Run) -> pd.DataFrame:
    """The finished trials of `search` as `analysis.searches.search` takes them, from their runs."""
    runs = store.runs([search.dataset_key], stage="trial", search=search.search, status="FINISHED")
    rows = [
        {
            "number": run.trial_number,
            "state": run.reason,
            "learning_rate": run.train_config.learning_rate,
            "weight_decay": run.train_config.weight_decay,
            "val_accuracy": metric(run, "best_val_accuracy"),
            "epochs": run.stopped_epoch or run.epochs,
        }
        for run in runs
    ]
    columns = ["number", "state", "learning_rate", "weight_decay", "val_accuracy", "epochs"]
    return pd.DataFrame(rows, columns=columns).sort_values("number", ignore_index=True)


def show_heatmap(store: Store, own: Run, found: list[Run], where: Sequence[str]) -> Iterator[Exhibit]:
    """Validation accuracy by learning rate and weight decay, of the search `own` and of a comparable one of `found`."""
    shown = [own, *beside(own, found)[:1]]
    tables = {f"{_kind(run)} {run.search}": trials(store, run) for run in shown}
    note = figures.heatmap_note(tables) + _differing(shown)
    points = []
    if not any(run.sampler == "grid" for run in shown):
        points.append(f"The report's 8 × 8 grid was not run: `{_grid_command(own, where)}` puts it beside this.")
    numbers = joined({name: figures.heatmap(table) for name, table in tables.items()}).rename(
        columns={"model": "search"}
    )
    heading, text = "Validation accuracy over learning rate and weight decay", figures.heatmap_caption(tables)
    figure = figures.draw_heatmaps(tables)
    yield Exhibit("search_heatmap", heading, text, numbers, figure, points=points, note=note)


def _grid_command(own: Run, where: Sequence[str]) -> str:
    """The report's grid of the same network on the same images; unpruned, as each point is to be shown in full."""
    words = ["tune", "--model", own.model, "--dataset", own.dataset, "--sampler", "grid", "--pruner", "none"]
    return command_line(where, *words, "--epochs", str(own.epochs), "--search", f"{own.search}-grid", "--no-retrain")


def _kind(run: Run) -> str:
    return "Grid search" if run.sampler == "grid" else f"{run.sampler.upper()} search"


ALIKE = ("dataset_digest", "model_settings", "epochs", "precision", "seed", "split_seed", "validation_fraction")
"""What two searches must share to stand side by side, as far as both have recorded it."""
MAY_DIFFER = ("pruner", "batch_size", "optimiser", "warmup_steps", "device", "git_commit")
"""What they may differ in, which is then said."""


def beside(own: Run, found: Iterable[Run]) -> list[Run]:
    """The searches that can be compared with `own`, and are a grid where it is none, or the reverse.

    Those without pruning first, which saw all epochs at every point; among these in the order of `found`.
    """
    others = [run for run in found if (run.sampler == "grid") != (own.sampler == "grid")]
    alike = [run for run in others if not differing_params(own, run, ALIKE)]
    return sorted(alike, key=lambda run: run.pruner != "none")


def _differing(shown: list[Run]) -> str:
    """What the two searches differ in beside where they looked; nothing for one search."""
    if len(shown) < 2:
        return ""
    own, other = shown
    said = [
        f"{name.replace('_', ' ')} ({ours[:10]}, {theirs[:10]})"
        for name, (ours, theirs) in differing_params(own, other, MAY_DIFFER).items()
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
