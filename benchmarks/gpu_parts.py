"""The parts of `benchmarks.gpu`: each measures one thing on one device, and returns its figures by name."""

import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import (
    bytes_per_image,
    epoch_of,
    flops_per_image,
    matmul_ceiling,
    memory_bandwidth,
    seconds,
)
from benchmarks.population import Population, seconds_in_processes, timed, trainings
from benchmarks.textbook import Textbook
from study.architectures import MODELS
from study.config import DataConfig, TrainConfig, model_config
from study.device import Machine
from study.home import Home
from study.images import Labelled
from study.training import evaluate, resident

Figures = dict[str, Any]

SETTINGS = {"cnn": (1.39e-3, 6.9e-4), "ffnn": (7.6e-4, 2.2e-5)}
"""Learning rate and weight decay of the trainings whose accuracies are compared: the best in docs/results.md."""
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t, two-sided 95 %, by degrees of freedom."""


def rates(machine: Machine) -> Figures:
    """Matmul rate and memory bandwidth, and the lower bounds that follow for the time of an epoch."""
    matmul, bandwidth = matmul_ceiling(machine), memory_bandwidth(machine)
    figures: Figures = {"matmul_tflops": matmul / 1e12, "bandwidth_gbs": bandwidth / 1e9}
    for model in MODELS:
        figures[f"{model}_floor_arithmetic_ms"] = 1e3 * 50_000 * flops_per_image(model) / matmul
        figures[f"{model}_floor_memory_ms"] = 1e3 * 50_000 * bytes_per_image(model) / bandwidth
    return figures


def alone(model: str, images: Labelled, machine: Machine, rounds: int, name: str) -> Figures:
    """Seconds per epoch of a single training on `machine`, whose settings are called `name`."""
    config = TrainConfig(model=model_config(model))
    epoch = epoch_of(images, config, machine)
    first = seconds(epoch, machine.device)
    duration = timed(epoch, rounds, machine.device)
    return {"epoch_seconds": {f"{model}, {name}": duration}, f"{model}_first_epoch_seconds_{name}": first}


def difference(model: str, images: Labelled, machine: Machine) -> Figures:
    """Difference between weights trained with a CUDA graph and eagerly, and between two eager trainings.

    The mean absolute difference over all weights after two epochs, relative to their mean change in training. Gradients
    on a GPU need not be deterministic.
    """
    ways = {"graph": machine, "eager": replace(machine, graphs=False), "again": replace(machine, graphs=False)}
    weights = {name: _flat_weights(model, images, way, passes=2) for name, way in ways.items()}
    moved = (weights["eager"] - _flat_weights(model, images, machine, passes=0)).abs().mean()
    return {
        f"{model}_graph_minus_eager": float((weights["graph"] - weights["eager"]).abs().mean() / moved),
        f"{model}_eager_minus_eager": float((weights["again"] - weights["eager"]).abs().mean() / moved),
    }


def _flat_weights(model: str, images: Labelled, machine: Machine, passes: int) -> torch.Tensor:
    config = TrainConfig(model=model_config(model), epochs=2**31)
    (trained,), epoch = trainings(images, [config], machine)
    for _ in range(passes):
        epoch()
    return torch.cat([weight.detach().flatten() for weight in trained.parameters()])


def together(model: str, images: Labelled, machine: Machine, rounds: int, way: str, count: int) -> Figures:
    """Seconds per model-epoch of `count` trainings at a time: in turns, vectorised, or as processes."""
    configs = [
        TrainConfig(model=model_config(model), seed=seed, learning_rate=1e-3 * (1 + seed), epochs=2**31)
        for seed in range(count)
    ]
    if way == "processes":
        duration = seconds_in_processes(images.to("cpu"), configs[0], machine, count, rounds)
    else:
        turns = trainings(images, configs, machine)[1] if way == "in turns" else None
        duration = timed(turns or Population(images, configs, machine).epoch, rounds, machine.device)
    return {"epoch_seconds": {f"{model}, {count} {way}": duration / count}}


def textbook(model: str, images: Labelled, machine: Machine, threads: int) -> Figures:
    """Seconds of an epoch of the textbook loop, in its own process, after one uncounted epoch."""
    with Textbook(images.to("cpu"), TrainConfig(model=model_config(model)), str(machine.device), threads) as loop:
        loop.epoch()
        return {"epoch_seconds": {f"{model}, textbook": loop.epoch()}}


def accuracies(model: str, parts: Mapping[str, Labelled], machine: Machine, seeds: int, passes: int) -> Figures:
    """Test accuracy (%) of `seeds` pairs of trainings, bf16 and float32, and the difference with its 95 % interval."""
    rate, decay = SETTINGS[model]
    configs = [
        TrainConfig(model=model_config(model), learning_rate=rate, weight_decay=decay, epochs=passes, seed=seed)
        for seed in range(seeds)
    ]
    reached = {}
    for precision in ("float32", "bf16"):
        models, epoch = trainings(parts["train"], configs, replace(machine, precision=precision))
        for _ in range(passes):
            epoch()
        reached[precision] = [100 * evaluate(trained, parts["test"])[1] for trained in models]
    differences = np.subtract(reached["bf16"], reached["float32"])
    half = T_975[seeds - 1] * differences.std(ddof=1) / math.sqrt(seeds)
    return {
        f"{model}_accuracies": reached,
        f"{model}_bf16_minus_float32": float(differences.mean()),
        f"{model}_bf16_minus_float32_interval": [float(differences.mean() - half), float(differences.mean() + half)],
    }


@contextmanager
def unpacked(dataset: Path) -> Iterator[Path]:
    """The image folder `dataset`, or the unpacked archive `dataset`."""
    if dataset.is_dir():
        yield dataset
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(dataset) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def read(folder: Path, home: Path, machine: Machine) -> dict[str, Labelled]:
    """The training and test images of `folder` on the device; decoded ones are cached in `home`."""
    # Imported here: it needs the project's dependencies, and the training figures do not.
    from study.data import load_dataset

    dataset = load_dataset(DataConfig(dataset=str(folder)), Home(root=home))
    return {name: resident(part, machine) for name, part in (("train", dataset.train), ("test", dataset.test))}


def command(name: str, folder: Path, home: Path, machine: Machine, options: Sequence[str], timeout: float) -> Figures:
    """Seconds of a whole command with new stores and cached images; stopped after `timeout` seconds."""
    whole = [sys.executable, "-c", "from pipelines.cli.app import main; main()"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("STUDY_", "MLFLOW_"))}
    end = time.monotonic() + timeout
    own = home / name
    own.mkdir(parents=True)
    (home / "data").mkdir(exist_ok=True)
    (own / "data").symlink_to(home / "data")
    environment = {**clean, "STUDY_HOME": str(own)}

    def call(*words: str) -> None:
        process = subprocess.run(
            [*whole, *words, "--dataset", str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=max(1.0, end - time.monotonic()),
            check=False,
        )
        if process.returncode:
            raise RuntimeError(f"study {words[0]} ended with {process.returncode}: {process.stderr.strip()[-500:]}")

    call("data")
    model = ["--model", "cnn"] if name == "tune" else []
    how = ["--device", str(machine.device), "--precision", machine.precision]
    return {name: seconds(lambda: call(name, *model, *how, *options))}
