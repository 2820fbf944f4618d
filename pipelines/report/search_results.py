"""A search's results as its run keeps them: the figures, their numbers, and how many trials they show."""

import tempfile
from pathlib import Path

from study.search.search import Search, importance, trials_table
from study.tracking.store import Store


def log_results(run_id: str, opened: Search, store: Store) -> None:
    """Draws what the trials of a search show, and logs it to the search's run.

    Args:
        run_id: that run.
        opened: the search.
        store: where the run is.
    """
    # Drawing is imported when there is something to draw: the first trial does not wait for it.
    from analysis.searches import search as figures
    from pipelines.report.exhibits import write_figure

    table = trials_table(opened)
    drawn = {
        "history": (figures.history(table), figures.draw_history),
        "importance": (importance(opened), figures.draw_importance),
        "slices": (table, figures.draw_slices),
        "heatmap": (figures.heatmap(table), lambda _: figures.draw_heatmap(table)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (numbers, draw) in drawn.items():
            write_figure(Path(folder), name, numbers, draw(numbers))
        store.log_folder(run_id, Path(folder), "search")
    complete = table[table["state"] == "complete"]
    if len(complete):
        store.log(run_id, {"best_val_accuracy": float(complete["val_accuracy"].max())}, step=len(table))
    store.log(run_id, {"epochs_spent": float(table["epochs"].sum())}, step=len(table))
    # Last, as what says that all this is there and need not be logged again.
    store.tag(run_id, trials=len(table))
