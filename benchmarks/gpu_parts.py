"""The parts of `benchmarks.gpu`: each measures one thing on one device, and returns its figures by name."""

import math
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.measure import (
    bytes_per_image,
    epoch_of,
    flops_per_image,
    matmul_ceiling,
    memory_bandwidth,
    seconds,
)
from benchmarks.population import Population, in_turns, seconds_in_processes, timed
from study.config import MODELS, TrainConfig, model_config
from study.device import Machine
from study.labelled import Labelled
from study.models import build_model
from study.state import TrainingState
from study.training import epochs, evaluate, resident

Figures = dict[str, Any]

SETTINGS = {"cnn": (1.39e-3, 6.9e-4), "ffnn": (7.6e-4, 2.2e-5)}
"""Learning rate and weight decay of the trainings whose accuracies are compared: the best of the README's searches."""
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t, two-sided 95 %, by degrees of freedom."""


def rates(machine: Machine) -> Figures:
    """What the hardware can do, and the least time of an epoch that follows for each model."""
    matmul, bandwidth = matmul_ceiling(machine), memory_bandwidth(machine)
    figures: Figures = {"matmul_tflops": matmul / 1e12, "bandwidth_gbs": bandwidth / 1e9}
    for model in MODELS:
        figures[f"{model}_floor_arithmetic_ms"] = 1e3 * 50_000 * flops_per_image(model) / matmul
        figures[f"{model}_floor_memory_ms"] = 1e3 * 50_000 * bytes_per_image(model) / bandwidth
    return figures


def alone(model: str, images: Labelled, machine: Machine, rounds: int) -> Figures:
    """Seconds of one epoch of one training: each step launched anew, as a CUDA graph, and compiled."""
    config, eager = TrainConfig(model=model_config(model)), replace(machine, graphs=False)
    ways = {"eager": epoch_of(images, config, eager)}
    if machine.device.type == "cuda":
        ways["graph"] = epoch_of(images, config, machine)
        ways["compiled, its own graphs"] = _compiled(images, config, eager, "reduce-overhead")
        ways["compiled, in our graph"] = _compiled(images, config, machine, "default")
    return {f"{model}, {name}": timed(epoch, rounds, machine.device) for name, epoch in ways.items()}


def _compiled(images: Labelled, config: TrainConfig, machine: Machine, mode: str) -> Callable[[], None]:
    state = TrainingState(build_model(config.model, classes=10, seed=config.seed), config, machine)
    whole: nn.Module = state.model
    state.model = torch.compile(whole, mode=mode)  # type: ignore[assignment]
    training = epochs(state, images, replace(config, epochs=2**31), machine, evaluate={})

    def epoch() -> None:
        next(training).wait()

    return epoch


def difference(model: str, images: Labelled, machine: Machine) -> Figures:
    """The largest difference between weights trained under a graph and eagerly, after two epochs."""
    weights = []
    for way in (machine, replace(machine, graphs=False)):
        config = TrainConfig(model=model_config(model), epochs=2)
        state = TrainingState(build_model(config.model, classes=10, seed=0), config, way)
        for pending in epochs(state, images, config, way, evaluate={}):
            pending.wait()
        weights.append(state.weights())
    pairs = ((weights[0][name], weights[1][name]) for name in weights[0])
    return {f"{model}_graph_minus_eager": max(float((ours - theirs).abs().max()) for ours, theirs in pairs)}


def together(model: str, images: Labelled, machine: Machine, rounds: int, counts: Sequence[int]) -> Figures:
    """Seconds per model-epoch of several trainings at a time: in turns, vectorised, as processes."""
    figures: Figures = {}
    on_cpu = images.to("cpu")
    for count in counts:
        configs = [
            TrainConfig(model=model_config(model), seed=seed, learning_rate=1e-3 * (1 + seed), epochs=2**31)
            for seed in range(count)
        ]
        turns = in_turns(images, configs, machine)
        figures[f"{model}, {count} in turns"] = timed(turns, rounds, machine.device) / count
        vectorised = Population(images, configs, machine).epoch
        figures[f"{model}, {count} vectorised"] = timed(vectorised, rounds, machine.device) / count
        if count > 1:
            taken = seconds_in_processes(on_cpu, configs[0], machine, count, rounds)
            figures[f"{model}, {count} processes"] = taken / count
    return figures


def textbook(model: str, images: Labelled, machine: Machine) -> Figures:
    """Seconds of an epoch of the textbook loop, after one of a tenth of the images that does not count."""
    from benchmarks.textbook import epoch_of as textbook_epoch

    config, device = TrainConfig(model=model_config(model)), str(machine.device)
    on_cpu = images.to("cpu")
    textbook_epoch(on_cpu.subset(torch.arange(len(images) // 10)), config, device)()
    return {f"{model}, textbook": seconds(textbook_epoch(on_cpu, config, device), machine.device)}


def accuracies(model: str, train: Labelled, test: Labelled, machine: Machine, seeds: int, passes: int) -> Figures:
    """Test accuracy (%) of `seeds` pairs of trainings, bf16 and float32, and their difference with its interval."""
    rate, decay = SETTINGS[model]
    configs = [
        TrainConfig(model=model_config(model), learning_rate=rate, weight_decay=decay, epochs=passes, seed=seed)
        for seed in range(seeds)
    ]
    reached = {}
    for precision in ("float32", "bf16"):
        way = replace(machine, precision=precision)
        states = [TrainingState(build_model(c.model, classes=10, seed=c.seed), c, way) for c in configs]
        trainings = [epochs(state, train, c, way, evaluate={}) for state, c in zip(states, configs, strict=True)]
        for _ in range(passes):
            for pending in [next(training) for training in trainings]:
                pending.wait()
        reached[precision] = [100 * evaluate(state.model, test)[1] for state in states]
    differences = np.subtract(reached["bf16"], reached["float32"])
    half = T_975[seeds - 1] * differences.std(ddof=1) / math.sqrt(seeds) if seeds > 1 else math.nan
    return {
        f"{model}_accuracies": reached,
        f"{model}_bf16_minus_float32": float(differences.mean()),
        f"{model}_bf16_minus_float32_interval": [float(differences.mean() - half), float(differences.mean() + half)],
    }


@contextmanager
def unpacked(dataset: Path) -> Iterator[Path]:
    """The image folder that `dataset` is, or that the archive `dataset` holds."""
    if dataset.is_dir():
        yield dataset
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(dataset) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def read(folder: Path, machine: Machine) -> dict[str, Labelled]:
    """The images of `folder` by part, on the device; read by torchvision alone."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    parts = {}
    for part in ("train", "test"):
        found = ImageFolder(folder / part, transform=pil_to_tensor)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            images = torch.stack(list(pool.map(lambda place, found=found: found[place][0], range(len(found)))))
        parts[part] = resident(Labelled(images, torch.tensor(found.targets)), machine)
    return parts


def commands(folder: Path, machine: Machine, trials: int, passes: int, retrained: int) -> Figures:
    """Seconds of whole commands, each with a new store; the decoded images are there already."""
    whole = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    asked = ["--dataset", str(folder), "--device", str(machine.device), "--precision", machine.precision]
    search = ["--trials", str(trials), "--epochs", str(passes), "--retrain-epochs", str(retrained)]
    figures = {}
    with tempfile.TemporaryDirectory() as home:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("STUDY_", "MLFLOW_"))}
        _call([*whole, "data", "--dataset", str(folder)], {**clean, "STUDY_HOME": home})
        for name, command in (("tune", ["tune", "--model", "cnn"]), ("reproduce", ["reproduce"])):
            own = Path(home, name)
            own.mkdir()
            (own / "data").symlink_to(Path(home, "data"))
            settings = {**clean, "STUDY_HOME": str(own)}
            figures[name] = seconds(lambda: _call([*whole, *command, *asked, *search], settings))  # noqa: B023
    return figures


def _call(command: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"study {command[3]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
