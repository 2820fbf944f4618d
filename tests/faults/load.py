"""Load: many workers make many short trials, and every one of them must be in both stores, once.

`python -m tests.faults.load` makes 1,000 trials with 8 workers, on SQLite and on a PostgreSQL of its own, and prints a
row for each: how many trials and runs there are, what went wrong (nothing), and how long it took. A trial is a real
training, of one epoch on the bundled digits.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.invariants import read
from tests.faults.places import Place
from tests.faults.victims import start_forked
from tests.support.postgres import for_mlflow, for_optuna, programs, running_cluster

SEARCH = "load"
OF_SEARCH = "FROM trials JOIN studies USING (study_id) WHERE study_name = 'load'"
OF_TRIALS = "FROM runs JOIN tags USING (run_uuid) WHERE key = 'stage' AND value = 'trial'"
FACTS = {
    "trials": ("storage", f"SELECT count(*) {OF_SEARCH} AND state IN ('COMPLETE', 'PRUNED')"),
    "failed": (
        "storage",
        f"SELECT count(*) {OF_SEARCH} AND state = 'FAIL' AND trial_id NOT IN (SELECT trial_id FROM "
        "trial_user_attributes WHERE key = 'status_reason' AND value_json = '\"surplus\"')",
    ),
    "points": (
        "storage",
        f"SELECT count(*) FROM trial_intermediate_values WHERE trial_id IN (SELECT trial_id {OF_SEARCH})",
    ),
    "open": ("storage", f"SELECT count(*) {OF_SEARCH} AND state IN ('RUNNING', 'WAITING')"),
    "runs": ("tracking", f"SELECT count(*) {OF_TRIALS} AND status = 'FINISHED'"),
    "other runs": ("tracking", f"SELECT count(*) {OF_TRIALS} AND status <> 'FINISHED'"),
    "curves": ("tracking", "SELECT count(*) FROM metrics WHERE key = 'val_accuracy' AND step = 1"),
    "bests": ("tracking", "SELECT count(*) FROM metrics WHERE key = 'best_val_accuracy' AND step = 0"),
}
"""What is counted: its store and query, without the program's own code."""


@dataclass(frozen=True)
class Loaded:
    """Outcome of the load."""

    code: int
    output: str
    counts: dict[str, int]
    seconds: float

    def wrong(self, trials: int) -> list[str]:
        """What is wrong after this number of trials, as messages."""
        expected = dict.fromkeys(("trials", "points", "runs", "curves", "bests"), trials)
        expected |= dict.fromkeys(("failed", "open", "other runs"), 0)
        messages = [f"{name} {self.counts[name]}" for name, count in expected.items() if self.counts[name] != count]
        messages += [
            line for line in self.output.splitlines() if any(word in line for word in ("killed", "failed", "again"))
        ]
        return messages + ([f"exit code {self.code}: {self.output[-2000:]}"] if self.code else [])


def load(place: Place, *, workers: int, trials: int, sampler: str) -> Loaded:
    """Runs `study tune` with this number of trials and workers, and counts the records afterwards."""
    arguments = ["tune", "--dataset", "digits", "--model", "ffnn", "--search", SEARCH, "--epochs", "1", "--no-retrain"]
    arguments += ["--pruner", "none", "--sampler", sampler, "--trials", str(trials), "--workers", str(workers)]
    arguments += ["--threads", str(workers), "--home", str(place.home), "--storage", place.storage]
    arguments += ["--tracking-uri", place.tracking]
    begun = time.monotonic()
    victim = start_forked(tuple(arguments), place.home, place.home / "log")
    code = victim.process.wait()
    seconds = time.monotonic() - begun
    counts = {name: int(read(getattr(place, store), query).iloc[0, 0]) for name, (store, query) in FACTS.items()}
    return Loaded(code, victim.output(), counts, seconds)


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Place]:
    """Two SQLite files in their own home."""
    yield Place(folder, f"sqlite:///{folder}/mlruns/mlflow.db", f"sqlite:///{folder}/mlruns/optuna.db")


@contextmanager
def on_postgresql(folder: Path) -> Iterator[Place]:
    """Two databases on a temporary server with durable writes, as in production."""
    with running_cluster(durable=True) as cluster:
        yield Place(folder, cluster.new(for_mlflow), cluster.new(for_optuna))


STORES = {"SQLite": on_sqlite, "PostgreSQL": on_postgresql}


def main() -> int:
    """Prints a row for each store; returns 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.load", description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--store", choices=STORES, action="append", help="by default each that there is")
    options = parser.parse_args()
    stores = options.store or [name for name in STORES if name == "SQLite" or programs()]
    print("| store | workers | finished trials | runs | wrong | minutes | trials a second |")
    print("|---|---|---|---|---|---|---|")
    failures = []
    for name in stores:
        with tempfile.TemporaryDirectory(prefix="study-load-") as folder, STORES[name](Path(folder)) as place:
            loaded = load(place, workers=options.workers, trials=options.trials, sampler=options.sampler)
        wrong = loaded.wrong(options.trials)
        failures += wrong
        rate = options.trials / loaded.seconds
        print(
            f"| {name} | {options.workers} | {loaded.counts['trials']:,} | {loaded.counts['runs']:,} | {len(wrong)} | "
            f"{loaded.seconds / 60:.1f} | {rate:.1f} |",
            flush=True,
        )
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
