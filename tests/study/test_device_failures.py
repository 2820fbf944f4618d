import pytest
import torch

from study.device import Machine
from study.device_failures import failures_explained
from study.errors import OutOfMemory, StudyError

GPU = Machine(torch.device("cuda:0"), "bf16", 1)
CPU = Machine(torch.device("cpu"), "float32", 1)
FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is "
    "free. Process 1 has 78.00 GiB memory in use. Of the allocated memory …"
)


def said(error: BaseException, machine: Machine = GPU, *mends: str) -> str:
    with pytest.raises(StudyError) as raised, failures_explained(machine, *mends):
        raise error
    return str(raised.value)


def test_a_full_gpu_is_told_with_how_much_was_asked_for_and_what_helps():
    text = said(torch.OutOfMemoryError(FULL), GPU, "run fewer trials at a time with --workers")
    assert text == (
        "cuda:0 has no memory left (CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
        "79.10 GiB of which 1.00 GiB is free): run fewer trials at a time with --workers, or end other programs that "
        "use it, or choose --device cpu."
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(FULL),
        MemoryError(),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
    ids=lambda error: str(error)[:30] or type(error).__name__,
)
def test_every_kind_of_missing_memory_is_out_of_memory(error: BaseException):
    with pytest.raises(OutOfMemory, match="no memory left"), failures_explained(GPU):
        raise error


def test_what_a_cpu_says_when_its_memory_is_gone_is_out_of_memory():
    ending = r"^cpu has no memory left .*: end other programs that use it\.$"
    with pytest.raises(OutOfMemory, match=ending), failures_explained(CPU):
        torch.empty(2**50)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: no CUDA-capable device is detected",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    ],
)
def test_a_gpu_that_disappears_is_told_in_one_sentence(message: str):
    text = said(torch.AcceleratorError(f"{message}\nSearch for `cudaError' in the documentation\nmore lines"))
    assert text == f"cuda:0 stopped working ({message}): see what nvidia-smi says of it; the same command continues."


def test_a_build_of_torch_without_code_for_the_gpu_is_told_in_one_sentence():
    text = said(torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nmore"))
    assert text.startswith(f"torch {torch.__version__} has no code for the GPU cuda:0: choose --device cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        ValueError("a bug"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_stays_one(error: BaseException):
    with pytest.raises(type(error)) as raised, failures_explained(GPU):
        raise error
    assert raised.value is error
