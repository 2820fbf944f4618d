"""Seconds from the start of `study tune` on cached data to its first trial, compared with its imports alone.

python -m benchmarks.startup --dataset IMAGES

The command is a process, started in turn with one that only imports what it needs. The first trial has begun when
Optuna's record of it names its MLflow run: the next step is the first training step. The command is then terminated. A
new store creates two databases; an existing one is that of the previous rounds, with a new search.
"""

import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands import IMPORTS, STUDY, environment, with_data
from benchmarks.measure import in_turn, surroundings
from benchmarks.output import JsonOption, conclude, show
from study.device import prepare

LOOKS = 0.02
"""Seconds between two checks of the store."""
TIMEOUT = 600
"""Seconds after which a command is stopped."""


def main(
    dataset: str = "cifar10",
    rounds: Annotated[int, typer.Option(help="Starts of each kind that count.", min=1)] = 5,
    threads: int = 0,
    device: str = "auto",
    precision: str = "auto",
    write: JsonOption = None,
) -> None:
    """Start the command again and again, with new and existing stores."""
    machine = prepare(device, precision, threads)
    data = ("--dataset", dataset)
    how = ("--device", device, "--precision", machine.precision, "--threads", str(threads))
    command = (STUDY, "tune", *data, *how, "--trials", "1", "--no-retrain")
    with tempfile.TemporaryDirectory() as folder:
        home = with_data(Path(folder, "existing"))
        subprocess.run((STUDY, "data", *data), env=environment(home), stdout=subprocess.DEVNULL, check=True)
        durations: dict[str, list[float]] = {"existing": [], "new": []}
        median = in_turn(
            {
                "imports": lambda: subprocess.run(IMPORTS, check=True),
                "existing": _starts(command, lambda number: home, durations["existing"]),
                "new": _starts(command, lambda number: with_data(home.with_name(f"new-{number}")), durations["new"]),
            },
            rounds,
        )
    imports = median["imports"]
    # The medians above include the end of each command; these are of its start only, without the first, a warm-up.
    existing, new = (statistics.median(durations[name][1:]) for name in ("existing", "new"))
    rows = [
        (name, value, value / imports) for name, value in (("imports", imports), ("existing", existing), ("new", new))
    ]
    show("Seconds to the first trial", ("store", "seconds", "× imports"), rows)
    conclude(
        {
            **surroundings(machine),
            "dataset": Path(dataset).name,
            "rounds": rounds,
            "seconds_of_imports": imports,
            "seconds_to_first_trial": existing,
            "startup_ratio": existing / imports,
            "seconds_to_first_trial_in_new_store": new,
            "startup_ratio_in_new_store": new / imports,
        },
        write,
    )


def _starts(command: Sequence[str], home: Callable[[int], Path], durations: list[float]) -> Callable[[], None]:
    """A function that starts `command` in the home of each round, and adds the seconds to its first trial."""

    def start() -> None:
        number = len(durations)
        durations.append(_seconds_to_trial((*command, "--search", f"round-{number}"), home(number)))

    return start


def _seconds_to_trial(command: Sequence[str], home: Path) -> float:
    before = _begun(home)
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, env=environment(home), stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while _begun(home) == before:
                if process.poll() is not None or time.perf_counter() - start > TIMEOUT:
                    output.seek(0)
                    raise SystemExit(f"{' '.join(command)} began no trial:\n{output.read()}")
                time.sleep(LOOKS)
            return time.perf_counter() - start
        finally:
            process.terminate()


def _begun(home: Path) -> int:
    """Number of trials in `home` that have an MLflow run."""
    file = home / "mlruns" / "optuna.db"
    if file.exists():
        # The tables may not exist yet.
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            query = "SELECT count(*) FROM trial_user_attributes WHERE key = 'mlflow_run'"
            return int(database.execute(query).fetchone()[0])
    return 0


if __name__ == "__main__":
    typer.run(main)
