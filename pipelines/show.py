"""What is there: the images, the tracked runs, MLflow's pages of them."""

import math
import os
import socket
import sys
from datetime import datetime

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.pages import compare_page, run_page, trials_page
from pipelines.progress import Display
from study.config import DataConfig, Home
from study.data import load_dataset
from study.errors import StudyError
from study.selection import complete_trials
from study.tracking import Run, Store, metric


def show_data(config: DataConfig, home: Home) -> None:
    """Loads the images and prints how many each split has of each class."""
    display = Display()
    with display.bar(f"decoding {config.dataset}", 1) as bar:
        dataset = load_dataset(config, home, display.say, bar.to)
    splits = dataset.splits(config)
    display.say(f"{dataset.key}: {dataset.source}; digest {dataset.digest[:16]}")
    if dataset.skipped:
        display.say(f"{dataset.skipped} unreadable image files are left out.")
    parts = {"train": splits.train, "validation": splits.validation, "test": dataset.test}
    table = Table("class", *parts)
    counts = [torch.bincount(part.labels, minlength=len(dataset.classes)) for part in parts.values()]
    for label, name in enumerate(dataset.classes):
        table.add_row(escape(name), *(f"{int(count[label]):,}" for count in counts))
    table.add_section()
    table.add_row("all", *(f"{len(part):,}" for part in parts.values()))
    display.console.print(table)


def show_runs(store: Store, stage: str, limit: int) -> None:
    """Prints a table of the latest runs, of one stage or of all but the trials and replicates."""
    found = [run for run in store.runs() if (run.tags.get("stage") == stage if stage else _is_listed(run))]
    if not found:
        raise StudyError(f"There are no such runs in {store.uri}: `study tune` makes the first.")
    table = Table("id", "name", "stage", "status", "val", "test", "started", box=None)
    for run in found[:limit]:
        began = datetime.fromtimestamp(run.started / 1000).strftime("%Y-%m-%d %H:%M")
        reason = run.tags.get("status_reason", "")
        status = run.status.lower() + (f" ({reason})" if reason not in ("", "complete") else "")
        table.add_row(
            run.id[:8],
            escape(run.name),
            run.tags["stage"],
            status,
            _share(metric(run, "best_val_accuracy")),
            _share(metric(run, "final_test_accuracy")),
            began,
        )
    # Not a terminal: as wide as it needs to be, so that no column is cut for grep.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    if len(found) > limit:
        console.print(f"{len(found) - limit} older ones: --limit {len(found)} shows all.")


def _is_listed(run: Run) -> bool:
    return run.tags.get("stage") not in (None, "trial", "replicate")


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def serve(store: Store, host: str, port: int) -> None:
    """Becomes MLflow's server for `store`; says where its pages are.

    Raises:
        StudyError: where the store is served already, for an address that would open it to others, or a port in use.
    """
    if store.uri.startswith("http"):
        raise StudyError(f"The store is a server already: open {store.uri} in a browser.")
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise StudyError(f"Host {host!r} would open the store to others without a password: use 127.0.0.1.")
    _require_free(host, port)
    base = f"http://{host}:{port}"
    print(f"MLflow answers at {base} in some 10 seconds; Ctrl-C ends it. Its pages:")
    for search in store.runs(stage="search"):
        print(f"{search.name}\n  trials   {base}{trials_page(search.experiment_id)}")
        best_first = complete_trials(store, search.tags["dataset"], search=search.tags["search"])
        compared = [run.id for run in best_first[:10]]
        if len(compared) > 1:
            print(f"  compare  {base}{compare_page(search.experiment_id, compared)}")
    for run in store.runs(stage="retrain")[:5]:
        print(f"{run.name}\n  run      {base}{run_page(run)}")
        if store.artifacts(run.id, "report"):
            print(f"  report   {base}{run_page(run, 'report/index.html')}")
    sys.stdout.flush()
    # Job execution starts further processes for features that a study does not use.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    arguments = ["server", "--backend-store-uri", store.uri, "--host", host, "--port", str(port), "--workers", "1"]
    if store.artifacts_root:
        arguments += ["--default-artifact-root", store.artifacts_root]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


def _require_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise StudyError(f"Port {port} of {host} cannot be used ({reason}): choose another with --port.") from None
