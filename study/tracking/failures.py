"""How a run ends on an exception."""

from collections.abc import Iterator
from contextlib import contextmanager

from study.errors import Diverged, Incomplete, OutOfMemory, interruptions_told
from study.tracking.store import Store

REASONS = {Diverged: "diverged", Incomplete: "incomplete", OutOfMemory: "out of memory"}
"""Why a run failed, by the type of the exception; any other one is a crash."""


@contextmanager
def failure_recorded(store: Store, run_id: str) -> Iterator[None]:
    """Ends a run on an exception in the block: KILLED by an interruption, else FAILED; the exception passes."""
    try:
        with interruptions_told():
            yield
    except KeyboardInterrupt:
        store.finish(run_id, "KILLED", "interrupted")
        raise
    except BaseException as error:
        store.finish(run_id, "FAILED", REASONS.get(type(error), "crashed"))
        raise
