"""Metrics recorded in the background: training does not wait while a database writes."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from study.tracking.runs import points
from study.tracking.store import Point, Store

GATHERED = 0.25
"""Seconds for which metrics are gathered before they are written: on a GPU an epoch takes no longer than a write."""


class Writer:
    """Writes the metrics of runs to a store from a thread of its own, those of each run in order and together.

    A run may be ended only after `drain`, which leaving the `with` block calls as well: MLflow's own asynchronous
    logging loses what is on its way when the process is told to stop.
    """

    def __init__(self, store: Store):
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._pending: list[tuple[str, Point]] = []
        self._is_scheduled = False

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self.drain()
        finally:
            self._hurry.set()
            self._thread.shutdown()

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Hands over the metrics of one step, and returns at once."""
        with self._lock:
            self._pending += [(run_id, point) for point in points(metrics, step)]
            is_first, self._is_scheduled = not self._is_scheduled, True
        if is_first:
            self._thread.submit(self._gather)

    def drain(self) -> None:
        """Waits until all that was handed over is written.

        Raises:
            Exception: what the store raised; what it did not take is kept, and tried again by the next write.
        """
        self._hurry.set()
        try:
            self._thread.submit(self._write).result()
        finally:
            self._hurry.clear()

    def _gather(self) -> None:
        self._hurry.wait(GATHERED)
        self._write()

    def _write(self) -> None:
        with self._lock:
            taken, self._pending = self._pending, []
            self._is_scheduled = False
        by_run: dict[str, list[Point]] = {}
        for run_id, point in taken:
            by_run.setdefault(run_id, []).append(point)
        try:
            for run_id in list(by_run):
                self._store.log_points(run_id, by_run[run_id])
                del by_run[run_id]
        finally:
            kept = [(run_id, point) for run_id, batch in by_run.items() for point in batch]
            with self._lock:
                self._pending = kept + self._pending
