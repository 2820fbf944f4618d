"""Shared measurements: interleaved timing, ceilings of the hardware, work of a training; needs only torch."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from study.config import TrainConfig, model_config
from study.device import Machine
from study.images import Labelled
from study.models import build_model
from study.provenance import git_commit
from study.training import TrainingState, epochs


def seconds(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds that `work` takes, including what it queued on `device`."""
    start = time.perf_counter()
    work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | None = None
) -> dict[str, float]:
    """Median seconds of each of `works`, timed in turn (A B A B …), so that drift of the machine affects all alike.

    Each is run once before, uncounted.
    """
    durations: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            duration = seconds(work, device)
            if turn:
                durations[name].append(duration)
    return {name: statistics.median(values) for name, values in durations.items()}


def matmul_ceiling(machine: Machine, size: int = 2048, rounds: int = 20) -> float:
    """Floating-point operations per second of a large matrix product, in the machine's precision.

    The best of `rounds`: noise only slows a product down.
    """
    kind = torch.bfloat16 if machine.precision == "bf16" else torch.float32
    size *= 4 if machine.device.type == "cuda" else 1
    left, right = (torch.randn(size, size, device=machine.device).to(kind) for _ in range(2))
    best = min(seconds(lambda: left @ right, machine.device) for _ in range(rounds))
    return 2 * size**3 / best


def memory_bandwidth(machine: Machine, size: int = 2**28, rounds: int = 10) -> float:
    """Bytes per second, read and written, of copying a large array within the device's memory; best of `rounds`."""
    size *= 8 if machine.device.type == "cuda" else 1
    source = torch.zeros(size, dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    best = min(seconds(lambda: target.copy_(source), machine.device) for _ in range(rounds))
    return 2 * size / best


def epoch_of(images: Labelled, config: TrainConfig, machine: Machine) -> Callable[[], None]:
    """A function that trains one more epoch on `images` at each call, and waits for its end."""
    state = TrainingState(build_model(config.model, classes=10, seed=config.seed), config, machine)
    training = epochs(state, images, replace(config, epochs=2**31), machine, evaluate={})

    def epoch() -> None:
        next(training).wait()

    return epoch


def flops_per_image(model: str) -> float:
    """Floating-point operations per training image: products and convolutions, forward and backward."""
    net = build_model(model_config(model), classes=10, seed=0)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / 2


class _Traffic(TorchDispatchMode):
    """Sums the bytes of the inputs and outputs of every call, except views."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = call(*args, **(kwargs or {}))
        if not call.is_view:
            touched = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in touched)
        return result


def bytes_per_image(model: str, batch: int = 200) -> float:
    """Bytes moved per training image in bf16, where each call reads its inputs from memory and writes its outputs.

    Fused calls and caches move less. The weights count once per batch.
    """
    net = build_model(model_config(model), classes=10, seed=0).to(memory_format=torch.channels_last)
    images = torch.zeros(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64)
    with _Traffic() as traffic:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            logits = net(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    return traffic.bytes / batch


def surroundings(machine: Machine) -> dict[str, Any]:
    """Context that each figure needs: hardware, precision, versions and commit."""
    return {**machine.params(), "cpu": _cpu(), "torch": str(torch.__version__), "commit": git_commit()}


def _cpu() -> str:
    cpu: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if cpu.get(name)]
    return f"{cpu.get('cpu_name', platform.processor())} ({units[0] if units else 'no vector units known'})"
