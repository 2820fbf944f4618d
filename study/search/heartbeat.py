"""Heartbeats: how a search learns that a worker on another host has ended.

No clocks are compared: a worker increments a counter, and an observer measures by its own clock whether it changes.
Optuna's heartbeat works within `optimize` only, and by the database's time of day, which may be set.
"""

import threading
import time

import optuna

from study.search.private import set_system_attr
from study.system.variables import seconds

INTERVAL = 60.0
"""Seconds between two heartbeats, unless STUDY_HEARTBEAT is set."""
MAX_MISSED = 5
"""Number of missed heartbeats after which a worker counts as dead: well above any stall of a database."""
LONGEST_CHECK = 10.0
"""Seconds; longer than a look at all trials takes, so that a longer gap is a pause of the observer."""
COUNTER = "heartbeat"
"""The system attribute of a trial that holds the counter."""


def interval() -> float:
    """Seconds between two heartbeats.

    Raises:
        StudyError: where STUDY_HEARTBEAT is no positive number.
    """
    return seconds("STUDY_HEARTBEAT", INTERVAL)


class Heart:
    """Sends heartbeats for the running trials of this process, from a thread of its own."""

    def __init__(self, search: optuna.Study):
        """Takes the search whose storage receives the heartbeats."""
        self._search = search
        self._interval = interval()
        self._trials: dict[int, optuna.Trial] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()

    def add(self, trial: optuna.Trial) -> None:
        """Starts the heartbeats of a trial."""
        self._trials[trial.number] = trial

    def remove(self, number: int) -> None:
        """Ends the heartbeats of the trial with this number."""
        self._trials.pop(number, None)

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._interval):
            count += 1
            for trial in tuple(self._trials.values()):
                try:
                    set_system_attr(self._search, trial, COUNTER, count)
                except Exception:
                    # The trial has ended, or its storage fails: the trial's own writes report that.
                    continue


class Pulse:
    """The heartbeats of other processes, as observed by this one."""

    def __init__(self) -> None:
        self._interval = interval()
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
        if before != sign or now - looked > max(self._interval, LONGEST_CHECK):
            since = now
        self._seen[what] = (sign, since, now)
        return now - since > (MAX_MISSED * self._interval if grace is None else grace)
