"""Background writer: records metrics and files while training goes on."""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from study.errors import StoreFault
from study.system import interruption
from study.tracking.runs import points
from study.tracking.store import Point, Store

BATCH_SECONDS = 5.0
"""Seconds for which metrics are gathered before a write: it costs more than all else that is recorded of an epoch."""
POLL = 0.05
"""Seconds between two checks, while waiting for a write, whether the store is away or a signal came."""


@dataclass
class _Batch:
    """What is to be written of a run."""

    points: list[Point] = field(default_factory=list)
    tags: dict[str, object] = field(default_factory=dict)

    def add(self, later: "_Batch") -> None:
        self.points += later.points
        self.tags |= later.tags


class Writer:
    """Writes to a store from its own thread, in order; gathers metrics and tags of each run into one write.

    While the store is unavailable, the thread retries, and further writes wait in memory. Results that a process did
    not write before it ended are computed again by the same command, which continues from what the store has.

    A run may be ended only after `drain`, which leaving the `with` block calls as well: MLflow's own asynchronous
    logging loses pending writes when the process is terminated.
    """

    def __init__(self, store: Store):
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._pending: dict[str, _Batch] = defaultdict(_Batch)
        self._is_scheduled = False
        self._error: BaseException | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        try:
            self.drain(is_patient=kind is None or issubclass(kind, Exception))
        finally:
            self._hurry.set()
            self._thread.shutdown()

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0, **tags: object) -> None:
        """Queues the metrics of one step, and tags, and returns at once; tags of None are ignored."""
        self._add(run_id, _Batch(points(metrics, step), tags=tags))

    def _add(self, run_id: str, batch: _Batch) -> None:
        with self._lock:
            self._pending[run_id].add(batch)
            is_first, self._is_scheduled = not self._is_scheduled, True
        if is_first:
            self._thread.submit(self._gather)

    def submit(self, write: Callable[[], object]) -> None:
        """Queues a write; returns once it is done, or the store is unavailable.

        Raises:
            Exception: what this write or an earlier one raised; no further write is tried.
        """
        written = self._thread.submit(self._attempt, write)
        while wait([written], POLL).not_done and not self._store.is_away:
            interruption.check()
        self._raise()

    def _attempt(self, write: Callable[[], object]) -> None:
        if self._error is None:
            try:
                write()
            except BaseException as error:
                self._error = error

    def _raise(self) -> None:
        if self._error:
            raise self._error

    def drain(self, *, is_patient: bool = True) -> None:
        """Waits until everything in the queue is written.

        Args:
            is_patient: whether to wait for an unavailable store; without, pending writes are lost.

        Raises:
            Exception: what the store raised; metrics that were not written are part of the next write.
        """
        self._hurry.set()
        if not is_patient:
            self._store.give_up()
        try:
            written = self._thread.submit(self._write)
            while wait([written], POLL).not_done:
                interruption.check()
            written.result()
            self._raise()
        except StoreFault:
            if is_patient:
                raise
        finally:
            self._hurry.clear()

    def _gather(self) -> None:
        self._hurry.wait(BATCH_SECONDS)
        self._write()

    def _write(self) -> None:
        with self._lock:
            taken, self._pending = self._pending, defaultdict(_Batch)
            self._is_scheduled = False
        try:
            for run_id, batch in tuple(taken.items()):
                self._store.log_points(run_id, batch.points, **batch.tags)
                del taken[run_id]
        finally:
            with self._lock:
                for run_id, later in self._pending.items():
                    taken[run_id].add(later)
                self._pending = taken
