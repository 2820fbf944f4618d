"""Commands under way: started cold or warm, watched, and stopped."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.support.fork_server import ROOT, STUDY, Forked, fork_server
from tests.support.process import environment, workers_of

GLANCE = 0.01
"""Seconds between two looks at a victim."""


def surroundings(home: Path) -> dict[str, str]:
    """The environment of a command that keeps everything in `home` and imports this tree."""
    return environment(home, PYTHONPATH=str(ROOT))


class Victim:
    """A command under way in a session of its own, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log: Path):
        self.process, self.pid, self.log, self.begun = process, process.pid, log, time.monotonic()
        self.before = len(self._log())

    def _log(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def said(self) -> str:
        """All that it has written."""
        return self._log()[self.before :]

    def ended(self, timeout: float = 0) -> bool:
        """Whether it has ended, within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        return self.code is not None

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.returncode

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
    return Victim(process, log)


def start_forked(arguments: tuple[str, ...], home: Path, log: Path) -> Victim:
    """The command, forked from a server that has imported everything."""
    with log.open("ab") as written, Path(os.devnull).open("rb") as nothing:
        streams = (nothing.fileno(), written.fileno(), written.fileno())
        return Victim(fork_server().start(arguments, surroundings(home), streams), log)
