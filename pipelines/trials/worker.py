"""A worker process of a search: its assignment, its work, and its messages to the parent."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.session.context import Context
from pipelines.session.display import Bar, Display
from pipelines.trials.runner import run_trials
from study.config import DataConfig, SearchConfig
from study.data import load_dataset
from study.device import Machine, prepare
from study.errors import StudyError
from study.home import Home
from study.search import search
from study.search.storage import storage_failures_explained
from study.system import interruption
from study.system.debugging import show_if_debugging
from study.system.faults import explanation
from study.tracking.store import Store

STOP_TIMEOUT = 60.0
"""Seconds that a worker has to close its trial after it was told to stop."""
UPDATE_INTERVAL = 0.1
"""Minimum number of seconds between two messages about the same bar."""


@dataclass(frozen=True)
class Assignment:
    """Everything that a worker needs to run trials."""

    config: SearchConfig
    data: DataConfig
    key: str
    """Key of the data set, which may be that of a folder of another name."""
    digest: str
    cache: Path | None
    """The file of decoded images, which the parent has checked against the image files."""
    home: Home
    uri: str
    storage: str
    machine: Machine
    parent: str
    has_bars: bool
    places: int = 1
    """How many trials take turns in the process."""


class _PipedDisplay(Display):
    """A display that sends what a worker prints to its parent."""

    def __init__(self, pipe: Connection, has_bars: bool):
        super().__init__()
        self._pipe, self._has_bars = pipe, has_bars
        # The thread that writes to the store prints messages too.
        self._sending = threading.Lock()

    @property
    def has_bars(self) -> bool:
        return self._has_bars

    def send(self, kind: str, *content: object) -> None:
        # The pipe breaks where the parent has ended; the trial under way is being ended anyway.
        with suppress(BrokenPipeError), self._sending:
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
            yield Bar(_throttled(lambda change: self.send("change", change)))
        finally:
            self.send("close")


def _throttled(send: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """Sends the steps of a bar, of which there may be a thousand a second, only now and then and in sum."""
    gathered, sent = 0.0, time.monotonic()

    def update(advance: float = 0, **change: object) -> None:
        nonlocal gathered, sent
        gathered += advance
        if change or time.monotonic() - sent > UPDATE_INTERVAL:
            send({**change, "advance": gathered})
            gathered, sent = 0.0, time.monotonic()

    return update


def work(assignment: Assignment, pipe: Connection, environment: Mapping[str, str]) -> None:
    """Runs trials in a worker process, until the search has its total or the process is told to stop.

    Args:
        assignment: what to search.
        pipe: the connection to the parent.
        environment: the parent's environment variables.
    """
    os.environ.clear()
    os.environ.update(environment)
    display = _PipedDisplay(pipe, assignment.has_bars)
    try:
        # Other signals stay blocked. SIGTERM may come twice: from the parent, and by a signal to all processes.
        signal.signal(signal.SIGTERM, interruption.note)
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _run(assignment, display)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
    except Exception as error:
        explained = error if isinstance(error, StudyError) else explanation(error, assignment.home.root)
        if explained:
            show_if_debugging(error)
        display.send("failed", str(explained or traceback.format_exc()), explained is not None)
        sys.exit(1)


def _stop_with_parent() -> None:
    parent = parent_process()
    assert parent
    parent.join()
    # A parent that is killed after it told its workers to stop, by a second Ctrl-C, does not wait for their trials.
    if not interruption.requested():
        os.kill(os.getpid(), signal.SIGTERM)
        # Nobody else is left to stop a worker that hangs.
        time.sleep(STOP_TIMEOUT)
    os._exit(1)


def _run(assignment: Assignment, display: _PipedDisplay) -> None:
    requested = assignment.machine
    machine = prepare(str(requested.device), requested.precision, requested.threads)
    store = Store(assignment.home, assignment.uri)
    context = Context(assignment.home, store, assignment.storage, machine, display=display)
    loaded = load_dataset(assignment.data, assignment.home, display.say, cache=assignment.cache)
    dataset = replace(loaded, key=assignment.key)
    if dataset.digest != assignment.digest:
        raise StudyError(f"The images of {assignment.data.dataset} changed while the search was starting: start again.")
    with storage_failures_explained(assignment.storage):
        with context.locked():
            opened = search.open_search(
                assignment.config, assignment.storage, digest=dataset.digest, image_size=dataset.side
            )
        run_trials(
            opened,
            assignment.config,
            dataset,
            context,
            parent=assignment.parent,
            on_end=lambda ended: display.send("ended", ended),
            on_turn=lambda number: display.send("turn", number) if assignment.config.trial_timeout else None,
            places=assignment.places,
        )
