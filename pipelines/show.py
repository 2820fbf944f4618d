"""Tables in the terminal of the images and of the tracked runs.

Images are shown without MLflow and runs without torch: each function imports what it needs.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from analysis.drawing.wording import counted, listed
from pipelines.session.display import Display, full_width
from pipelines.session.lines import say
from pipelines.session.mlflow_pages import run_page
from study.config import BACKGROUND, DataConfig
from study.errors import StudyError
from study.home import Home
from study.system.redaction import masked, one_line
from study.tracking.runs import Run, dataset_keys, is_under_way, metric

if TYPE_CHECKING:
    from study.tracking.store import Store

COLUMNS = (
    "id", "data set", "name", "stage", "model", "epochs", "rate", "decay", "status", "val", "test", "user", "started",
    "page",
)  # fmt: skip
DISPENSABLE = ("page", "started", "stage", "epochs", "decay", "data set", "status", "user", "rate", "model")
"""Columns that are left out, in this order, where the terminal is too narrow; the ids are links to the pages."""
LONGEST_NAME = 24
"""Characters of a name in a line where the terminal is too narrow."""


def show_data(config: DataConfig, home: Home, as_json: bool = False) -> None:
    """Loads the images and prints how many each split has of each class, as a table or as JSON."""
    import torch

    from study.cautions import baseline, cautions
    from study.data import load_dataset
    from study.duplicates import find_duplicates

    display = Display(is_quiet=as_json)
    with display.bar(f"decoding {config.dataset}", 1) as bar:
        dataset = load_dataset(config, home, display.say, bar.to)
    splits = dataset.splits
    display.say(f"{dataset.key}: {dataset.source}; digest {dataset.digest[:16]}")
    if dataset.transparent:
        display.say(f"Transparent pixels are shown on {BACKGROUND} ({counted(dataset.transparent, 'image file')}).")
    if dataset.left_out:
        display.say(dataset.left_out)
    for caution in cautions(dataset) or [baseline(dataset)]:
        display.say(caution)
    duplicates = find_duplicates(dataset.train, dataset.test, splits.validation_rows)
    display.say(f"Exact duplicates (equal pixels at {dataset.side}×{dataset.side}): {duplicates}.")
    labels = dataset.train.labels
    parts = {
        "train": labels[splits.train_rows],
        "validation": labels[splits.validation_rows],
        "test": dataset.test.labels,
    }
    counts = {name: torch.bincount(part, minlength=len(dataset.classes)).tolist() for name, part in parts.items()}
    if as_json:
        described = {
            "data_set": dataset.key,
            "source": dataset.source,
            "image_size": dataset.side,
            "digest": dataset.digest,
            "background": BACKGROUND,
            "skipped": dataset.skipped,
            "unreadable": dict(dataset.unreadable),
            "left_out": dataset.left_out,
            "cautions": cautions(dataset),
            "duplicates": {kind: count for kind, (count, _) in duplicates.counts.items()},
            "splits": {name: dict(zip(dataset.classes, of, strict=True)) for name, of in counts.items()},
        }
        print(json.dumps(described, indent=2))
        return
    table = Table("class", *parts)
    for name, *row in zip(dataset.classes, *counts.values(), strict=True):
        table.add_row(_plain(name), *(f"{count:,}" for count in row))
    table.add_section()
    table.add_row("all", *(f"{len(part):,}" for part in parts.values()))
    display.console.print(table)


def show_runs(store: "Store", *, stage: str, dataset: str, limit: int, as_json: bool = False) -> None:
    """Prints the latest runs, of one stage or of all but the trials and replicates, as a table or as JSON.

    `dataset` is the key of their data set, or a value of --dataset; empty for all.
    """
    from study.tracking.hints import command

    def is_wanted(run: Run) -> bool:
        is_of_stage = run.stage == stage if stage else _is_listed(run)
        return is_of_stage and (not dataset or run.dataset_key in keys)

    recorded, keys = store.runs(), {dataset}
    with suppress(StudyError):
        keys = dataset_keys(recorded, dataset)
    runs = [run for run in recorded if is_wanted(run)]
    if not runs:
        store.experiments.require_not_deleted(is_wanted)
        if dataset and recorded:
            dataset_keys(recorded, dataset)
    others = sorted({run.stage for run in recorded if run.stage and (not dataset or run.dataset_key in keys)})
    if not runs and stage and others:
        raise StudyError(f"No run of stage {stage} is in {masked(store.uri)}: there are those of {listed(others)}.")
    if not runs:
        first = command(store, "reproduce", "--dataset", "digits")
        raise StudyError(f"There are no such runs in {masked(store.uri)}: `{first}` makes the first.")
    rows = [summary(run, store) for run in runs[:limit]]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console, table = Console(), _table_of(rows)
    if not console.is_terminal:
        # So wide that no cell is folded, for grep.
        console.width = full_width(table, console)
    left_out = list[str]()
    dispensable = [name for name in DISPENSABLE if name in [column.header for column in table.columns]]
    while full_width(table, console) > console.width and len(left_out) < len(dispensable):
        left_out.append(dispensable[len(left_out)])
        table = _table_of(rows, left_out, LONGEST_NAME)
    console.print(table)
    if left_out:
        say(f"Too narrow for {listed(sorted(left_out))}: a wider terminal, or --json, shows all.")
    if len(runs) > limit:
        say(f"{len(runs) - limit} older ones: --limit {len(runs)} shows all.")


def _is_listed(run: Run) -> bool:
    return run.stage not in ("", "trial", "replicate")


def summary(run: Run, store: "Store") -> dict[str, Any]:
    """What is shown of a run in a list; None where it has no such value, `page` where a server has its page."""
    numbers = {
        "learning_rate": run.learning_rate,
        "weight_decay": run.weight_decay,
        "validation_accuracy": metric(run, "best_val_accuracy"),
        "test_accuracy": metric(run, "final_test_accuracy"),
    }
    return {
        "id": run.id,
        "data_set": run.dataset_key,
        "name": run.full_name,
        "stage": run.stage,
        "model": run.model,
        "epochs": _epochs(run),
        "status": run.status.lower(),
        "reason": "its process has ended" if run.status == "RUNNING" and not is_under_way(run) else run.reason,
        **{name: None if math.isnan(value) else value for name, value in numbers.items()},
        "user": run.user,
        "started": datetime.fromtimestamp(run.started / 1000).astimezone().isoformat(timespec="seconds"),
        "page": store.uri.rstrip("/") + run_page(run) if store.uri.startswith("http") else None,
    }


def _epochs(run: Run) -> int | None:
    """Epochs of a training, or of each in a search; None for a run that has none, or a malformed number."""
    with suppress(StudyError):
        return run.epochs or None
    return None


def _table_of(
    rows: Sequence[Mapping[str, Any]], left_out: Collection[str] = (), longest_name: int | None = None
) -> Table:
    """The table of `rows`, without the columns that are `left_out`, longer names folded."""
    table = Table(box=None)
    without = {*left_out, "" if any(row["page"] for row in rows) else "page"}
    # One user needs no column.
    without.add("" if len({row["user"] for row in rows}) > 1 else "user")
    names = [name for name in COLUMNS if name not in without]
    for name in names:
        # Folded, since a key that is cut is of no use.
        most = longest_name if name == "name" else None
        table.add_column(name, overflow="fold", max_width=most, no_wrap=name in ("id", "rate", "decay", "val", "test"))
    for row in rows:
        ended = f" ({row['reason']})" if row["reason"] not in ("", "complete") else ""
        cells = {
            "data set": row["data_set"],
            "name": row["name"],
            "stage": row["stage"],
            "model": row["model"],
            "epochs": str(row["epochs"] or ""),
            "rate": _written(row["learning_rate"], ".2e"),
            "decay": _written(row["weight_decay"], ".2e"),
            "status": row["status"] + ended,
            "val": _written(row["validation_accuracy"], ".4f"),
            "test": _written(row["test_accuracy"], ".4f"),
            "user": row["user"],
            "started": row["started"][:16].replace("T", " "),
            "page": masked(row["page"] or ""),
        }
        # Terminals that know no links show the text alone.
        link = Text(row["id"][:8], style=Style(link=masked(row["page"]) if row["page"] else None))
        table.add_row(*(link if name == "id" else _plain(cells[name]) for name in names))
    return table


def _written(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _plain(text: str) -> Text:
    """A name as plain text, without markup or control characters."""
    return Text(one_line(text))
