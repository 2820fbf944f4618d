"""Worker processes for several trials of a search at a time, each with its share of the threads; one display."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, cast

from pipelines.session.display import Bar, Display
from pipelines.trials.recovery import Recovery
from pipelines.trials.runner import EndedTrial
from pipelines.trials.worker import STOP_TIMEOUT, Assignment, work
from study.errors import StoreFault, StudyError
from study.system import interruption

MAX_KILLED = 3
"""Maximum number of killed workers that are replaced while no trial ends; one more ends the search, since the cause
persists."""
POLL = 1.0
"""Seconds between two checks for workers that hang."""
START_TIMEOUT = 600.0
"""Seconds that a worker has to start and to load the images, however short the timeout of a trial."""


def start_context() -> ForkServerContext | SpawnContext:
    """The start method of workers: on Linux forked from a server that has their imports, else spawned.

    On macOS system libraries that torch loads do not survive a fork.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["pipelines.trials.preload"])
    return context


@dataclass(eq=False)
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    bar: Bar | None = None
    shown: ExitStack = field(default_factory=ExitStack)
    trial: int | None = None
    """The number of the trial that it trains."""
    idle: float = 0.0
    """Seconds since it was started, or began an epoch."""
    is_waiting: bool = False
    """Whether it waits for others to end the last trials."""


class WorkerPool:
    """Starts, watches and replaces the workers of one search."""

    def __init__(
        self, assignment: Assignment, display: Display, on_end: Callable[[EndedTrial], None], recovery: Recovery
    ):
        self.assignment, self.display, self.on_end, self.recovery = assignment, display, on_end, recovery
        self.context = start_context()
        self.workers: list[_Worker] = []
        self.killed = 0

    def run(self, count: int) -> None:
        """Runs trials in `count` processes until the search has its total.

        Raises:
            StudyError: for an error of a worker that the user can fix, or where too many of them are killed.
            RuntimeError: for any other error of a worker, with its traceback.
            KeyboardInterrupt: after every worker has closed its trial.
        """
        try:
            for number in range(count):
                interruption.check()
                self._start(number + 1)
            while self.workers:
                interruption.check()
                for ended in self._listen():
                    self._replace(ended)
                self._stop_hung()
        finally:
            self._stop()

    def _start(self, number: int) -> None:
        ours, theirs = self.context.Pipe(duplex=False)
        # The environment as it is now: the fork server keeps that of its own start.
        arguments = (self.assignment, theirs, dict(os.environ))
        process = self.context.Process(target=work, args=arguments, name=f"worker {number}")
        # Before signals are blocked: its start would unblock them.
        resource_tracker.ensure_running()
        # Workers and their fork server inherit the blocked signals: a terminal signals all processes, but a worker
        # must listen to its parent alone, and only once it is ready.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, interruption.SIGNALS)
        try:
            process.start()
            self.workers.append(_Worker(number, process, ours))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # So that the pipe ends with the worker: it stays open as long as any process holds this end.
            theirs.close()

    def _listen(self) -> list[_Worker]:
        """Takes the messages there are, waiting a while for the first; returns the workers that ended."""
        by_pipe = {worker.pipe: worker for worker in self.workers}
        ended, started = [], time.monotonic()
        ready = connection.wait(list(by_pipe), POLL)
        # At most the time limit of the wait: after all processes were suspended together, none of them hangs.
        waited = min(time.monotonic() - started, POLL)
        for worker in self.workers:
            worker.idle += waited
        for pipe in ready:
            worker = by_pipe[cast(Connection, pipe)]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError, pickle.UnpicklingError):  # it was killed, perhaps in the middle of a message
                worker.process.join()
                worker.shown.close()
                self.workers.remove(worker)
                ended.append(worker)
            else:
                self._handle(worker, *message)
        return ended

    def _handle(self, worker: _Worker, kind: str, *content: Any) -> None:
        if kind == "say":
            self.display.say(*content)
        elif kind == "turn":
            worker.trial, worker.idle = content[0], 0.0
            worker.is_waiting = worker.trial is None
        elif kind == "ended":
            self.killed = 0
            self.on_end(*content)
        elif kind == "open":
            worker.bar = worker.shown.enter_context(self.display.bar(*content))
        elif kind == "change" and worker.bar:
            worker.bar.update(**content[0])
        elif kind == "close":
            worker.shown.close()
        elif kind == "failed":
            text, is_fixable = content
            raise StudyError(text) if is_fixable else RuntimeError(f"Worker {worker.number} crashed:\n{text}")

    def _stop_hung(self) -> None:
        for worker in self.workers:
            if self._hangs(worker):
                worker.process.kill()
                worker.process.join()
                if worker.trial is not None:
                    self.recovery.fail(worker.trial, f"timed out after {self._limit} s without an epoch")

    @property
    def _limit(self) -> int:
        return self.assignment.config.trial_timeout

    def _hangs(self, worker: _Worker) -> bool:
        allowed = self._limit if worker.trial is not None else max(self._limit, START_TIMEOUT)
        return bool(self._limit) and worker.idle > allowed and not worker.is_waiting

    def _replace(self, worker: _Worker) -> None:
        if worker.process.exitcode == 0:
            return
        self.killed += 1
        code = worker.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if self._hangs(worker):
            how = f"no epoch in {self._limit} s"
        if self.killed > MAX_KILLED:
            raise StudyError(
                f"{self.killed} workers were killed before any trial finished, the last by {how}: if memory is "
                "short, use fewer --workers; the same command continues the search."
            )
        self.display.say(f"Worker {worker.number} was killed ({how}): another takes its place.")
        self.recovery(stopped=f"its worker was killed ({how})")
        self._start(worker.number)

    def _stop(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        timer = threading.Timer(STOP_TIMEOUT, self._kill)
        timer.start()
        while self.workers:
            try:
                self._listen()
            except (StudyError, RuntimeError) as error:
                self.display.say(str(error))
        timer.cancel()
        # Ends the trials of workers that had to be killed.
        with suppress(StoreFault), self.recovery.context.locked():
            self.recovery.close()

    def _kill(self) -> None:
        # A copy: meanwhile the main thread removes workers that end.
        for worker in tuple(self.workers):
            worker.process.kill()
