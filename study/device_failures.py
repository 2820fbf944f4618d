"""What torch raises when memory or a GPU gives out, as sentences that say what to do."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from study.device import Machine
from study.errors import OutOfMemory, StudyError, first_line

NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",
)
"""What torch says of memory in errors that have no type of their own."""
BUGS = ("assert", "illegal", "misaligned", "invalid", "captur")
"""What a GPU says of errors in what it was told to do, rather than of its own."""


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


def release_device_memory() -> None:
    """Gives back what a failed training had on a GPU; its tensors may hang on the traceback of the failure."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
