from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from pipelines.session.context import Context
from pipelines.trials import runner as stage
from pipelines.trials.recovery import Recovery
from pipelines.tune import tune
from study.data import Dataset
from study.device import Machine
from study.errors import StudyError
from study.home import Home
from study.search import heartbeat, search
from study.search.heartbeat import COUNTER, Heart, Pulse
from study.search.private import set_system_attr
from study.search.search import Search
from tests.conftest import surroundings
from tests.pipelines.test_tune import SMALL, in_optuna, trials
from tests.study.search.test_search import QUICK, opened

ELSEWHERE = "another-host 12 another-boot/pid:[1] 345"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says of whoever watches, in its only item."""
    now = [0.0]
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def trial_of(found: Search, worker: str | None) -> int:
    trial = found.ask()
    if worker:
        trial.set_user_attr("worker", worker)
    return trial.number


def beat(found: Search, number: int, count: int) -> None:
    set_system_attr(found, found.get_trials()[number], COUNTER, count)


def closed_within(seconds: float, found: Search, pulse: Pulse, clock: list[float]) -> list[int]:
    """The trials that who keeps looking closes in that time."""
    end, closed = clock[0] + seconds, []
    while clock[0] < end:
        clock[0] = min(clock[0] + heartbeat.INTERVAL / 2, end)
        closed += [trial.number for trial in search.close_orphans(found, pulse)]
    return closed


GRACE = heartbeat.INTERVAL * heartbeat.MAX_MISSED


def test_a_worker_elsewhere_is_taken_for_dead_when_its_signs_of_life_stop(home: Home, clock: list[float]):
    found, pulse = opened(home), Pulse()
    number = trial_of(found, ELSEWHERE)
    assert search.close_orphans(found, pulse) == []
    for count in range(1, 5):
        assert closed_within(GRACE / 2, found, pulse, clock) == []
        beat(found, number, count)
    assert closed_within(GRACE, found, pulse, clock) == []
    assert closed_within(heartbeat.INTERVAL, found, pulse, clock) == [number]
    assert found.trials[number].state == TrialState.FAIL
    assert found.trials[number].user_attrs["status_reason"] == "interrupted"


def test_what_others_clocks_say_is_no_matter_and_who_has_not_looked_has_seen_nothing(home: Home, clock: list[float]):
    found, pulse = opened(home), Pulse()
    trial_of(found, ELSEWHERE)
    for clock[0] in (0, 1e6, -1e6, 1e9):
        assert search.close_orphans(found, pulse) == []
        assert search.close_orphans(found, Pulse()) == []


def test_a_trial_that_nobody_owns_is_closed_a_minute_after_it_was_seen(home: Home, clock: list[float]):
    found, pulse = opened(home), Pulse()
    number = trial_of(found, None)
    assert search.close_orphans(found, pulse) == []
    assert closed_within(search.UNOWNED, found, pulse, clock) == []
    assert closed_within(1, found, pulse, clock) == [number]


def test_a_process_gives_signs_of_life_for_what_it_works_on(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.01")
    found = opened(home)
    first, second = found.ask(), found.ask()
    with Heart(found) as heart:
        heart.add(first)
        while found.trials[0].system_attrs.get(COUNTER, 0) < 3:
            pass
        heart.add(second)
        heart.remove(first.number)
        found.tell(0, state=TrialState.FAIL)
        while found.trials[1].system_attrs.get(COUNTER, 0) < 3:
            pass


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", "1e400"])
def test_a_heartbeat_that_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HEARTBEAT", text)
    with pytest.raises(StudyError, match=f"STUDY_HEARTBEAT is {text!r}"):
        Pulse()


def interfering(after: int, interfere: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls `interfere` after so many epochs of the first training."""
    epochs = stage.epochs
    begun: list[int] = []

    def watched(*arguments: Any, **options: Any) -> Generator[Any]:
        begun.append(1)
        is_first = len(begun) == 1
        for number, pending in enumerate(epochs(*arguments, **options), start=1):
            yield pending
            if is_first and number == after:
                interfere()

    monkeypatch.setattr(stage, "epochs", watched)


@pytest.mark.parametrize("after", [1, 2], ids=["between two epochs", "before its end"])
def test_a_worker_that_was_taken_for_dead_says_nothing_over_the_next_attempt_and_goes_on(
    after: int, home: Home, machine: Machine, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    context = surroundings(home, machine)

    def take_over() -> None:
        found = in_optuna(context, SMALL, tiny)
        assert search.fail(found, found.trials[0])
        assert search.requeue(found) == [0]

    interfering(after, take_over, monkeypatch)
    tune(SMALL, tiny, context)
    found = in_optuna(context, SMALL, tiny).get_trials()
    assert [trial.user_attrs["status_reason"] for trial in found] == ["interrupted", *["complete"] * 3]
    assert found[1].user_attrs["retry_of"] == 0
    assert found[1].params == found[0].params
    runs = trials(context)
    assert [(run.status, run.tags["status_reason"]) for run in runs] == [
        ("KILLED", "interrupted"),
        *[("FINISHED", "complete")] * 3,
    ]


def test_work_of_another_host_is_waited_for_by_name_and_then_taken_over(
    context: Context, tiny: Dataset, clock: list[float], capsys: pytest.CaptureFixture[str]
):
    found = in_optuna(context, SMALL, tiny)
    number = trial_of(found, ELSEWHERE)
    recovery = Recovery(found, SMALL, context)
    for _ in range(2):
        recovery.wait()
    assert capsys.readouterr().out.splitlines() == [
        f"Waiting for trial {number}, which runs in process 12 on another-host."
    ]
    assert search.workers(found).keys() == {number}
    while search.workers(found):
        assert clock[0] <= GRACE
        clock[0] += heartbeat.INTERVAL
        recovery.wait()


def test_parameters_that_were_interrupted_are_always_tried_again_but_failures_are_counted(home: Home):
    found = opened(home, QUICK)
    found.enqueue_trial({"learning_rate": 1e-3, "weight_decay": 1e-4})
    for _ in range(5):
        number = found.ask().number
        assert search.fail(found, found.trials[number])
        assert search.requeue(found) == [number]
    for attempt in range(search.MAX_RETRIES + 1):
        number = found.ask().number
        assert search.fail(found, found.trials[number], "timed out after 5 s without an epoch", stopped="timed out")
        assert search.requeue(found) == ([number] if attempt < search.MAX_RETRIES else [])
