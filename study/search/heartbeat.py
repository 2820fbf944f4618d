"""Signs of life: how a search learns that a worker it cannot look at, on another host, has ended.

No clock is compared with another: a worker counts, and who watches sees, by its own clock, whether the count goes on.
Optuna's heartbeat works within `optimize` only, and by the database's time of day, which may be set.
"""

import threading
import time

import optuna

from study.search.private import set_system_attr
from study.system.variables import seconds

INTERVAL = 60.0
"""Seconds between two signs of life, unless the environment's STUDY_HEARTBEAT says otherwise."""
MISSED = 5
"""So many signs in a row must fail to come, before a worker is taken for dead: well above any stall of a database."""
LOOK = 10.0
"""Seconds, which looking at all trials takes less than."""
SIGN = "heartbeat"
"""The system attribute of a trial that counts them."""


def interval() -> float:
    """Seconds between two signs of life.

    Raises:
        StudyError: where STUDY_HEARTBEAT is no positive number.
    """
    return seconds("STUDY_HEARTBEAT", INTERVAL)


class Heart:
    """Says from a thread of its own, every so often, that this process works on the trials it has under way."""

    def __init__(self, search: optuna.Study):
        """Takes the search whose storage is told."""
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
        """Begins to say so of a trial."""
        self._trials[trial.number] = trial

    def remove(self, number: int) -> None:
        """Says no more of the trial of this number."""
        self._trials.pop(number, None)

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._interval):
            count += 1
            for trial in tuple(self._trials.values()):
                try:
                    set_system_attr(self._search, trial, SIGN, count)
                except Exception:
                    # The trial's own writes meet the same, and say so: it has ended, or its storage fails.
                    continue


class Pulse:
    """What this process has seen of the trials of others."""

    def __init__(self) -> None:
        self._interval = interval()
        self._seen: dict[int | str, tuple[object, float, float]] = {}

    def has_stopped(self, what: int | str, sign: object, grace: float | None = None) -> bool:
        """Whether `what` has shown the same `sign` for so long that its worker must be dead.

        Only who keeps looking knows: after a pause, in which all may have been stopped together, it begins anew.

        Args:
            what: the number of a trial, or the id of a run.
            sign: whatever changes while it is worked on.
            grace: seconds; by default those of `MISSED` signs of life.
        """
        now = time.monotonic()
        before, since, looked = self._seen.get(what, (sign, now, now))
        if before != sign or now - looked > max(self._interval, LOOK):
            since = now
        self._seen[what] = (sign, since, now)
        return now - since > (MISSED * self._interval if grace is None else grace)
