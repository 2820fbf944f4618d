"""Commands under way: started cold or warm, watched, and stopped."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.process import STUDY, environment, workers_of

ROOT = Path(__file__).parents[2]
GLANCE = 0.01
"""Seconds between two looks at a victim."""


def surroundings(home: Path) -> dict[str, str]:
    """The environment of a command that keeps everything in `home` and imports this tree."""
    return environment(home, PYTHONPATH=str(ROOT))


class Victim:
    """A command under way in a session of its own, and what it has said so far."""

    def __init__(self, pid: int, log: Path, ended: Callable[[float], int | None]):
        self.pid, self.log, self.begun, self.code = pid, log, time.monotonic(), None
        self.before = len(self._log())
        self._ended = ended

    def _log(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def said(self) -> str:
        """All that it has written."""
        return self._log()[self.before :]

    def ended(self, timeout: float = 0) -> bool:
        """Whether it has ended, within so many seconds."""
        if self.code is None:
            self.code = self._ended(timeout)
        return self.code is not None

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return workers_of(psutil.Process(self.pid))
        return []

    def session(self) -> list[psutil.Process]:
        """All living processes that came of it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stop(self, number: int, whole: bool) -> None:
        """Sends it a signal, or to all processes of its group as well."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if whole else os.kill)(self.pid, number)

    def clear(self) -> None:
        """Leaves nothing of it."""
        for process in self.session():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def start_cold(arguments: tuple[str, ...], home: Path, log: Path) -> Victim:
    """The command as a user starts it."""
    with log.open("ab") as written:
        process = subprocess.Popen(
            [STUDY, *arguments],
            env=surroundings(home),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ended(timeout: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout)
        return None

    return Victim(process.pid, log, ended)


class Zygote:
    """Starts commands that need not import anything; one at a time."""

    def __init__(self) -> None:
        # No buffer between the pipe and `select`.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT,
            env=surroundings(ROOT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().decode().strip()

    def start(self, arguments: tuple[str, ...], home: Path, log: Path) -> Victim:
        """The command, forked."""
        assert self.process.stdin
        order = {"arguments": list(arguments), "surroundings": surroundings(home), "log": str(log)}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        return Victim(int(self._line()), log, self._ended)

    def _ended(self, timeout: float) -> int | None:
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        return int(self._line()) if ready else None

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate()
