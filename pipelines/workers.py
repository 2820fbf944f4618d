"""Several trials at a time: worker processes on one search, each with its share of the threads, and one display."""

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, cast

from pipelines.context import Context
from pipelines.progress import Bar, Display
from pipelines.trials import Ended, run_trials
from study import search
from study.config import DataConfig, Home, SearchConfig
from study.data import load_dataset
from study.device import Machine, prepare
from study.errors import StudyError
from study.faults import explanation
from study.files import locked
from study.process import signals_held
from study.tracking import Store

MAX_KILLED = 3
"""So many killed workers are replaced; one more ends the search, since whatever kills them goes on."""
PATIENCE = 60.0
"""Seconds that the workers have to close their trials after they were told to stop."""
REDRAWN = 0.1
"""Seconds between two messages about the same bar."""


@dataclass(frozen=True)
class Assignment:
    """All that a worker needs to know."""

    config: SearchConfig
    data: DataConfig
    digest: str
    home: Home
    uri: str
    storage: str
    machine: Machine
    parent: str
    has_bars: bool


class _PipedDisplay(Display):
    """Has the parent show what a worker says."""

    def __init__(self, pipe: Connection, has_bars: bool):
        super().__init__()
        self._pipe, self._has_bars = pipe, has_bars

    @property
    def has_bars(self) -> bool:
        return self._has_bars

    def send(self, kind: str, *content: object) -> None:
        # Where the parent is gone nobody reads; the trial under way is being ended anyway.
        with suppress(BrokenPipeError):
            self._pipe.send((kind, *content))

    def say(self, text: str) -> None:
        self.send("say", text)

    @contextmanager
    def bar(self, description: str, total: float) -> Iterator[Bar]:
        if not self.has_bars:
            yield Bar(lambda **change: None)
            return
        self.send("open", description, total)
        try:
            yield Bar(_seldom(lambda change: self.send("change", change)))
        finally:
            self.send("close")


def _seldom(send: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """Gathers the steps of a bar, which may come a thousand times a second."""
    gathered, sent = 0.0, time.monotonic()

    def update(advance: float = 0, **change: object) -> None:
        nonlocal gathered, sent
        gathered += advance
        if change or time.monotonic() - sent > REDRAWN:
            send({**change, "advance": gathered})
            gathered, sent = 0.0, time.monotonic()

    return update


def work(assignment: Assignment, pipe: Connection) -> None:
    """What a worker process does: trials, until the search has its total or the process is told to stop."""
    display = _PipedDisplay(pipe, assignment.has_bars)
    try:
        signal.signal(signal.SIGTERM, _interrupt_once)
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _run(assignment, display)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
    except Exception as error:
        # Once told, the parent stops all workers, while this one is ending already.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mended = error if isinstance(error, StudyError) else explanation(error, assignment.home.root)
        display.send("failed", str(mended or traceback.format_exc()), mended is not None)
        sys.exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _interrupt_once(number: int, frame: object) -> None:
    # The same may come twice, from the parent and from whoever told them all; closing the trial must not be disturbed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _stop_with_parent() -> None:
    parent = parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _run(assignment: Assignment, display: _PipedDisplay) -> None:
    asked = assignment.machine
    machine = prepare(str(asked.device), asked.precision, asked.threads)
    store = Store(assignment.home, assignment.uri)
    context = Context(assignment.home, store, assignment.storage, machine, display)
    dataset = load_dataset(assignment.data, assignment.home, display.say)
    if dataset.digest != assignment.digest:
        raise StudyError(f"The images of {assignment.data.dataset} changed while the search was starting: start again.")
    with locked(assignment.home):
        opened = search.open_search(assignment.config, assignment.storage, digest=dataset.digest)
    run_trials(
        opened,
        assignment.config,
        assignment.data,
        dataset,
        context,
        parent=assignment.parent,
        on_end=lambda ended: display.send("ended", ended),
    )


@dataclass(eq=False)
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    bar: Bar | None = None
    shown: ExitStack = field(default_factory=ExitStack)


class Crew:
    """The workers of one search, as their parent sees them."""

    def __init__(self, assignment: Assignment, display: Display, on_end: Callable[[Ended], None]):
        self.assignment, self.display, self.on_end = assignment, display, on_end
        self.workers: list[_Worker] = []
        self.killed = 0

    def run(self, count: int, recover: Callable[[], None]) -> None:
        """Has `count` processes work until the search has its total.

        Args:
            count: how many.
            recover: called when one was killed, to line up its trial again.

        Raises:
            StudyError: what a worker met that the user can mend, or where too many of them are killed.
            RuntimeError: what else a worker raised, with its traceback.
            KeyboardInterrupt: after every worker has closed its trial.
        """
        try:
            for number in range(count):
                self._start(number + 1)
            while self.workers:
                for gone in self._listen():
                    self._replace(gone, recover)
        finally:
            self._stop()

    def _start(self, number: int) -> None:
        ours, theirs = get_context("spawn").Pipe(duplex=False)
        process = get_context("spawn").Process(target=work, args=(self.assignment, theirs), name=f"worker {number}")
        # Its own start would let signals through.
        resource_tracker.ensure_running()
        # Held until the worker is known, so that none is left behind.
        with signals_held():
            # The worker inherits what is blocked: a terminal's Ctrl-C goes to all processes, but each is told once, by
            # its parent, and not before it is ready.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            try:
                process.start()
                self.workers.append(_Worker(number, process, ours))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                # Else this process itself would keep the pipe from ending with the worker.
                theirs.close()

    def _listen(self) -> list[_Worker]:
        """Takes the messages there are, waiting for the first; returns the workers that ended."""
        by_pipe = {worker.pipe: worker for worker in self.workers}
        ended = []
        for pipe in connection.wait(list(by_pipe)):
            worker = by_pipe[cast(Connection, pipe)]
            try:
                self._take(worker, *worker.pipe.recv())
            except (EOFError, OSError, pickle.UnpicklingError):  # it was killed, perhaps in the middle of a message
                worker.process.join()
                worker.shown.close()
                self.workers.remove(worker)
                ended.append(worker)
        return ended

    def _take(self, worker: _Worker, kind: str, *content: Any) -> None:
        if kind == "say":
            self.display.say(*content)
        elif kind == "ended":
            self.on_end(*content)
        elif kind == "open":
            worker.bar = worker.shown.enter_context(self.display.bar(*content))
        elif kind == "change" and worker.bar:
            worker.bar.update(**content[0])
        elif kind == "close":
            worker.shown.close()
        elif kind == "failed":
            text, is_users = content
            raise StudyError(text) if is_users else RuntimeError(f"Worker {worker.number} crashed:\n{text}")

    def _replace(self, gone: _Worker, recover: Callable[[], None]) -> None:
        if gone.process.exitcode == 0:
            return
        self.killed += 1
        code = gone.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if self.killed > MAX_KILLED:
            raise StudyError(
                f"{self.killed} workers were killed, the last by {how}: is there memory for fewer --workers only? The "
                "same command continues the search."
            )
        self.display.say(f"Worker {gone.number} was killed ({how}): another takes its place.")
        recover()
        self._start(gone.number)

    def _stop(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        patience = threading.Timer(PATIENCE, self._kill)
        patience.start()
        while self.workers:
            try:
                self._listen()
            except (StudyError, RuntimeError) as error:
                self.display.say(str(error))
        patience.cancel()

    def _kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()
