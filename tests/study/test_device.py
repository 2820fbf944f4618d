import warnings
from collections.abc import Iterator

import pytest
import torch

from study import device
from study.device import Machine, Stream, prepare
from study.errors import StudyError

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
    assert str(prepare("cpu", "float32", 1)) == "cpu (1 threads), float32"


def test_a_cpus_stream_works_at_once():
    stream = Stream(torch.device("cpu"))
    with stream.current():
        before, after = stream.record_event(), stream.record_event()
    stream.synchronize()
    assert stream.elapsed_seconds(before, after) >= 0
    assert stream.elapsed_seconds(1.0, 3.5) == 2.5


def test_workers_share_the_threads_and_nothing_else():
    machine = Machine(torch.device("cpu"), "bf16", 5, remark="of it")
    shared = machine.shared_by(2)
    assert shared == Machine(torch.device("cpu"), "bf16", 2, remark="of it")
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
