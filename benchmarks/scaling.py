"""Scaling: images per second by batch size, pace of a search by workers, seconds per epoch by number of images.

python -m benchmarks.scaling

Batch sizes and numbers of images are timed on random images, in turn. The workers are those of `study tune` on the
digits; the pace counts only trials that began after every worker had begun, so that the start of the processes does not
count. On so few images, bookkeeping takes a larger share of a search than on CIFAR-10.
"""

import json
import os
import sqlite3
import subprocess
import tempfile
from collections import defaultdict
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands import STUDY, environment
from benchmarks.images import random_images
from benchmarks.measure import epoch_of, in_turn, surroundings
from benchmarks.output import JsonOption, conclude, show
from study.architectures import MODELS
from study.config import TrainConfig, model_config
from study.device import Machine, prepare
from study.training import resident

BATCHES = (50, 100, 200, 400, 1000)
REPORTS_BATCH = 200
CNN_IMAGES = 2000
"""Number of images of a timed epoch; ten times as many on a GPU, and for the FFNN, which is faster."""
SHARES = (0.5, 1, 2)
TRIALS = 6
"""Number of trials per worker."""


def main(
    rounds: Annotated[int, typer.Option(help="Epochs of each kind that count.", min=1)] = 3,
    workers: Annotated[int, typer.Option(help="The most trials at a time; 0: as many as cores.")] = 0,
    threads: int = 0,
    device: str = "auto",
    precision: str = "auto",
    write: JsonOption = None,
) -> None:
    """Time all three."""
    machine = prepare(device, precision, threads)
    batches = [row for model in MODELS for row in _batches(model, machine, rounds)]
    sizes = _sizes(machine, rounds)
    most = workers or os.cpu_count() or 1
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count < most] + [most]
    paces = [{"workers": count, "seconds_per_trial": _pace(count, machine)} for count in counts]
    for title, rows in (
        ("Images per second", batches),
        ("Seconds per epoch of the CNN", sizes),
        ("Seconds of the search per trial, trials at a time", paces),
    ):
        show(title, list(rows[0]), [list(row.values()) for row in rows])
    best = min(paces, key=lambda row: row["seconds_per_trial"])
    conclude(
        {
            **surroundings(machine),
            "batches": batches,
            "dataset_sizes": sizes,
            "workers": paces,
            "best_workers": best["workers"],
            "speedup_of_best_workers": paces[0]["seconds_per_trial"] / best["seconds_per_trial"],
            "seconds_per_image_of_largest_over_smallest": sizes[-1]["seconds_per_image"]
            / sizes[0]["seconds_per_image"],
        },
        write,
    )


def _batches(model: str, machine: Machine, rounds: int) -> list[dict[str, str | int | float]]:
    images = resident(random_images(_images(model, machine)), machine)
    works = {
        str(size): epoch_of(images, TrainConfig(model=model_config(model), batch_size=size), machine)
        for size in BATCHES
    }
    durations = in_turn(works, rounds, machine.device)
    rates = {int(size): len(images) / duration for size, duration in durations.items()}
    return [
        {"model": model, "batch": size, "images_per_second": rate, "× batch 200": rate / rates[REPORTS_BATCH]}
        for size, rate in rates.items()
    ]


def _sizes(machine: Machine, rounds: int) -> list[dict[str, float]]:
    parts = [resident(random_images(int(share * _images("cnn", machine))), machine) for share in SHARES]
    works = {str(len(part)): epoch_of(part, TrainConfig(batch_size=REPORTS_BATCH), machine) for part in parts}
    durations = in_turn(works, rounds, machine.device)
    return [
        {"images": int(size), "seconds_per_epoch": duration, "seconds_per_image": duration / int(size)}
        for size, duration in durations.items()
    ]


def _images(model: str, machine: Machine) -> int:
    return CNN_IMAGES * (1 if model == "cnn" and machine.device.type == "cpu" else 10)


def _pace(workers: int, machine: Machine) -> float:
    """Seconds per trial of a search on the digits with `workers` workers."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        how = ("--device", str(machine.device), "--precision", machine.precision, "--threads", str(machine.threads))
        search = ("--dataset", "digits", "--pruner", "none", "--epochs", "2", "--trials", str(TRIALS * workers))
        command = (STUDY, "tune", *how, *search, "--workers", str(workers), "--no-retrain")
        subprocess.run(command, env=environment(home), stdout=subprocess.DEVNULL, check=True)
        return _seconds_per_trial(home / "mlruns" / "optuna.db")


def _seconds_per_trial(file: Path) -> float:
    """Seconds per trial, from the intervals between the starts of each worker's trials once all workers have begun."""
    starts = defaultdict(list)
    query = """
        SELECT value_json, datetime_start FROM trials JOIN trial_user_attributes USING (trial_id)
        WHERE key = 'worker' ORDER BY datetime_start
    """
    with closing(sqlite3.connect(file)) as database:
        for worker, start in database.execute(query):
            starts[json.loads(worker)].append(datetime.fromisoformat(start).timestamp())
    begun = max(own[0] for own in starts.values())
    paces = []
    for own in starts.values():
        intervals = [after - before for before, after in pairwise(own) if before >= begun]
        if not intervals:
            raise SystemExit("A worker had ended before the last one began: there are too few trials.")
        paces.append(len(intervals) / sum(intervals))
    return 1 / sum(paces)


if __name__ == "__main__":
    typer.run(main)
