"""Device, precision and number of threads: choosing them, and explaining their failures."""

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
from study.errors import OutOfMemory, StudyError, first_line, require, require_known, unknown
from study.system.torchrun import local_rank

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
    """The device, precision and number of threads of a run."""

    device: torch.device
    precision: str
    threads: int
    remark: str = ""
    """Why a GPU that seems to be present is not used."""
    gpu: str = ""
    """The name of a GPU of another machine; that of this one's is known to torch."""
    world_size: int = 1
    """Number of processes that share each training; see `study.distributed`."""
    workers: int = 1
    """Number of processes that train at a time."""
    graphs: bool = True
    """Whether a GPU's training step is captured as a CUDA graph; False for comparisons only."""

    def __str__(self) -> str:
        name = self._gpu_name() or f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        processes = f", {self.world_size} processes" if self.world_size > 1 else ""
        remark = f", no GPU: {self.remark}" if self.remark else ""
        return f"{self.device} ({name}), {self.precision}{processes}{remark}"

    def autocast(self) -> AbstractContextManager[None]:
        """Context for bf16 convolutions and matrix products if that is the precision; weights and sums stay float32."""
        # No weight is used twice in a step; and a cached copy of one could not be captured in a CUDA graph.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)

    def shared_by(self, workers: int) -> "Machine":
        """The machine of each of several workers, with its share of the threads."""
        return replace(self, threads=max(1, self.threads // workers), workers=workers)

    def params(self) -> dict[str, str | int]:
        """Params of a run: equal weights need equal device, precision, and number of threads and processes."""
        return {
            "device": str(self.device),
            "gpu": self._gpu_name(),
            "precision": self.precision,
            "threads": self.threads,
            "world_size": self.world_size,
        }

    def _gpu_name(self) -> str:
        return self.gpu or (torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "")


def prepare(device: str = "auto", precision: str = "auto", threads: int = 0) -> Machine:
    """Chooses device, precision and threads, and configures torch for them.

    Subnormal numbers are flushed to zero: the weights of dead filters decay to 1e-40, and a convolution over
    them takes 20 to 50 times longer on a CPU.

    Args:
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision: ``"auto"`` (bf16 if the hardware has units for it), ``"float32"`` or ``"bf16"``.
        threads: CPU threads; 0 keeps torch's default.

    Raises:
        StudyError: for an unavailable device or an unknown precision.
    """
    chosen, remark = _device(device)
    require_known("precision", precision, PRECISIONS)
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
    """Whether `device` multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Older builds of torch lack this call: fall back to float32.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _keep_freed_memory() -> None:
    """Has glibc's malloc keep freed activations for reuse, instead of returning them to the kernel at each step.

    A CNN training step took 61 instead of 79 ms with it (bf16, 2 cores). Blocks over 32 MiB, such as data sets,
    are still returned, since they would fragment the heap.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        trim_threshold, mmap_threshold = -1, -3  # from malloc.h
        mallopt(mmap_threshold, 32 * 2**20)
        mallopt(trim_threshold, 2**31 - 1)


def release_freed_memory() -> None:
    """Returns the memory that glibc keeps (see `prepare`) to the system, after training."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def release_device_memory() -> None:
    """Frees the GPU memory of a failed training, whose tensors the traceback may still reference."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _device(name: str) -> tuple[torch.device, str]:
    """The device; for `auto` also why a GPU that is present cannot be used."""
    count, complaint = _gpus()
    choices = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if name not in choices:
        if name.startswith("cuda") and not count:
            reason = f" ({complaint})" if complaint else ""
            raise StudyError(
                f"Device {name!r} was asked for, but torch finds no usable GPU{reason}: choose cpu or auto."
            )
        raise unknown("device", name, choices)
    if name == "auto" and not count:
        return torch.device("cpu"), complaint
    if name not in ("auto", "cuda"):
        return torch.device(name), ""
    require(local_rank() < count, f"torchrun has started more processes than this machine has GPUs ({count}).")
    # With its number, which is recorded, and which torch asks for where it makes a device the current one.
    return torch.device("cuda", local_rank()), ""


@cache
def _gpus() -> tuple[int, str]:
    """Number of usable GPUs, and torch's warning about them, such as an outdated driver; cached."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return count, str(caught[0].message).split(". ")[0] if caught else ""


@contextmanager
def failures_explained(machine: Machine, *remedies: str) -> Iterator[None]:
    """Explains out-of-memory and GPU failures within the block in a sentence that says what to do.

    Args:
        machine: the machine of the computation.
        remedies: suggestions that need less memory, besides the general ones.

    Raises:
        OutOfMemory: if an allocation failed.
        StudyError: if the GPU stopped working, or this build of torch does not support it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        explained = _explanation(error, machine, remedies)
        if explained is None:
            raise
        raise explained from None


def _explanation(error: BaseException, machine: Machine, remedies: Sequence[str]) -> StudyError | None:
    message = first_line(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in message for sign in NO_MEMORY):
        # The first sentences name the requested and the total size.
        requested = ". ".join(message.split("DefaultCPUAllocator: ")[-1].rstrip(".").split(". ")[:3])
        general = ["end other programs that use it"]
        if machine.device.type == "cuda":
            general.append("choose --device cpu")
        return OutOfMemory(f"{machine.device} has no memory left ({requested}): {', or '.join([*remedies, *general])}.")
    if "no kernel image" in message:
        return StudyError(
            f"torch {torch.__version__} has no code for the GPU {machine.device}: choose --device cpu, or install a "
            "build of torch that has."
        )
    if isinstance(error, torch.AcceleratorError) and not any(sign in message for sign in BUGS):
        return StudyError(
            f"{machine.device} stopped working ({message}): check it with nvidia-smi; the same command continues."
        )
    return None
