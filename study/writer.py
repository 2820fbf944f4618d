"""Metrics recorded in the background: training does not wait while a database writes."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter

from study.tracking import Point, Store, points


class Writer:
    """Writes the metrics of runs to a store, in order, from a thread of its own.

    What is handed over during one write goes out together in the next. A run may be ended only after `drain`, which
    leaving the `with` block calls as well: MLflow's own asynchronous logging loses what is on its way when the process
    is told to stop.
    """

    def __init__(self, store: Store):
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._lock = threading.Lock()
        self._pending: list[tuple[str, Point]] = []

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self.drain()
        finally:
            self._thread.shutdown()

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Hands over the metrics of one step, and returns at once."""
        with self._lock:
            self._pending += [(run_id, point) for point in points(metrics, step)]
        self._thread.submit(self._write)

    def drain(self) -> None:
        """Waits until all that was handed over is written.

        Raises:
            Exception: what the store raised; what it did not take is kept, and tried again by the next write.
        """
        self._thread.submit(self._write).result()

    def _write(self) -> None:
        with self._lock:
            taken, self._pending = self._pending, []
        written = 0
        try:
            for run_id, group in groupby(taken, itemgetter(0)):
                batch = [point for _, point in group]
                self._store.log_points(run_id, batch)
                written += len(batch)
        finally:
            with self._lock:
                self._pending = taken[written:] + self._pending
