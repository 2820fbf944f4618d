"""Heartbeats: how a process learns that another one, which it cannot see, has ended.

No clocks are compared: who works increments a counter, and an observer measures by its own clock whether it changes.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from study.system.variables import seconds

INTERVAL = 60.0
"""Seconds between two heartbeats, unless STUDY_HEARTBEAT is set."""
MAX_MISSED = 5
"""Number of missed heartbeats after which a worker counts as dead: well above any stall of a database."""
LONGEST_CHECK = 10.0
"""Seconds; longer than a look at all trials takes, so that a longer gap is a pause of the observer, or of its store."""


def interval() -> float:
    """Seconds between two heartbeats.

    Raises:
        StudyError: where STUDY_HEARTBEAT is no positive number.
    """
    return seconds("STUDY_HEARTBEAT", INTERVAL)


def grace() -> float:
    """Seconds without a heartbeat after which a worker counts as dead."""
    return MAX_MISSED * interval()


class PeriodicCall:
    """Calls a function at each interval, from a thread of its own, while its `with` block lasts."""

    def __init__(self, call: Callable[[], object], every: float | None = None):
        """Takes the function, whose failures are ignored, and the seconds between two calls, by default `interval`."""
        self._call, self._every = call, every or interval()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="periodic call", daemon=True)

    def __enter__(self) -> "PeriodicCall":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            # A store that is away is reported by those that need what they write there.
            with suppress(Exception):
                self._call()


class HeartbeatMonitor:
    """The heartbeats of other processes, as observed by this one."""

    def __init__(self, longest: float = LONGEST_CHECK) -> None:
        """Takes the seconds that a look takes at most."""
        self._grace = grace()
        self._longest = max(interval(), longest)
        self.every = min(self._longest / 2, self._grace / 4)
        """Seconds between two looks that are frequent enough."""
        self._seen: dict[int | str, tuple[object, float, float]] = {}

    def has_stopped(self, what: int | str, sign: object, grace: float | None = None) -> bool:
        """Whether `what` has shown the same `sign` for so long that its worker must be dead.

        Needs frequent calls: after a pause of this process, in which the others may have paused too, it starts over.

        Args:
            what: the number of a trial, or the id of a run.
            sign: any value that changes while a worker works on it.
            grace: seconds without a change; by default `MAX_MISSED` intervals.
        """
        now = time.monotonic()
        before, since, looked = self._seen.get(what, (sign, now, now))
        if before != sign or now - looked > self._longest:
            since = now
        self._seen[what] = (sign, since, now)
        return now - since > (self._grace if grace is None else grace)
