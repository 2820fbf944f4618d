from types import SimpleNamespace

import pytest

from study.errors import TakenOver
from study.system import heartbeat as system
from study.tracking import heartbeat
from study.tracking.failures import failure_recorded
from study.tracking.runs import HEARTBEAT, WORKER
from study.tracking.store import Store

ELSEWHERE = "another-host 12 another-boot/pid:[1] 345"
GRACE = system.INTERVAL * system.MAX_MISSED


class Time:
    """A clock that goes on when somebody sleeps, and what happens meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[object] = []

    def sleep(self, seconds: float) -> None:
        self.now += system.INTERVAL / 4
        if self.events:
            event = self.events.pop(0)
            if callable(event):
                event()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(system, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(heartbeat, "interruption", clock)
    return clock


def run_of(store: Store, worker: str = ELSEWHERE) -> str:
    return store.start("digits", "a retraining", tags={"stage": "retrain", WORKER: worker}, params={})


def test_a_run_whose_machine_died_is_ended_after_the_grace_period(store: Store, clock: Time):
    said: list[str] = []
    store.say = said.append
    run_id = run_of(store)
    heartbeat.close_dead(store, store.runs())
    run = store.get(run_id)
    assert (run.status, run.reason) == ("KILLED", "interrupted")
    assert GRACE < clock.now < GRACE + system.INTERVAL
    assert said == [
        f"Run {run_id} is of process 12 on another-host, which cannot be seen from here: looking for a sign of "
        f"life for up to {GRACE:.0f} s."
    ]


@pytest.mark.parametrize("sign", ["a heartbeat", "a metric", "its end"])
def test_one_sign_of_life_is_enough(sign: str, store: Store, clock: Time):
    run_id = run_of(store)
    changes = {
        "a heartbeat": lambda: store.tag(run_id, **{HEARTBEAT: 1}),
        "a metric": lambda: store.log(run_id, {"test_accuracy": 0.5}, 1),
        "its end": lambda: store.finish(run_id, "FINISHED", "complete"),
    }
    clock.events = [None, changes[sign]]
    heartbeat.close_dead(store, store.runs())
    assert clock.now == system.INTERVAL / 2
    assert store.get(run_id).status == ("FINISHED" if sign == "its end" else "RUNNING")


def test_a_process_that_can_be_seen_is_not_waited_for(store: Store, clock: Time):
    own = store.start("digits", "a retraining", tags={"stage": "retrain"}, params={})
    gone = run_of(store, " ".join([*store.get(own).worker.split()[:-1], "0"]))
    heartbeat.close_dead(store, store.runs())
    assert clock.now == 0
    assert (store.get(own).status, store.get(gone).status) == ("RUNNING", "KILLED")


def test_heartbeats_of_a_run_change_its_tag(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.01")
    run_id = run_of(store)
    with heartbeat.sending_heartbeats(store, run_id):
        while store.get(run_id).heartbeat in ("", "1", "2"):
            pass


def test_a_run_that_was_taken_over_is_not_worked_on_and_stays_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Store, "is_shared", True)
    run_id = store.start("digits", "a retraining", tags={"stage": "retrain"}, params={})
    heartbeat.require_own(store, run_id)
    store.tag(run_id, **{WORKER: ELSEWHERE})
    with (
        pytest.raises(TakenOver, match=f"Run {run_id} gave no sign of life for 300 s"),
        failure_recorded(store, run_id),
    ):
        heartbeat.require_own(store, run_id)
    with pytest.raises(KeyboardInterrupt), failure_recorded(store, run_id):
        raise KeyboardInterrupt
    assert store.get(run_id).status == "RUNNING"
