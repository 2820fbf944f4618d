"""Cost of coordination: what a trial and an epoch cost a search's workers, its database and its tracking server.

python -m benchmarks.coordination   # a quarter of an hour on two idle cores

Workers run the search's own loop against a PostgreSQL and an MLflow server of their own, each with a home as on another
machine: the default sampler and pruner, metrics written in the background, heartbeats, looks at the others' trials. An
epoch sleeps instead of training. The finished trials are in the database before.

The baseline, in the same run, is Optuna alone in one process: the same sampler, pruner, epochs and database, no MLflow.
Processor times depend less than latencies and the pace on what else the machine does. `--figure` draws the pace by
workers, beside what the processor times allow on this machine.
"""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import psutil
import typer

from benchmarks import untrained
from benchmarks.coordination_worker import CONFIG, Cost, Order, alone, work
from benchmarks.measure import surroundings
from benchmarks.output import JsonOption, conclude, show
from benchmarks.pace_figure import draw, whole
from benchmarks.past_trials import fill
from pipelines.trials.pool import start_context
from study.device import prepare
from study.home import Home
from study.tracking.store import Store
from study.tracking.tags import search_tags
from tests.support.postgres import Cluster, for_mlflow, for_optuna, running_cluster
from tests.support.server import Server

PRESENT = (100, 1000, 5000)
"""Numbers of finished trials with which one worker is measured."""
USUAL = 1000
"""The number of finished trials with which several are."""
WORKERS = (2, 4, 8, 16, 32, 64)
CONNECTIONS = 400
"""Connections that PostgreSQL takes, as in `deploy/compose.yaml`."""
OF_EPOCH = ("report", "write")
"""The calls of an epoch."""


@dataclass
class Servers:
    """A PostgreSQL and an MLflow server, and what they have used so far."""

    cluster: Cluster
    tracking: Server

    def processor(self) -> tuple[float, float]:
        """Seconds of processor time of PostgreSQL and of MLflow's server, with their ended processes."""
        postmaster = int((self.cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
        assert self.tracking.process
        return _of_tree(postmaster), _of_tree(self.tracking.process.pid)

    def new_search(self, present: int) -> str:
        """The URL of a storage with a search that has `present` finished trials."""
        storage = self.cluster.new(for_optuna)
        fill(storage, CONFIG, present, digest=untrained.dataset().digest)
        return storage


def _of_tree(number: int) -> float:
    top = psutil.Process(number)
    total = 0.0
    for process in (top, *top.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def main(
    workers: Annotated[list[int] | None, typer.Option(help="Numbers of workers.")] = None,
    finished: Annotated[list[int] | None, typer.Option(help="Numbers of finished trials, with one worker.")] = None,
    trials: Annotated[int, typer.Option(help="Trials of each worker, besides its first.", min=1)] = 5,
    pause: Annotated[float, typer.Option(help="Seconds of an epoch.")] = 0.3,
    figure: Annotated[Path | None, typer.Option(help="Also draw the pace by workers into this file.")] = None,
    write: JsonOption = None,
) -> None:
    """Run the searches one after the other, and compare."""
    machine = prepare("cpu", "float32", 1)
    cases = [(1, present) for present in finished or PRESENT] + [(count, USUAL) for count in workers or WORKERS]
    with running_cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.tell(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        cluster.control("restart")
        servers = Servers(cluster, Server(Path(folder), cluster.new(for_mlflow)))
        servers.tracking.start()
        try:
            rows = [_measured(servers, Path(folder), count, present, trials, pause) for count, present in cases]
            baseline = alone(servers.new_search(USUAL), trials)
        finally:
            servers.tracking.stop()
    _show(rows, pause)
    usual = next((row for row in rows if row["finished"] == USUAL), rows[0])
    if figure:
        draw(rows, pause, os.cpu_count() or 1, figure)
    conclude(
        {
            **surroundings(machine),
            "epochs": CONFIG.epochs,
            "pause": pause,
            "rows": rows,
            "optuna_alone_ms_a_trial": 1000 * baseline,
            "times_optuna_alone": whole(usual) / (1000 * baseline),
            "load": os.getloadavg()[0],
        },
        write,
    )


def _measured(
    servers: Servers, folder: Path, workers: int, present: int, trials: int, pause: float
) -> dict[str, float]:
    storage = servers.new_search(present)
    store = Store(Home(root=folder), servers.tracking.address)
    # The server's runs of other searches do not matter, which have another storage.
    parent = store.start("random", CONFIG.name, tags=search_tags(CONFIG), params=CONFIG.settings())
    total = present + workers * (trials + 1)
    order = Order(storage, servers.tracking.address, parent, total, pause)
    context = start_context()
    ready, results = context.Barrier(workers + 1), context.Queue()
    homes = [Path(tempfile.mkdtemp(dir=folder)) for _ in range(workers)]
    # Ended with this process.
    processes = [context.Process(target=work, args=(order, home, ready, results), daemon=True) for home in homes]
    for process in processes:
        process.start()
    ready.wait()
    before = servers.processor()
    costs: list[Cost] = [results.get() for _ in processes]
    used = np.subtract(servers.processor(), before) / (workers * (trials + 1))
    for process in processes:
        process.join()
    store.finish(parent, "FINISHED", "complete")
    servers_used = {"postgresql": 1000 * used[0], "mlflow": 1000 * used[1]}
    row = {"workers": workers, "finished": present, **_averages(costs), **servers_used}
    print(", ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
    return row


def _averages(costs: list[Cost]) -> dict[str, float]:
    """Averages over all workers, in milliseconds and numbers."""
    trials = sum(cost.trials for cost in costs)
    epochs = sum(len(cost.durations["report"]) for cost in costs)
    in_epochs = sum(cost.processors[name] for cost in costs for name in OF_EPOCH)
    counts = sum((cost.counts for cost in costs), Counter[tuple[str, str]]())
    each = {"trial": (False, trials), "epoch": (True, epochs)}
    return {
        "trial": 1000 * (sum(cost.processor for cost in costs) - in_epochs) / trials,
        "epoch": 1000 * in_epochs / epochs,
        **{
            name: 1000 * median(duration for cost in costs for duration in cost.durations[name])
            for name in ("ask", "report", "tell")
        },
        **{
            f"{what}s_{per}": sum(counts[key] for key in counts if key[1] == what and (key[0] in OF_EPOCH) == is_epoch)
            / number
            for what in ("statement", "transaction", "request")
            for per, (is_epoch, number) in each.items()
        },
        "pace": sum(cost.trials / cost.wall for cost in costs if cost.wall),
    }


def _show(rows: list[dict[str, float]], pause: float) -> None:
    print(f"Epochs of {pause:g} s, {CONFIG.epochs} a trial; the servers' processor time is that of a whole trial.")
    tables = {
        "Processor time, ms": ("trial", "epoch", "mlflow", "postgresql"),
        "Median latency, ms": ("ask", "report", "tell"),
        "SQL statements, transactions and requests": tuple(name for name in rows[0] if "s_" in name),
    }
    for title, names in tables.items():
        columns = ("workers", "finished", *names)
        show(title, columns, [[row[name] for name in columns] for row in rows])


if __name__ == "__main__":
    typer.run(main)
