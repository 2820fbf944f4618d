import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SUPERVISE = """
import signal, sys
from study.system.supervisor import supervise
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, also for the tests
sys.exit(supervise(sys.argv[1:], grace=1))
"""
STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
path = pathlib.Path(sys.argv[1])
path.with_suffix(".new").write_text(f"{os.getpid()} {other.pid}")
path.with_suffix(".new").rename(path)
time.sleep(600)
"""


def supervised(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SUPERVISE, sys.executable, "-c", *command], cwd=Path.cwd())


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGQUIT,)]
)
def test_a_signal_ends_a_stubborn_command_with_its_children(tmp_path: Path, signals: tuple[signal.Signals, ...]):
    process, started = supervised(STUBBORN, str(tmp_path / "ids")), tmp_path / "ids"
    while not started.exists():
        assert process.poll() is None
    ids = [int(number) for number in started.read_text().split()]
    assert all(map(psutil.pid_exists, ids))
    for number in signals:
        os.kill(process.pid, number)
    assert process.wait(60) == 0
    alive = [number for number in ids if psutil.pid_exists(number)]
    assert [number for number in alive if psutil.Process(number).status() != psutil.STATUS_ZOMBIE] == []


def test_the_exit_code_is_the_commands():
    assert supervised("raise SystemExit(3)").wait(60) == 3


def test_a_terminal_is_told_that_it_stopped_below_its_own_ctrl_c():
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, sys.executable, "-uc", "print('runs'); import time; time.sleep(600)"],
        stdout=theirs,
    )
    os.close(theirs)
    screen = b""
    while b"runs" not in screen:
        screen += os.read(ours, 1024)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert os.read(ours, 1024) == b"\r\nStopped.\r\n"
    os.close(ours)
