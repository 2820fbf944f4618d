"""The heartbeats of runs, by which a command learns that a retraining or an experiment on another machine has ended."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count

from study.errors import TakenOver
from study.system import interruption
from study.system.heartbeat import HeartbeatMonitor, PeriodicCall, grace
from study.system.processes import is_gone, is_known, named, this_process
from study.system.retry import at_once
from study.tracking.runs import HEARTBEAT, Run, is_under_way
from study.tracking.store import Store


@contextmanager
def sending_heartbeats(store: Store, run_id: str) -> Iterator[None]:
    """Sends heartbeats for a run while the block lasts."""
    numbers = count(1)

    def beat() -> None:
        # The next one comes soon: none waits for a store that is away.
        with at_once():
            store.tag(run_id, **{HEARTBEAT: next(numbers)})

    with PeriodicCall(beat):
        yield


def require_own(store: Store, run_id: str) -> None:
    """Checks that no other machine has taken over a run of this process, which stalled for long.

    Raises:
        TakenOver: where one has.
    """
    if not store.is_shared:
        return
    run = store.get(run_id)
    if run.worker != this_process() or run.status != "RUNNING":
        raise TakenOver(
            f"Run {run_id} gave no sign of life for {grace():.0f} s and was taken over: the same command continues "
            "it where nobody else does."
        )


def close_dead(store: Store, runs: Iterable[Run]) -> None:
    """Ends those of `runs` that are RUNNING and whose process has died, as interrupted.

    For a process that cannot be seen from here, waits for a sign of life, or until there was none for too long.
    """
    watched = {run.id: run for run in runs if run.status == "RUNNING"}
    monitor = HeartbeatMonitor()
    for run in tuple(watched.values()):
        if not is_under_way(run):
            store.finish(run.id, "KILLED", "interrupted")
        if is_gone_or_known(run):
            del watched[run.id]
        else:
            store.say(
                f"Run {run.id} is of {named(run.worker)}, which cannot be seen from here: looking for a sign "
                f"of life for up to {grace():.0f} s."
            )
    while watched:
        for run_id, before in tuple(watched.items()):
            now = store.get(run_id)
            if _sign(now) != _sign(before):
                del watched[run_id]
            elif monitor.has_stopped(run_id, _sign(now)):
                store.finish(run_id, "KILLED", "interrupted")
                del watched[run_id]
        if watched:
            interruption.sleep(min(1.0, monitor.every))


def is_gone_or_known(run: Run) -> bool:
    """Whether it can be seen from here whether the process of a run lives."""
    return not run.worker or is_gone(run.worker) or is_known(run.worker)


def _sign(run: Run) -> str:
    # As text, in which not-a-number is equal to itself.
    return f"{run.status} {run.worker} {run.heartbeat} {sorted(run.metrics.items())}"
