import time
from collections.abc import Callable, Generator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from pipelines.session.context import Context
from pipelines.trials import recovery
from pipelines.trials import trainings as stage
from pipelines.trials.recovery import RARELY, Recovery
from pipelines.tune import tune
from study.config import MAX_RETRIES
from study.data import Dataset
from study.device import Machine
from study.errors import StoreFault, StudyError
from study.home import Home
from study.search import loop, search
from study.search.heartbeat import COUNTER, TrialHeartbeats
from study.search.loop import optimise
from study.search.private import set_system_attr, set_user_attr
from study.search.search import Search
from study.search.trial import Outcome
from study.system import heartbeat
from study.system.heartbeat import HeartbeatMonitor
from study.tracking.runs import WORKER, Run
from study.tracking.store import Store
from study.tracking.tags import trial_tags
from tests.conftest import surroundings
from tests.pipelines.test_tune import SMALL, in_optuna, trials
from tests.pipelines.trials.test_recovery import assert_runs_mirror
from tests.study.search.test_search import QUICK, accuracy, at_once, opened

ELSEWHERE = "another-host 12 another-boot/pid:[1] 345"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says of whoever watches, in its only item."""
    now = [0.0]
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def trial_of(optuna_study: Search, worker: str | None) -> int:
    trial = optuna_study.ask()
    if worker:
        trial.set_user_attr("worker", worker)
    return trial.number


def beat(optuna_study: Search, number: int, count: int) -> None:
    set_system_attr(optuna_study, optuna_study.get_trials()[number], COUNTER, count)


def closed_within(seconds: float, optuna_study: Search, monitor: HeartbeatMonitor, clock: list[float]) -> list[int]:
    """The trials that who keeps looking closes in that time."""
    end, closed = clock[0] + seconds, []
    while clock[0] < end:
        clock[0] = min(clock[0] + heartbeat.INTERVAL / 2, end)
        closed += [trial.number for trial in search.close_orphans(optuna_study, monitor)]
    return closed


GRACE = heartbeat.INTERVAL * heartbeat.MAX_MISSED


def test_a_worker_elsewhere_is_taken_for_dead_when_its_signs_of_life_stop(home: Home, clock: list[float]):
    optuna_study, monitor = opened(home), HeartbeatMonitor()
    number = trial_of(optuna_study, ELSEWHERE)
    assert search.close_orphans(optuna_study, monitor) == []
    for count in range(1, 5):
        assert closed_within(GRACE / 2, optuna_study, monitor, clock) == []
        beat(optuna_study, number, count)
    assert closed_within(GRACE, optuna_study, monitor, clock) == []
    assert closed_within(heartbeat.INTERVAL, optuna_study, monitor, clock) == [number]
    assert optuna_study.trials[number].state == TrialState.FAIL
    assert optuna_study.trials[number].user_attrs["status_reason"] == "interrupted"


def test_what_others_clocks_say_is_no_matter_and_who_has_not_looked_has_seen_nothing(home: Home, clock: list[float]):
    optuna_study, monitor = opened(home), HeartbeatMonitor()
    trial_of(optuna_study, ELSEWHERE)
    for clock[0] in (0, 1e6, -1e6, 1e9):
        assert search.close_orphans(optuna_study, monitor) == []
        assert search.close_orphans(optuna_study, HeartbeatMonitor()) == []


def test_a_trial_that_nobody_owns_is_closed_a_minute_after_it_was_seen(home: Home, clock: list[float]):
    optuna_study, monitor = opened(home), HeartbeatMonitor()
    number = trial_of(optuna_study, None)
    assert search.close_orphans(optuna_study, monitor) == []
    assert closed_within(search.UNOWNED, optuna_study, monitor, clock) == []
    assert closed_within(1, optuna_study, monitor, clock) == [number]


def test_a_process_gives_signs_of_life_for_what_it_works_on(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.01")
    optuna_study = opened(home)
    first, second = optuna_study.ask(), optuna_study.ask()
    with TrialHeartbeats(optuna_study) as heart:
        heart.add(first)
        while optuna_study.trials[0].system_attrs.get(COUNTER, 0) < 3:
            pass
        heart.add(second)
        heart.remove(first.number)
        optuna_study.tell(0, state=TrialState.FAIL)
        while optuna_study.trials[1].system_attrs.get(COUNTER, 0) < 3:
            pass


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", "1e400"])
def test_a_heartbeat_that_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HEARTBEAT", text)
    with pytest.raises(StudyError, match=f"STUDY_HEARTBEAT is {text!r}"):
        HeartbeatMonitor()


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
        optuna_study = in_optuna(context, SMALL, tiny)
        assert search.fail(optuna_study, optuna_study.trials[0])
        assert search.requeue(optuna_study) == [0]

    interfering(after, take_over, monkeypatch)
    tune(SMALL, tiny, context)
    optuna_trials = in_optuna(context, SMALL, tiny).get_trials()
    assert [trial.user_attrs["status_reason"] for trial in optuna_trials] == ["interrupted", *["complete"] * 3]
    assert optuna_trials[1].user_attrs["retry_of"] == 0
    assert optuna_trials[1].params == optuna_trials[0].params
    runs = trials(context)
    assert [(run.status, run.tags["status_reason"]) for run in runs] == [
        ("KILLED", "interrupted"),
        *[("FINISHED", "complete")] * 3,
    ]


def test_work_of_another_host_is_waited_for_by_name_and_then_taken_over(
    context: Context, tiny: Dataset, clock: list[float], capsys: pytest.CaptureFixture[str]
):
    optuna_study = in_optuna(context, SMALL, tiny)
    number = trial_of(optuna_study, ELSEWHERE)
    recovery = Recovery(optuna_study, SMALL, context)
    for _ in range(2):
        recovery.wait()
    assert capsys.readouterr().out.splitlines() == [
        f"Waiting for trial {number}, which runs in process 12 on another-host."
    ]
    assert search.workers(optuna_study).keys() == {number}
    while search.workers(optuna_study):
        assert clock[0] <= GRACE
        clock[0] += heartbeat.INTERVAL
        recovery.wait()


def test_parameters_that_were_interrupted_are_always_tried_again_but_failures_are_counted(home: Home):
    optuna_study = opened(home, QUICK)
    optuna_study.enqueue_trial({"learning_rate": 1e-3, "weight_decay": 1e-4})
    for _ in range(5):
        number = optuna_study.ask().number
        assert search.fail(optuna_study, optuna_study.trials[number])
        assert search.requeue(optuna_study) == [number]
    for attempt in range(MAX_RETRIES + 1):
        number = optuna_study.ask().number
        assert search.fail(
            optuna_study, optuna_study.trials[number], "timed out after 5 s without an epoch", stopped="timed out"
        )
        assert search.requeue(optuna_study) == ([number] if attempt < MAX_RETRIES else [])


def run_of(context: Context, number: int) -> str:
    """The run of a trial that a process of another host has begun."""
    tags = trial_tags(SMALL, number, None) | {WORKER: ELSEWHERE}
    return context.store.start("tiny", f"trial {number}", tags=tags, params={})


def test_what_a_dead_worker_leaves_is_ended_in_both_stores_and_lined_up_again_while_this_process_works(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.05")
    optuna_study = in_optuna(context, SMALL, tiny)
    optuna_study.enqueue_trial({"learning_rate": 1e-3, "weight_decay": 1e-3})
    number, run_id = trial_of(optuna_study, ELSEWHERE), run_of(context, 0)
    set_user_attr(optuna_study, optuna_study.trials[number], "mlflow_run", run_id)
    with Recovery(optuna_study, SMALL, context).watching():
        while len(optuna_study.get_trials()) == 1:
            time.sleep(0.05)
    assert [trial.state for trial in optuna_study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert optuna_study.trials[1].user_attrs == {"retry_of": 0}
    run = context.store.get(run_id)
    assert (run.status, run.reason) == ("KILLED", "interrupted")


def test_a_watching_thread_reads_the_runs_again_until_all_is_settled_and_rarely_where_nothing_is_left_to_do(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    optuna_study = in_optuna(context, SMALL, tiny)
    number, run_id = trial_of(optuna_study, ELSEWHERE), run_of(context, 0)
    watching, whole, read = Recovery(optuna_study, SMALL, context), context.store.runs, list[str]()

    def runs(*arguments: Any, **options: Any) -> list[Run]:
        read.append(options["status"])
        if len(read) == 1:
            raise StoreFault("The server does not answer.")
        return whole(*arguments, **options)

    monkeypatch.setattr(context.store, "runs", runs)
    for _ in range(RARELY - 1):
        watching._watch()
    assert read == []
    monkeypatch.setattr(watching.monitor, "has_stopped", lambda *arguments: True)
    with pytest.raises(StoreFault):
        watching._watch()
    assert optuna_study.trials[number].state == TrialState.FAIL
    watching._watch()
    assert context.store.get(run_id).status == "KILLED"
    for _ in range(RARELY):
        watching._watch()
    assert read == ["RUNNING"] * 3


def test_who_starts_under_the_name_of_a_worker_that_is_gone_takes_its_trial_up_at_once(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    optuna_study = in_optuna(context, SMALL, tiny)
    optuna_study.enqueue_trial({"learning_rate": 1e-3, "weight_decay": 1e-3})
    number, run_id = trial_of(optuna_study, f"{ELSEWHERE} task-3"), run_of(context, 0)
    set_user_attr(optuna_study, optuna_study.trials[number], "mlflow_run", run_id)
    monkeypatch.setenv("STUDY_WORKER", "task-3")
    tune(SMALL, tiny, context)
    optuna_trials = in_optuna(context, SMALL, tiny).get_trials()
    assert optuna_trials[0].state == TrialState.FAIL
    assert optuna_trials[1].user_attrs["retry_of"] == 0
    assert search.finished(optuna_study) == SMALL.trials
    run = context.store.get(run_id)
    assert (run.status, run.reason) == ("KILLED", "interrupted")
    assert {trial.user_attrs["worker"].split()[4] for trial in optuna_trials} == {"task-3"}


def test_a_search_ends_when_the_runs_of_all_trials_have_ended(
    context: Context, tiny: Dataset, clock: list[float], monkeypatch: pytest.MonkeyPatch
):
    optuna_study, begun = in_optuna(context, SMALL, tiny), []
    number, run_id = trial_of(optuna_study, ELSEWHERE), run_of(context, 0)
    set_user_attr(optuna_study, optuna_study.trials[number], "status_reason", "pruned")
    optuna_study.tell(number, state=TrialState.PRUNED)

    def sleep(seconds: float) -> None:
        begun.append(context.store.get(run_id).status)
        clock[0] += heartbeat.INTERVAL / 2

    monkeypatch.setattr(recovery.interruption, "sleep", sleep)
    Recovery(optuna_study, SMALL, context).settle()
    assert begun == ["RUNNING"] * 11
    assert context.store.get(run_id).status == "FINISHED"


def test_a_run_that_another_machine_has_ended_is_not_ended_again(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    """A worker that stalls between the end of its trial and that of the run, for longer than the grace period."""
    monkeypatch.setattr(Store, "is_shared", True)
    whole, ended = loop.outcome, []

    def stall(trial: FrozenTrial) -> Outcome:
        Recovery(in_optuna(context, SMALL, tiny), SMALL, context).settle()
        ended.append(context.store.get(trial.user_attrs["mlflow_run"]).status)
        return whole(trial)

    monkeypatch.setattr(loop, "outcome", stall)
    tune(SMALL, tiny, context)
    assert ended == ["FINISHED"] * SMALL.trials
    assert_runs_mirror(context, SMALL, in_optuna(context, SMALL, tiny).get_trials())


def test_what_two_machines_line_up_at_once_is_tried_once(home: Home):
    optuna_study = opened(home, replace(QUICK, trials=4))
    optuna_study.enqueue_trial({"learning_rate": 1e-3, "weight_decay": 1e-4})
    assert search.fail(optuna_study, optuna_study.trials[optuna_study.ask().number])
    before = optuna_study.get_trials()
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            # Each has read the trials before the others have lined theirs up.
            patch.setattr(optuna_study, "get_trials", lambda **options: before)
            assert search.requeue(optuna_study) == [0]
    optimise(optuna_study, replace(QUICK, trials=4), at_once(accuracy), lambda running: None)
    search.requeue(optuna_study)
    retries = [trial for trial in optuna_study.trials if trial.user_attrs.get("retry_of") == 0]
    assert [trial.state for trial in retries] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    assert search.finished(optuna_study) == 4
    assert {trial.state for trial in optuna_study.trials} == {TrialState.COMPLETE, TrialState.FAIL}
