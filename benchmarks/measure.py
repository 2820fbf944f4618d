"""What the benchmarks share: timing in turn, the machine's own ceilings, the work of a training; needs only torch."""

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
    """How long `work` takes, with what it left queued on `device`."""
    start = time.perf_counter()
    work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | None = None
) -> dict[str, float]:
    """The median seconds of each of `works`, done in turn A B A B …, so that a drift of the machine meets all.

    Each is done once before, uncounted.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(work, device)
            if turn:
                taken[name].append(spent)
    return {name: statistics.median(values) for name, values in taken.items()}


def matmul_ceiling(machine: Machine, size: int = 2048, rounds: int = 20) -> float:
    """The floating-point operations per second of the machine's best matrix product, in its precision.

    The best of `rounds`, since nothing makes a product faster than the hardware is.
    """
    kind = torch.bfloat16 if machine.precision == "bf16" else torch.float32
    size *= 4 if machine.device.type == "cuda" else 1
    left, right = (torch.randn(size, size, device=machine.device).to(kind) for _ in range(2))
    best = min(seconds(lambda: left @ right, machine.device) for _ in range(rounds))
    return 2 * size**3 / best


def memory_bandwidth(machine: Machine, size: int = 2**28, rounds: int = 10) -> float:
    """The bytes per second, read and written, of the best copy of a large array within the device's memory."""
    size *= 8 if machine.device.type == "cuda" else 1
    source = torch.zeros(size, dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    best = min(seconds(lambda: target.copy_(source), machine.device) for _ in range(rounds))
    return 2 * size / best


def epoch_of(images: Labelled, config: TrainConfig, machine: Machine) -> Callable[[], None]:
    """What trains one more epoch on `images`, to its end, each time it is called."""
    state = TrainingState(build_model(config.model, classes=10, seed=config.seed), config, machine)
    training = epochs(state, images, replace(config, epochs=2**31), machine, evaluate={})

    def epoch() -> None:
        next(training).wait()

    return epoch


def flops_per_image(model: str) -> float:
    """Floating-point operations of training on one image: products and convolutions, forward and backward."""
    net = build_model(model_config(model), classes=10, seed=0)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / 2


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of what every call reads and makes; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = call(*args, **(kwargs or {}))
        if not call.is_view:
            touched = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in touched)
        return made


def bytes_per_image(model: str, batch: int = 200) -> float:
    """Bytes that training on one image moves in bf16 where each call reads what it needs and writes what it makes.

    Fused calls move less; caches keep some of it from the memory. The weights count once a batch.
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
    """What a figure is worth nothing without: hardware, precision, versions, commit."""
    return {**machine.params(), "cpu": _cpu(), "torch": str(torch.__version__), "commit": git_commit()}


def _cpu() -> str:
    cpu: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if cpu.get(name)]
    return f"{cpu.get('cpu_name', platform.processor())} ({units[0] if units else 'no vector units known'})"
