"""Running commands: started cold or by the fork server, observed, and stopped."""

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
"""Seconds between two checks of a victim."""


def surroundings(home: Path) -> dict[str, str]:
    """The environment of a command that keeps everything in `home` and imports this tree."""
    return environment(home, PYTHONPATH=str(ROOT))


class Victim:
    """A command that runs in its own session, with its output so far."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log: Path):
        self.process, self.pid, self.log, self.begun = process, process.pid, log, time.monotonic()
        self.before = len(self._log())

    def _log(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def output(self) -> str:
        """Its output so far."""
        return self._log()[self.before :]

    def ended(self, timeout: float = 0) -> bool:
        """Whether it ends within `timeout` seconds."""
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
        """All living processes of its session."""
        processes = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    processes.append(process)
        return processes

    def stop(self, number: int, whole: bool) -> None:
        """Sends a signal to the command, or (`whole`) to its process group."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if whole else os.kill)(self.pid, number)

    def clear(self) -> None:
        """Kills all processes of its session."""
        for process in self.session():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def start_cold(arguments: tuple[str, ...], home: Path, log: Path) -> Victim:
    """Starts the command in a new interpreter, as a user does."""
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
    """Starts the command from the fork server, which has imported everything."""
    with log.open("ab") as written, Path(os.devnull).open("rb") as nothing:
        streams = (nothing.fileno(), written.fileno(), written.fileno())
        return Victim(fork_server().start(arguments, surroundings(home), streams), log)
