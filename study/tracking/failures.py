"""Ends a run on an exception, as KILLED or FAILED with the reason; every stage that starts a run uses it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from study.errors import Diverged, Incomplete, Lost, OutOfMemory, StoreFault, TakenOver
from study.system.processes import this_process
from study.tracking.store import Store

REASONS = {Diverged: "diverged", Incomplete: "incomplete", OutOfMemory: "out of memory"}
"""Why a run failed, by the type of the exception; any other one is a crash."""


@contextmanager
def failure_recorded(store: Store, run_id: str) -> Iterator[None]:
    """Ends a run on an exception in the block, which passes: KILLED if interrupted or lost, else FAILED."""
    try:
        yield
    except TakenOver:
        # The run is another process's now.
        raise
    except KeyboardInterrupt:
        store.give_up()
        _finish(store, run_id, "KILLED", "interrupted")
        raise
    except Lost:
        _finish(store, run_id, "KILLED", "interrupted")
        raise
    except BaseException as error:
        _finish(store, run_id, "FAILED", REASONS.get(type(error), "crashed"))
        raise


def _finish(store: Store, run_id: str, status: str, reason: str) -> None:
    # Where the store is away, the run stays open, and the next command ends it as interrupted.
    with suppress(StoreFault):
        # A search's run may be of another machine, which goes on.
        if not store.is_shared or store.get(run_id).worker == this_process():
            store.finish(run_id, status, reason)
