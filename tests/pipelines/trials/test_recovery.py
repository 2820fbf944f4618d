"""Searches that are killed between any two writes to the two stores, and continued by another process."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from pipelines import tune as stage
from pipelines.session.context import Context
from pipelines.tune import tune
from study.config import SearchConfig
from study.data import Dataset
from study.device import Machine
from study.home import Home
from study.search import draws, search
from study.search.database import Database
from study.search.loop import optimise
from study.system import processes
from study.system.heartbeat import HeartbeatMonitor
from study.tracking.store import Store
from tests.conftest import surroundings
from tests.pipelines.test_tune import SMALL, in_optuna, trials
from tests.study.search.test_search import QUICK, accuracy, at_once, opened

IN_OPTUNA = (
    "create_new_study",
    "set_study_user_attr",
    "_create_new_trial",
    "_set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "write",
)
IN_MLFLOW = ("create_run", "log_batch", "set_terminated", "update_run")
ENOUGH = 1_000_000


class SimulatedKill(BaseException):
    """Raised by a write of a process that counts as killed."""


class Life:
    """A process that is killed after so many writes: whatever it attempts to write after that is not written."""

    def __init__(self, writes: int):
        self.left = writes
        self._lock = threading.Lock()

    def write(self, whole: Callable[..., Any]) -> Callable[..., Any]:
        def written(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.left -= 1
                if self.left < 0:
                    raise SimulatedKill
            return whole(*arguments, **options)

        return written


@contextmanager
def lived(number: int, writes: int) -> Iterator[Life]:
    """All that is done in the block is done by a process of its own, that lives for so many writes."""
    life = Life(writes)
    with pytest.MonkeyPatch.context() as patch:
        for where, names in ((Database, IN_OPTUNA), (MlflowClient, IN_MLFLOW)):
            for name in names:
                patch.setattr(where, name, life.write(getattr(where, name)))
        patch.setattr(processes, "_start", lambda process_id: str(number))
        # Who a trial belongs to is said by the next write: nobody is waited for here.
        patch.setattr(search, "UNOWNED", 0.0)
        try:
            yield life
        except SimulatedKill:
            assert life.left < 0


def drawn(trial: FrozenTrial) -> tuple[float, ...]:
    return tuple(draws.parameters_of(trial).values())


def attempts(optuna_study: list[FrozenTrial]) -> list[list[FrozenTrial]]:
    """The trials of which each tries the same again, but for those that found no place."""
    by_root: dict[int, list[FrozenTrial]] = {}
    for trial in optuna_study:
        if trial.user_attrs.get("status_reason") != "surplus":
            by_root.setdefault(trial.user_attrs.get("retry_of", trial.number), []).append(trial)
    return list(by_root.values())


def assert_all_is_as_never_interrupted(optuna_study: list[FrozenTrial], total: int) -> None:
    """The total is reached exactly, what was interrupted was tried again, and no point came by accident twice."""
    assert Counter(trial.state for trial in optuna_study)[TrialState.COMPLETE] == total
    assert {trial.state for trial in optuna_study} <= {TrialState.COMPLETE, TrialState.FAIL}
    tried = attempts(optuna_study)
    for same in tried:
        begun = [trial for trial in same if drawn(trial)]
        assert [trial.state for trial in same[:-1]] == [TrialState.FAIL] * (len(same) - 1)
        assert same[-1].state == TrialState.COMPLETE or not begun
        assert all(drawn(trial)[: len(drawn(begun[0]))] == drawn(begun[0]) for trial in begun)
    points = [drawn(same[-1]) for same in tried if drawn(same[-1])]
    assert len(set(points)) == len(points) == total


def assert_runs_mirror(context: Context, config: SearchConfig, optuna_study: list[FrozenTrial]) -> None:
    runs = trials(context, config.name)
    assert len({run.tags["optuna_trial"] for run in runs}) == len(runs)
    by_number = {int(run.tags["optuna_trial"]): run for run in runs}
    for trial in optuna_study:
        outcome, run = search.outcome(trial), by_number.get(trial.number)
        if run is None:
            assert outcome.reason in ("interrupted", "surplus")
            assert "mlflow_run" not in trial.user_attrs
            continue
        assert (run.status, run.tags["status_reason"]) == (outcome.status, outcome.reason)
        assert trial.user_attrs.get("mlflow_run", run.id) == run.id
        if outcome.reason == "complete":
            points = context.store.client.get_metric_history(run.id, "val_accuracy")
            assert [(point.step, point.value) for point in points] == list(trial.intermediate_values.items())
            for name in ("best_val_accuracy", "best_val_loss", "best_epoch"):
                assert len(context.store.client.get_metric_history(run.id, name)) == 1
            assert run.metrics["best_val_accuracy"] == trial.value
            assert {name: float(run.params[name]) for name in trial.params} == trial.params
    [above] = context.store.runs(stage="search", search=config.name)
    assert above.params["epochs"] == str(config.epochs)
    assert context.store.runs(search=config.name, status="RUNNING") == []


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: drawing those of a hundred searches takes minutes."""

    def note(run_id: str, opened: search.Search, store: Store) -> None:
        store.tag(run_id, trials=len(search.trials_table(opened)))

    monkeypatch.setattr(stage, "log_results", note)


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("undrawn")
def test_a_search_that_is_killed_between_any_two_writes_is_continued_as_if_it_never_was(
    home: Home, machine: Machine, tiny: Dataset
):
    context, chance, whole = surroundings(home, machine), random.Random(0), None
    for writes in itertools.count():
        config = replace(SMALL, name=f"killed-after-{writes}", trials=2, epochs=1)
        with lived(1, writes) as life:
            tune(config, tiny, context)
        # Half of them are killed once more, on the way back.
        if writes % 2:
            with lived(2, chance.randrange(12)):
                tune(config, tiny, context)
        with lived(3, ENOUGH):
            tune(config, tiny, context)
        trials = in_optuna(context, config, tiny).get_trials()
        assert_all_is_as_never_interrupted(trials, total=2)
        assert_runs_mirror(context, config, trials)
        results = [(trial.params, trial.intermediate_values) for trial in trials if trial.state == TrialState.COMPLETE]
        assert results == (whole := whole or results)
        if life.left >= 0:
            break
    assert writes > 20


def recovered(home: Home, config: SearchConfig) -> list[FrozenTrial]:
    optuna_study, monitor = opened(home, config), HeartbeatMonitor()

    def recover(running: set[int]) -> None:
        search.close_orphans(optuna_study, monitor)
        search.requeue(optuna_study)

    recover(set())
    optimise(optuna_study, config, at_once(accuracy), recover)
    return optuna_study.get_trials()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_grid_that_is_killed_between_any_two_writes_visits_each_point_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    grid, chance = (1e-4, 1e-2), random.Random(0)
    monkeypatch.setattr(search, "GRID", grid)
    for writes in itertools.count():
        config = replace(QUICK, name=f"grid-{writes}", sampler="grid", trials=4)
        with lived(1, writes) as life:
            recovered(home, config)
        for number in (2, 3):
            with lived(number, chance.randrange(20)):
                recovered(home, config)
        with lived(4, ENOUGH):
            optuna_study = recovered(home, config)
        complete = [drawn(trial) for trial in optuna_study if trial.state == TrialState.COMPLETE]
        assert sorted(complete) == sorted(itertools.product(grid, repeat=2))
        assert_all_is_as_never_interrupted(optuna_study, total=4)
        if life.left >= 0:
            break
    assert writes > 20
