"""All benchmarks for a GPU, in one call of under 8 minutes: a table, and the same figures as JSON.

    python -m benchmarks.gpu --dataset IMAGES --json gpu.json

IMAGES is an image folder (`train/<class>/`, `test/<class>/`) or a tar archive of one; without it, the accuracies and
the whole commands are left out. The training figures need only torch 2.11 or newer, torchvision and numpy; accuracies
and whole commands also need the project's dependencies. Parts that lack a dependency, or would start after `--minutes`,
are skipped and listed; a whole command is stopped 90 seconds after `--minutes`.

On a machine without a network: copy this folder there, with its `.git` (for the commit) and IMAGES, and run it with the
machine's own Python. For the whole commands, also copy the wheels of the dependencies that it lists as missing
(`pip download` on a machine with a network, `pip install --no-index --find-links` there).

Times are means over epochs after one uncounted epoch, training steps only; the images are random, of CIFAR-10's size,
50,000 per epoch, in batches of 200. The targets are for an H200, scaled by the bf16 matmul rate. The JSON file is
rewritten after each part, so that no figures are lost if the machine goes away.

Results are in docs/speed.md; no GPU has timed vectorised or multi-process trainings yet.
"""

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import ParamSpec

from benchmarks.gpu_parts import (
    T_975,
    Figures,
    accuracies,
    alone,
    command,
    difference,
    rates,
    read,
    textbook,
    together,
    unpacked,
)
from benchmarks.images import random_images
from benchmarks.measure import surroundings
from study.architectures import MODELS
from study.device import Machine, prepare
from study.errors import StudyError
from study.images import Labelled
from study.training import resident

P = ParamSpec("P")

H200_MATMUL = 790e12
"""bf16 operations per second of an H200, for which the targets are."""
TARGETS = {"cnn": 25e-3, "cnn_together": 18e-3, "ffnn": 10e-3, "tune": 20.0, "reproduce": 90.0}
"""Seconds on an H200: an epoch of a single training, one per model of several trainings, and whole commands."""
WAYS = ("in turns", "vectorised", "processes")
"""Ways to run several trainings at a time."""
GRACE = 90.0
"""Seconds that a whole command may take after `--minutes`."""
NEEDED = ("mlflow", "optuna", "typer", "rich", "pandas", "sklearn", "matplotlib", "safetensors", "filelock", "psutil")
"""Packages that whole commands import besides torch, torchvision and numpy."""


class Session:
    """The figures measured so far, and the parts left out; a failed part does not end the session."""

    def __init__(self, figures: Figures, minutes: float, file: Path | None):
        self.figures: Figures = {**figures, "epoch_seconds": {}, "left_out": {}}
        self.end, self.file = time.monotonic() + 60 * minutes, file

    def left(self) -> float:
        """Seconds until no further part is started."""
        return self.end - time.monotonic()

    def measure(self, name: str, part: Callable[P, Figures], *arguments: P.args, **options: P.kwargs) -> None:
        """Adds the figures of `part`; leaves it out where the time is up or it fails."""
        if self.left() < 0:
            self.leave_out(name, "no time left: raise --minutes")
            return
        print(f"… {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            figures = part(*arguments, **options)
            self.figures["epoch_seconds"] |= figures.pop("epoch_seconds", {})
            self.figures |= figures
        except Exception as error:
            self.leave_out(name, f"{type(error).__name__}: {error}")
        print(f"  {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        self.write()

    def leave_out(self, name: str, why: str) -> None:
        """Records a part that was not measured, and why."""
        self.figures["left_out"][name] = why

    def write(self) -> None:
        """Writes all figures to the file, if any."""
        if self.file:
            self.file.write_text(json.dumps(self.figures, indent=2) + "\n")


def with_targets(epochs_of: Mapping[str, float], figures: Figures, images: int) -> list[list[object]]:
    """Rows of the table of times: ms per model-epoch, ratio to the textbook, lower bounds, shares of them, target."""
    scale = images / 50_000 * H200_MATMUL / (1e12 * figures.get("matmul_tflops", math.nan))
    rows: list[list[object]] = []
    for name, duration in epochs_of.items():
        model = name.split(",")[0]
        floors = [
            images / 50_000 * figures.get(f"{model}_floor_{what}_ms", math.nan) for what in ("arithmetic", "memory")
        ]
        target = TARGETS["cnn_together" if model == "cnn" and name.endswith(WAYS) else model]
        rows.append(
            [
                name,
                1e3 * duration,
                epochs_of.get(f"{model}, textbook", math.nan) / duration,
                *floors,
                *(floor / (1e3 * duration) for floor in floors),
                "" if name.endswith(("textbook", "eager")) else 1e3 * target * scale,
            ]
        )
    return rows


def show(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table, using only the standard library."""
    texts = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        print("  ".join(cells).rstrip())


def _text(cell: object) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def driver() -> str:
    """The version of the GPU's driver; `unknown` without one."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def measure(options: argparse.Namespace) -> Figures:
    """Measures all parts that there is time for."""
    machine = prepare(options.device, options.precision)
    about = {**surroundings(machine), "driver": driver(), "images": options.images}
    session = Session(about, options.minutes, options.json)
    images = resident(random_images(options.images), machine)
    eager = {"eager": replace(machine, graphs=False)}
    ways = {"graph": machine, **eager} if machine.device.type == "cuda" else eager
    session.measure("rates", rates, machine)
    for model, (name, way) in product(options.models, ways.items()):
        session.measure(f"{model} alone, {name}", alone, model, images, way, options.rounds, name)
    counts = [("in turns", count) for count in options.at_once] + [(way, max(options.at_once)) for way in WAYS[1:]]
    for model, (several, count) in product(options.models, counts):
        part = model, images, machine, options.rounds, several, count
        session.measure(f"{model}, {count} {several}", together, *part)
    for model in options.models:
        session.measure(f"{model}, textbook", textbook, model, images, machine, machine.threads)
    if options.dataset:
        with unpacked(options.dataset) as folder:
            _of_images(folder, options, machine, session)
    else:
        for name in ("accuracies", "whole commands"):
            session.leave_out(name, "no --dataset")
    for model in options.models:
        session.measure(f"{model}, graph and eager", difference, model, images, machine)
    session.write()
    return session.figures


def _of_images(folder: Path, options: argparse.Namespace, machine: Machine, session: Session) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        session.leave_out("whole commands", f"not installed: {', '.join(missing)}")
    search = ["--trials", options.trials, "--epochs", options.search_passes, "--retrain-epochs", options.passes]
    with tempfile.TemporaryDirectory() as home:
        parts: dict[str, Labelled] = {}

        def reading() -> Figures:
            parts.update(read(folder, Path(home), machine))
            return {f"{name}_images": len(part) for name, part in parts.items()}

        session.measure("reading the images", reading)
        for model in options.models if parts else ():
            session.measure(f"{model}, accuracies", accuracies, model, parts, machine, options.seeds, options.passes)
        for name in () if missing else ("tune", "reproduce"):
            whole = name, folder, Path(home), machine, list(map(str, search)), session.left() + GRACE
            session.measure(f"study {name}", command, *whole)


def report(figures: Figures) -> None:
    """Prints the figures with their targets."""
    about = ("gpu", "device", "precision", "driver", "torch", "commit", "cpu")
    print(", ".join(f"{name} {figures[name]}" for name in about if figures[name]))
    plain = [name for name, value in figures.items() if isinstance(value, float) and name not in TARGETS]
    for name in plain:
        print(f"{name}: {figures[name]:.4g}")
    columns = ["", "ms a model-epoch", "× textbook", "least, arithmetic", "least, memory"]
    columns += ["of the matmul rate", "of the bandwidth", "target, ms"]
    show(columns, with_targets(figures["epoch_seconds"], figures, figures["images"]))
    for model in MODELS:
        if f"{model}_accuracies" in figures:
            reached = figures[f"{model}_accuracies"]
            means = ", ".join(f"{precision} {statistics.mean(values):.2f}" for precision, values in reached.items())
            mean, (low, high) = (figures[f"{model}_bf16_minus_float32{part}"] for part in ("", "_interval"))
            interval = f"95 % interval {low:+.2f} to {high:+.2f}, n = {len(reached['bf16'])}"
            print(f"{model}: test accuracy, %: {means}; bf16 − float32 {mean:+.2f} points ({interval})")
    for name in ("tune", "reproduce"):
        if name in figures:
            print(f"study {name}: {figures[name]:.1f} s (target on an H200: {TARGETS[name]:.0f} s)")
    for name, why in figures["left_out"].items():
        print(f"left out: {name} ({why})")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the options; with `argparse`, which needs no dependencies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure all that a GPU is used for.")
    parser.add_argument("--dataset", type=Path, help="image folder, or a tar archive of one")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--minutes", type=float, default=6.5, help="begin nothing after that (default: %(default)s)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--images", type=int, default=50_000, help="of an epoch that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each kind that count")
    parser.add_argument("--at-once", type=int, nargs="+", default=[4, 8], help="trainings at a time")
    parser.add_argument("--seeds", type=int, default=5, help="pairs of trainings in both precisions")
    parser.add_argument("--passes", type=int, default=30, help="epochs of these, and of a retraining")
    parser.add_argument("--trials", type=int, default=40, help="of each search in the whole commands")
    parser.add_argument("--search-passes", type=int, default=10, help="epochs of a trial in them")
    options = parser.parse_args(arguments)
    if (dataset := options.dataset) and not (dataset.is_dir() or (dataset.is_file() and tarfile.is_tarfile(dataset))):
        parser.error(f"--dataset {options.dataset} is neither a folder nor a tar archive")
    if options.seeds - 1 not in T_975:
        parser.error(f"--seeds is {options.seeds}: it must be from {min(T_975) + 1} to {max(T_975) + 1}")
    return options


def main() -> None:
    """Measures, prints and writes all figures."""
    options = parse()
    try:
        figures = measure(options)
    except StudyError as error:
        sys.exit(f"benchmarks.gpu: {error}")
    report(figures)


if __name__ == "__main__":
    main()
