"""One run in the terminal: its results, its curves, its settings, its files and its page."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from pipelines.session.lines import say
from pipelines.session.mlflow_pages import pages_of
from pipelines.session.ties import say_ties
from pipelines.show import summary
from study.system.redaction import masked, one_line
from study.tracking.best import choose_retrained_on
from study.tracking.hints import command
from study.tracking.lookup import find
from study.tracking.runs import Run, metric
from study.tracking.store import Store

FOLDERS = ("", "weights", "predictions", "model", "report", "search", "experiment")
"""Folders of artifacts that are listed."""
ACCURACIES = {
    "test": "final_test_accuracy",
    "train": "final_train_accuracy",
    "best validation": "best_val_accuracy",
}
"""The metrics that are shown first, by what they are the accuracy on."""
LEVELS = "▁▂▃▄▅▆▇█"
WIDTH = 24
"""Maximum number of characters of a curve."""


def show_run(store: Store, spec: str, dataset: str = "", as_json: bool = False) -> None:
    """Prints a run as text or as JSON.

    Args:
        store: where it is recorded.
        spec: any run: an id, a unique prefix of one, a name; or a retrained one: best, best:ffnn.
        dataset: that of best, see `choose_retrained_on`.
        as_json: whether to print JSON.

    Raises:
        StudyError: where there is no such run, or several.
    """
    is_best = spec.partition(":")[0] == "best"
    run = choose_retrained_on(store, spec, dataset) if is_best else find(store, spec)
    if not as_json:
        say_ties(spec, run, store, say)
    history = store.history(run.id)
    files = {folder: names for folder in FOLDERS if (names := store.artifacts(run.id, folder))}
    if as_json:
        described = summary(run, store) | {
            "params": run.params,
            "metrics": _finite(run.metrics),
            "history": [_finite(row) for row in history.to_dict("records")],
            "files": [name for names in files.values() for name in names],
        }
        print(json.dumps(described, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    # Not a terminal: so wide that nothing is cut.
    console.width = console.width if console.is_terminal else 200
    say(one_line(run.name))
    say(one_line(f"{run.stage} {run.id}, {run.status.lower()} ({run.reason or 'without a reason'})"))
    if result := _result(run):
        say(f"{result}.")
    if len(curves := _curves(history)):
        console.print(_table_of_curves(curves))
    console.print(_settings(run.params))
    for names in files.values():
        more = "" if len(names) == 1 else f" … {names[-1].rpartition('/')[2]} ({len(names)} files)"
        say(one_line(names[0] + more))
    shown = run.references.get("retrain_run", run.id)[:8]
    # What the store records is not trusted: it must not lead out of the folder.
    for page in sorted(store.home.reports.glob(f"*-{shown}/index.html")) if shown.isalnum() else ():
        say(f"Report: {page}")
    is_served = store.uri.startswith("http")
    if not is_served:
        say(f"MLflow's pages, at the address of `{command(store, 'ui')}`:")
    for kind, place in pages_of(store, run).items():
        base = masked(store.uri.rstrip("/")) if is_served else ""
        say(f"{kind}: {base}{place}")


def _finite(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The values with None for what JSON cannot express."""
    return {str(name): value if math.isfinite(value) else None for name, value in values.items()}


def _result(run: Run) -> str:
    """The accuracies that the run recorded, in words; empty for none."""
    values = {name: metric(run, recorded) for name, recorded in ACCURACIES.items()}
    text = ", ".join(f"{name} accuracy {value:.4f}" for name, value in values.items() if math.isfinite(value))
    return text[:1].upper() + text[1:]


def _settings(params: Mapping[str, str]) -> Table:
    table = Table.grid("", Column(overflow="fold"), padding=(0, 2))
    for name, value in sorted((name, value) for name, value in params.items() if value):
        table.add_row(Text(f"  {one_line(name)}"), Text(one_line(value)))
    return table


def _curves(history: pd.DataFrame) -> dict[str, pd.Series]:
    """By metric, its finite values at the epochs that have one; only metrics with several."""
    # MLflow returns infinity as the largest float.
    finite = history.set_index("epoch").where(lambda values: values.abs() < sys.float_info.max)
    curves = {str(name): column.dropna() for name, column in finite.items()}
    return {name: curve for name, curve in curves.items() if len(curve) > 1}


def _table_of_curves(curves: Mapping[str, pd.Series]) -> Table:
    table = Table(box=None, padding=(0, 1))
    for heading in ("by epoch", "first", "", "last", "lowest (at)", "highest (at)"):
        table.add_column(heading, no_wrap=True)
    for name, curve in curves.items():
        table.add_row(
            name,
            f"{curve.iloc[0]:.4g}",
            sparkline(curve.tolist()),
            f"{curve.iloc[-1]:.4g}",
            f"{curve.min():.4g} ({curve.idxmin():g})",
            f"{curve.max():.4g} ({curve.idxmax():g})",
        )
    return table


def sparkline(values: Sequence[float]) -> str:
    """The values as a line of blocks, from the lowest to the highest; of many, the mean of each of `WIDTH` parts."""
    size = math.ceil(len(values) / WIDTH)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(LEVELS[round((value - low) / span * (len(LEVELS) - 1))] for value in means)
