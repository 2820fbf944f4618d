import pytest

from study.errors import Diverged, Incomplete, OutOfMemory
from study.tracking.failures import failure_recorded
from study.tracking.store import Store

ENDS = [
    (KeyboardInterrupt(), "KILLED", "interrupted"),
    (Diverged(1, "train_loss", float("nan")), "FAILED", "diverged"),
    (Incomplete("gone"), "FAILED", "incomplete"),
    (OutOfMemory("too large"), "FAILED", "out of memory"),
    (SystemExit(), "FAILED", "crashed"),
]


@pytest.mark.parametrize(("error", "status", "reason"), ENDS)
def test_an_exception_ends_the_run_and_passes(store: Store, error: BaseException, status: str, reason: str):
    run_id = store.start("digits", "a run", tags={}, params={})
    with pytest.raises(type(error)), failure_recorded(store, run_id):
        raise error
    run = store.get(run_id)
    assert (run.status, run.tags["status_reason"]) == (status, reason)


def test_a_block_without_an_exception_leaves_the_run_under_way(store: Store):
    run_id = store.start("digits", "a run", tags={}, params={})
    with failure_recorded(store, run_id):
        pass
    assert store.get(run_id).status == "RUNNING"
