"""What the benchmarks share: timing in turn, the machine's own ceiling, a table and the same figures as JSON."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from study.device import Machine
from study.provenance import git_commit

JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


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


def surroundings(machine: Machine) -> dict[str, Any]:
    """What a figure is worth nothing without: hardware, precision, versions, commit."""
    return {**machine.params(), "cpu": _cpu(), "torch": str(torch.__version__), "commit": git_commit()}


def _cpu() -> str:
    cpu: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if cpu.get(name)]
    return f"{cpu.get('cpu_name', platform.processor())} ({units[0] if units else 'no vector units known'})"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table."""
    table = Table(*columns, title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    Console(width=None if Console().is_terminal else 140, highlight=False).print(table)


def conclude(figures: Mapping[str, Any], file: Path | None) -> None:
    """Prints the figures that the benchmark is for, and writes them to `file` where one is named."""
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"{name}: {value:.4g}")
        elif not isinstance(value, list | dict):
            print(f"{name}: {value}")
    if file:
        file.write_text(json.dumps(figures, indent=2) + "\n")
