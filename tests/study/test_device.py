import warnings
from collections.abc import Iterator

import pytest
import torch

from study import device
from study.device import Machine, failures_explained, prepare
from study.errors import OutOfMemory, StudyError

GPU = Machine(torch.device("cuda:0"), "bf16", 1)
CPU = Machine(torch.device("cpu"), "float32", 1)
FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is "
    "free. Process 1 has 78.00 GiB memory in use. Of the allocated memory …"
)
TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version."
)


@pytest.fixture
def old_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch as it is where the driver is too old for it: it warns, and finds nothing."""

    def is_available() -> bool:
        warnings.warn(TOO_OLD, UserWarning, stacklevel=2)
        return False

    device._gpus.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    yield
    device._gpus.cache_clear()


def test_a_driver_that_is_too_old_is_told_where_a_gpu_is_asked_for(old_driver: None):
    with pytest.raises(StudyError) as raised:
        prepare("cuda")
    assert "is too old (found version 11040)" in str(raised.value)
    assert "choose cpu or auto" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_machine_that_does_without_its_gpu_says_why_in_its_first_line(old_driver: None):
    machine = prepare("auto", "float32", 1)
    assert machine.device.type == "cpu"
    assert str(machine).endswith(
        "no GPU: CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)"
    )


def test_the_cpu_that_was_asked_for_needs_no_remark(old_driver: None):
    assert str(prepare("cpu", "float32", 1)) == "cpu (1 thread), float32"


def test_workers_share_the_threads_and_know_how_many_they_are():
    machine = Machine(torch.device("cpu"), "bf16", 5, remark="of it")
    shared = machine.shared_by(2)
    assert shared == Machine(torch.device("cpu"), "bf16", 2, remark="of it", workers=2)
    assert machine.shared_by(9).threads == 1


@pytest.mark.parametrize(("asked", "number"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_is_known_by_its_number(asked: str, number: int, monkeypatch: pytest.MonkeyPatch):
    made_current = []
    monkeypatch.setattr(device, "_gpus", lambda: (2, ""))
    # What torch would hand to the driver, which is not there.
    monkeypatch.setattr(torch._C, "_cuda_setDevice", made_current.append, raising=False)
    machine = prepare(asked, "float32", 1)
    assert machine.device == torch.device("cuda", number)
    assert made_current == [number]


def message_of(error: BaseException, machine: Machine = GPU, *remedies: str) -> str:
    with pytest.raises(StudyError) as raised, failures_explained(machine, *remedies):
        raise error
    return str(raised.value)


def test_a_full_gpu_is_told_with_how_much_was_asked_for_and_what_helps():
    text = message_of(torch.OutOfMemoryError(FULL), GPU, "run fewer trials at a time with --workers")
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
    text = message_of(torch.AcceleratorError(f"{message}\nSearch for `cudaError' in the documentation\nmore lines"))
    assert text == f"cuda:0 stopped working ({message}): check it with nvidia-smi; the same command continues."


def test_a_build_of_torch_without_code_for_the_gpu_is_told_in_one_sentence():
    text = message_of(
        torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nmore")
    )
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
