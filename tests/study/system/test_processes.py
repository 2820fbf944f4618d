import mmap
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from study.errors import StudyError
from study.system import processes
from study.system.processes import is_gone, this_process, usage

SAYS_ITSELF = (
    "import time; from study.system.processes import this_process; print(this_process(), flush=True); time.sleep(600)"
)


@pytest.fixture(scope="module")
def other():
    """Another process, and how it calls itself."""
    with subprocess.Popen([sys.executable, "-c", SAYS_ITSELF], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        yield started, started.stdout.readline().strip()
        started.kill()


def test_a_process_that_lives_is_not_gone_and_one_that_ended_is(other):
    started, name = other
    assert name.split()[:2] == [socket.gethostname(), str(started.pid)]
    assert not is_gone(this_process())
    assert not is_gone(name)
    os.kill(started.pid, signal.SIGSTOP)
    assert not is_gone(name)
    started.kill()
    while psutil.Process(started.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert is_gone(name), "it ended, though nobody asked yet how"
    started.wait()
    assert is_gone(name)


def test_an_id_that_was_given_again_is_another_process():
    host, number, ids, start = this_process().split()
    assert is_gone(f"{host} {number} {ids} {int(start) - 1}")


def test_no_clock_says_whether_a_process_lives(monkeypatch: pytest.MonkeyPatch):
    before = this_process()
    for at in (0.0, 1e10):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        monkeypatch.setattr(psutil, "boot_time", lambda at=at: at)
        assert this_process() == before
        assert not is_gone(before)


def test_all_that_ran_before_the_machine_started_again_is_gone(tmp_path, monkeypatch: pytest.MonkeyPatch):
    before = this_process()
    (tmp_path / "boot_id").write_text("another start\n".replace(" ", "-"))
    monkeypatch.setattr(processes, "BOOT", tmp_path / "boot_id")
    assert is_gone(before)
    assert not is_gone(this_process())


def test_of_another_host_or_container_nothing_is_known_but_a_new_name_of_this_one_is_no_matter(
    monkeypatch: pytest.MonkeyPatch,
):
    host, number, ids, start = this_process().split()
    assert not is_gone(f"elsewhere 1 another-boot/pid:[1] {start}")
    assert not is_gone(f"elsewhere 1 {ids.partition('/')[0]}/pid:[1] {start}")
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
    assert not is_gone(f"{host} {number} {ids} {start}")
    assert is_gone(f"{host} {number} {ids} {int(start) - 1}")


def test_where_the_kernel_does_not_name_its_start_the_host_and_the_time_of_creation_do(
    other, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "BOOT", tmp_path / "missing")
    host, number, ids, _ = this_process().split()
    assert ids == host
    assert not is_gone(this_process())
    assert is_gone(f"{host} {number} {ids} 1.0")


def test_a_name_with_a_time_of_day_is_gone_only_where_no_process_has_its_id():
    assert not is_gone(f"{socket.gethostname()} {os.getpid()} 1700000000.5")
    assert is_gone(f"{socket.gethostname()} {2**22 + 1} 1700000000.5")
    assert not is_gone("elsewhere 1 1700000000.5")


def test_the_usage_is_of_this_process():
    before = usage()
    # Not a bytearray, which may take memory that the process holds already.
    with mmap.mmap(-1, 50 * 2**20) as held:
        held.write(b"x" * len(held))
        after = usage()
    assert after["system/memory_megabytes"] > before["system/memory_megabytes"] + 40
    assert after["system/processor_seconds"] >= before["system/processor_seconds"] > 0


def test_who_starts_under_the_name_of_a_worker_replaces_it_wherever_it_was(monkeypatch: pytest.MonkeyPatch):
    elsewhere = "elsewhere 1 another-boot/pid:[1] 345"
    monkeypatch.setenv("STUDY_WORKER", "job-7/3")
    assert this_process().split()[4:] == ["job-7/3"]
    assert is_gone(f"{elsewhere} job-7/3")
    assert not is_gone(f"{elsewhere} job-7/4")
    assert not is_gone(elsewhere)
    # The workers of a pool share the name of their parent.
    assert not is_gone(this_process())
    monkeypatch.delenv("STUDY_WORKER")
    assert not is_gone(f"{elsewhere} job-7/3")
    assert not is_gone(elsewhere)


def test_a_name_of_several_words_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_WORKER", "job 7")
    with pytest.raises(StudyError, match="STUDY_WORKER is 'job 7'"):
        this_process()
