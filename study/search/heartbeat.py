"""The heartbeats of trials, by which a search learns that a worker on another host has ended.

Optuna's heartbeat works within `optimize` only, and by the database's time of day, which may be set.
"""

import optuna

from study.search.private import set_system_attr
from study.system import heartbeat
from study.system.retry import at_once

COUNTER = "heartbeat"
"""The system attribute of a trial that holds the counter."""


class TrialHeartbeats(heartbeat.PeriodicCall):
    """Sends heartbeats for the running trials of this process."""

    def __init__(self, search: optuna.Study):
        """Takes the search whose storage receives the heartbeats."""
        super().__init__(self._send)
        self._search, self._count = search, 0
        self._trials: dict[int, optuna.Trial] = {}

    def __enter__(self) -> "TrialHeartbeats":
        super().__enter__()
        return self

    def add(self, trial: optuna.Trial) -> None:
        """Starts the heartbeats of a trial."""
        self._trials[trial.number] = trial

    def remove(self, number: int) -> None:
        """Ends the heartbeats of the trial with this number."""
        self._trials.pop(number, None)

    def _send(self) -> None:
        self._count += 1
        for trial in tuple(self._trials.values()):
            try:
                # The next heartbeat comes soon: none waits for a storage that is away.
                with at_once():
                    set_system_attr(self._search, trial, COUNTER, self._count)
            except Exception:
                # The trial has ended, or its storage fails: the trial's own writes report that.
                continue
