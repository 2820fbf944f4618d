"""Tables in the terminal of the images and of the tracked runs.

Images are shown without MLflow and runs without torch: each function imports what it needs.
"""

import math
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.session.display import Display
from study.config import BACKGROUND, DataConfig
from study.errors import StudyError, unknown
from study.home import Home
from study.system.redaction import masked, one_line
from study.tracking.runs import Run, metric

if TYPE_CHECKING:
    from study.tracking.store import Store


def show_data(config: DataConfig, home: Home) -> None:
    """Loads the images and prints how many each split has of each class."""
    import torch

    from study.data import load_dataset
    from study.duplicates import find_duplicates

    display = Display()
    with display.bar(f"decoding {config.dataset}", 1) as bar:
        dataset = load_dataset(config, home, display.say, bar.to)
    splits = dataset.splits
    display.say(f"{dataset.key}: {dataset.source}; digest {dataset.digest[:16]}")
    display.say(f"Transparent pixels are shown on {BACKGROUND}.")
    if dataset.skipped:
        display.say(f"{dataset.skipped} unreadable image files are left out.")
    if dataset.left_out:
        display.say(dataset.left_out)
    duplicates = find_duplicates(dataset.train, dataset.test, splits.validation_rows)
    display.say(f"Exact duplicates (equal pixels at 32×32): {duplicates}.")
    parts = {"train": splits.train, "validation": splits.validation, "test": dataset.test}
    table = Table("class", *parts)
    counts = [torch.bincount(part.labels, minlength=len(dataset.classes)) for part in parts.values()]
    for label, name in enumerate(dataset.classes):
        table.add_row(_plain(name), *(f"{int(count[label]):,}" for count in counts))
    table.add_section()
    table.add_row("all", *(f"{len(part):,}" for part in parts.values()))
    display.console.print(table)


def show_runs(store: "Store", *, stage: str, dataset: str, limit: int) -> None:
    """Prints a table of the latest runs, of one stage or of all but the trials and replicates.

    `dataset` is the key of their data set; empty for all.
    """
    from study.tracking.hints import command

    def is_wanted(run: Run) -> bool:
        is_of_stage = run.stage == stage if stage else _is_listed(run)
        return is_of_stage and dataset in ("", run.dataset_key)

    recorded = store.runs()
    runs = [run for run in recorded if is_wanted(run)]
    if not runs:
        store.experiments.require_not_deleted(is_wanted)
    keys = {run.dataset_key for run in recorded} - {""}
    if dataset and keys and dataset not in keys:
        raise unknown("data set", dataset, sorted(keys))
    if not runs:
        raise StudyError(f"There are no such runs in {masked(store.uri)}: `{command(store, 'tune')}` makes the first.")
    table = Table("id", "data set", "name", "stage", "status", "val", "test", "started", box=None)
    for run in runs[:limit]:
        started = datetime.fromtimestamp(run.started / 1000).strftime("%Y-%m-%d %H:%M")
        status = run.status.lower() + (f" ({run.reason})" if run.reason not in ("", "complete") else "")
        table.add_row(
            run.id[:8],
            _plain(run.dataset_key),
            _plain(run.name),
            _plain(run.stage),
            _plain(status),
            _four_decimals(metric(run, "best_val_accuracy")),
            _four_decimals(metric(run, "final_test_accuracy")),
            started,
        )
    # Not a terminal: as wide as it needs to be, so that no column is cut for grep.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    if len(runs) > limit:
        console.print(f"{len(runs) - limit} older ones: --limit {len(runs)} shows all.")


def _is_listed(run: Run) -> bool:
    return run.stage not in ("", "trial", "replicate")


def _four_decimals(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _plain(text: str) -> Text:
    """A name as plain text, without markup or control characters."""
    return Text(one_line(text))
