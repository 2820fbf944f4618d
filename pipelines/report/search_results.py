"""A search's figures and their numbers, logged to the run of the search."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from study.search.search import Search, importance, trials_table
from study.tracking.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_results(run_id: str, opened: Search, store: Store) -> None:
    """Draws the figures of a search and logs them to its run.

    Args:
        run_id: the run of the search.
        opened: the search.
        store: where the run is tracked.
    """
    # Drawing takes seconds to import, which the first trial need not wait for.
    from analysis.searches import heatmap, pareto, search
    from pipelines.report.exhibits import write_figure

    table = trials_table(opened)
    figures: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame], Figure]]] = {
        "history": (search.history(table), search.draw_history),
        "importance": (importance(opened), lambda shares: search.draw_importance(shares, table)),
        "slices": (table, search.draw_slices),
        "heatmap": (heatmap.heatmap(table), lambda _: heatmap.draw_heatmap(table)),
    }
    if pareto.is_shown(table):
        figures["pareto"] = (pareto.front(table), pareto.draw)
    with tempfile.TemporaryDirectory() as folder:
        for name, (numbers, draw) in figures.items():
            write_figure(Path(folder), name, numbers, draw(numbers))
        store.log_sums(run_id, store.log_folder(run_id, Path(folder), "search"))
    complete = table[table["state"] == "complete"]
    if len(complete):
        store.log(run_id, {"best_val_accuracy": float(complete["val_accuracy"].max())}, step=len(table))
    store.log(run_id, {"epochs_spent": float(table["epochs"].sum())}, step=len(table))
    # Last: it marks the results as complete, so that they need not be logged again.
    store.tag(run_id, trials=len(table))
