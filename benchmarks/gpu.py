"""Everything that is worth measuring on a GPU, in one call of under 8 minutes, as a table and as JSON.

    python -m benchmarks.gpu --dataset IMAGES --json gpu.json

IMAGES is an image folder (`train/<class>/`, `test/<class>/`) or a tar archive of one; without it the accuracies and the
whole commands are left out. The training figures need torch 2.11 or newer, torchvision and numpy alone; the whole
commands also need the project's dependencies. What is missing is said, and the rest is measured; what would begin after
`--minutes` is left out, and said too.

On a machine without a network: copy this folder there (`git archive HEAD`), IMAGES beside it, and call it there with
the machine's own Python. For the whole commands bring the wheels of what `python -m benchmarks.gpu` names as missing
(`pip download` on a machine with a network, `pip install --no-index --find-links` there).

The times are means over epochs after one that does not count, the training steps alone; images are random ones of
CIFAR-10's size, 50,000 an epoch, in batches of 200. The targets are those of an H200, scaled by the bf16 matmul rate.

Nothing has been measured with it yet: the project had no GPU so far.
"""

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from benchmarks.gpu_parts import (
    Figures,
    accuracies,
    alone,
    commands,
    difference,
    rates,
    read,
    textbook,
    together,
    unpacked,
)
from benchmarks.images import random_images
from benchmarks.measure import surroundings
from study.config import MODELS
from study.device import Machine, prepare
from study.errors import StudyError
from study.training import resident

P = ParamSpec("P")
Measured = TypeVar("Measured")

H200_MATMUL = 790e12
"""bf16 operations per second of an H200, the machine of the targets."""
TARGETS = {"cnn": 25e-3, "cnn_together": 18e-3, "ffnn": 10e-3, "tune": 20.0, "reproduce": 90.0}
"""Seconds on an H200: an epoch alone, a model-epoch of several at a time, and whole commands."""
NEEDED = ("mlflow", "optuna", "typer", "rich", "pandas", "sklearn", "matplotlib", "safetensors", "filelock", "psutil")
"""What whole commands import beside torch, torchvision and numpy."""


class Clock:
    """Which parts there is time for, and what was left out."""

    def __init__(self, minutes: float):
        self.end, self.left_out = time.monotonic() + 60 * minutes, {}  # type: float, dict[str, str]

    def measure(self, name: str, part: Callable[P, Measured], *given: P.args, **options: P.kwargs) -> Measured | None:
        """What `part` gives; None where the time is up, or it fails: one figure less is no reason to lose all."""
        if time.monotonic() > self.end:
            self.left_out[name] = "no time left: raise --minutes"
            return None
        print(f"… {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            return part(*given, **options)
        except Exception as error:
            self.left_out[name] = f"{type(error).__name__}: {error}"
            return None
        finally:
            print(f"  {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def with_targets(epochs_of: Mapping[str, float], figures: Figures, images: int) -> list[list[object]]:
    """Rows of the table of times: ms a model-epoch, ratio to the textbook, shares of the ceilings, target."""
    scale = images / 50_000 * H200_MATMUL / (1e12 * figures.get("matmul_tflops", math.nan))
    rows: list[list[object]] = []
    for name, taken in epochs_of.items():
        model = name.split(",")[0]
        target = TARGETS["cnn_together" if model == "cnn" and " " in name.split(", ")[1] else model]
        rows.append(
            [
                name,
                1e3 * taken,
                epochs_of.get(f"{model}, textbook", math.nan) / taken,
                figures.get(f"{model}_floor_arithmetic_ms", math.nan) * images / 50_000 / (1e3 * taken),
                figures.get(f"{model}_floor_memory_ms", math.nan) * images / 50_000 / (1e3 * taken),
                "" if name.endswith(("textbook", "eager")) else 1e3 * target * scale,
            ]
        )
    return rows


def show(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table, with nothing but the standard library."""
    texts = [list(columns)] + [
        [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        print("  ".join(cells).rstrip())


def _text(cell: object) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def driver() -> str:
    """The version of the GPU's driver, as the driver says it."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def measure(options: argparse.Namespace) -> Figures:
    """All figures that there is time for."""
    machine = prepare(options.device, options.precision)
    clock = Clock(options.minutes)
    figures: Figures = {**surroundings(machine), "driver": driver(), "images": options.images}
    images = resident(random_images(options.images), machine)
    figures |= clock.measure("rates", rates, machine) or {}
    times: dict[str, float] = {}
    for model in options.models:
        times |= clock.measure(f"{model} alone", alone, model, images, machine, options.rounds) or {}
        figures |= clock.measure(f"{model}, graph and eager", difference, model, images, machine) or {}
        times |= clock.measure(f"{model}, textbook", textbook, model, images, machine) or {}
    for model in options.models:
        several = model, images, machine, options.rounds, options.at_once
        times |= clock.measure(f"{model}, several at a time", together, *several) or {}
    if options.dataset:
        with unpacked(options.dataset) as folder:
            figures |= _of_images(folder, options, machine, clock)
    else:
        clock.left_out |= dict.fromkeys(("accuracies", "whole commands"), "no --dataset")
    return {**figures, "epoch_seconds": times, "left_out": clock.left_out}


def _of_images(folder: Path, options: argparse.Namespace, machine: Machine, clock: Clock) -> Figures:
    figures: Figures = {}
    if parts := clock.measure("reading the images", read, folder, machine):
        for model in options.models:
            pairs = model, parts["train"], parts["test"], machine, options.seeds, options.passes
            figures |= clock.measure(f"{model}, accuracies", accuracies, *pairs) or {}
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        clock.left_out["whole commands"] = f"not installed: {', '.join(missing)}"
    else:
        whole = folder, machine, options.trials, options.search_passes, options.passes
        figures |= clock.measure("whole commands", commands, *whole) or {}
    return figures


def report(figures: Figures) -> None:
    """Prints what was measured, beside the targets."""
    about = ("gpu", "device", "precision", "driver", "torch", "commit", "cpu")
    print(", ".join(f"{name} {figures[name]}" for name in about if figures[name]))
    for name in ("matmul_tflops", "bandwidth_gbs", *(f"{model}_graph_minus_eager" for model in MODELS)):
        if name in figures:
            print(f"{name}: {figures[name]:.4g}")
    columns = ["", "ms a model-epoch", "× textbook", "of the matmul rate", "of the bandwidth", "target, ms"]
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
            print(f"study {name}: {figures[name]:.1f} s (target on an H200: {TARGETS[name]:.0f})")
    for name, why in figures["left_out"].items():
        print(f"left out: {name} ({why})")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; `argparse`, since it is there on every machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure all that a GPU is used for.")
    parser.add_argument("--dataset", type=Path, help="image folder, or a tar archive of one")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--minutes", type=float, default=6.5, help="begin nothing after that (default: %(default)s)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--images", type=int, default=50_000, help="of an epoch that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each kind that count")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8], help="trainings at a time")
    parser.add_argument("--seeds", type=int, default=5, help="pairs of trainings in both precisions")
    parser.add_argument("--passes", type=int, default=30, help="epochs of these, and of a retraining")
    parser.add_argument("--trials", type=int, default=40, help="of each search in the whole commands")
    parser.add_argument("--search-passes", type=int, default=10, help="epochs of a trial in them")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures, prints and writes."""
    options = parse()
    try:
        figures = measure(options)
    except StudyError as error:
        sys.exit(f"benchmarks.gpu: {error}")
    report(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
