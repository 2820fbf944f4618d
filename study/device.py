"""Device, precision and number of threads: choosing them, and explaining what fails on them."""

import ctypes
import gc
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch

from study.config import PRECISIONS
from study.errors import OutOfMemory, StudyError, first_line, unknown

NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",
)
"""Texts of out-of-memory errors that torch raises as plain RuntimeError."""
BUGS = ("assert", "illegal", "misaligned", "invalid", "captur")
"""Words of CUDA errors that a bug in the program causes, rather than a GPU that fails."""


@dataclass(frozen=True)
class Machine:
    """The device, precision and number of threads that a run computes with."""

    device: torch.device
    precision: str
    threads: int
    remark: str = ""
    """Why it is not the GPU that there seems to be."""
    graphs: bool = True
    """Whether a GPU's training step is captured as a CUDA graph; only a comparison wants it otherwise."""

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{self.threads} threads"
        return f"{self.device} ({name}), {self.precision}" + (f", no GPU: {self.remark}" if self.remark else "")

    def autocast(self) -> AbstractContextManager[None]:
        """Runs convolutions and products in bf16 where that is the precision; weights and sums stay float32."""
        # No weight is used twice in a step; and a cached copy of one could not be captured in a CUDA graph.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)

    def shared_by(self, workers: int) -> "Machine":
        """The same machine with each worker's share of the threads."""
        return replace(self, threads=max(1, self.threads // workers))

    def params(self) -> dict[str, str | int]:
        """What is recorded on a run: equal weights need an equal device, precision and number of threads."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return {"device": str(self.device), "gpu": name, "precision": self.precision, "threads": self.threads}


def prepare(device: str = "auto", precision: str = "auto", threads: int = 0) -> Machine:
    """Chooses the machine and sets the process up for it.

    Subnormal numbers are flushed to zero: the weights of dead filters decay to 1e-40, and a convolution over
    them takes 20 to 50 times longer on a CPU.

    Args:
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision: ``"auto"`` (bf16 where the hardware has units for it), ``"float32"`` or ``"bf16"``.
        threads: CPU threads; 0 leaves torch's choice.

    Raises:
        StudyError: for a device that is not there, or an unknown precision.
    """
    chosen, remark = _device(device)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "auto":
        precision = "bf16" if has_bf16_units(chosen) else "float32"
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    # By default cuDNN rounds float32 convolutions to 10 bits of mantissa.
    torch.backends.cudnn.allow_tf32 = False
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    _keep_freed_memory()
    return Machine(chosen, precision, torch.get_num_threads(), remark)


def has_bf16_units(device: torch.device) -> bool:
    """Whether `device` multiplies bf16 matrices in hardware rather than by emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Builds of torch without this call cannot say what the processor has, so float32 is the safe answer.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _keep_freed_memory() -> None:
    """Has glibc reuse freed activations, where by default each step's are fetched from and returned to the kernel.

    A CNN training step took 61 instead of 79 ms with it (bf16, 2 cores). Blocks over 32 MiB, such as data sets,
    still go back: among the small ones they would leave holes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        trim_threshold, mmap_threshold = -1, -3  # from malloc.h
        mallopt(mmap_threshold, 32 * 2**20)
        mallopt(trim_threshold, 2**31 - 1)


def release_freed_memory() -> None:
    """Gives back what `prepare` has glibc keep: for when training is over and something else needs memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def release_device_memory() -> None:
    """Gives back what a failed training had on a GPU; its tensors may hang on the traceback of the failure."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _device(name: str) -> tuple[torch.device, str]:
    """The device, and where `auto` had to do without a GPU that is there, why."""
    count, complaint = _gpus()
    choices = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if name not in choices:
        if name.startswith("cuda") and not count:
            said = f" ({complaint})" if complaint else ""
            raise StudyError(f"Device {name!r} was asked for, but torch finds no usable GPU{said}: choose cpu or auto.")
        raise unknown("device", name, choices)
    if name == "auto":
        return (torch.device("cuda", 0), "") if count else (torch.device("cpu"), complaint)
    # With its number, which is recorded, and which torch asks for where it makes a device the current one.
    return torch.device("cuda", 0) if name == "cuda" else torch.device(name), ""


@cache
def _gpus() -> tuple[int, str]:
    """How many GPUs torch can use, and what it complains of, such as a driver that is too old for it; once only."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return count, str(said[0].message).split(". ")[0] if said else ""


@contextmanager
def failures_explained(machine: Machine, *mends: str) -> Iterator[None]:
    """Says in a sentence what went wrong within the block, where it was the memory or the GPU.

    Args:
        machine: what computes.
        mends: what would need less memory, beside what always does.

    Raises:
        OutOfMemory: where an allocation failed.
        StudyError: where the GPU stopped working, or this build of torch has no code for it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        explained = _explanation(error, machine, mends)
        if explained is None:
            raise
        raise explained from None


def _explanation(error: BaseException, machine: Machine, mends: Sequence[str]) -> StudyError | None:
    said = first_line(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in said for sign in NO_MEMORY):
        # The first sentences say how much was asked for, and of how much.
        asked = ". ".join(said.split("DefaultCPUAllocator: ")[-1].rstrip(".").split(". ")[:3])
        always = ["end other programs that use it"]
        if machine.device.type == "cuda":
            always.append("choose --device cpu")
        return OutOfMemory(f"{machine.device} has no memory left ({asked}): {', or '.join([*mends, *always])}.")
    if "no kernel image" in said:
        return StudyError(
            f"torch {torch.__version__} has no code for the GPU {machine.device}: choose --device cpu, or install a "
            "build of torch that has."
        )
    if isinstance(error, torch.AcceleratorError) and not any(sign in said for sign in BUGS):
        return StudyError(
            f"{machine.device} stopped working ({said}): see what nvidia-smi says of it; the same command continues."
        )
    return None
