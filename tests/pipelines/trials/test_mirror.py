from dataclasses import replace

import pytest

from pipelines.trials.mirror import Mirror, make_run, recorded_points, start_run
from study.architectures import FFNNConfig
from study.config import SearchConfig
from study.search.records import TrialRecord
from study.search.space import training
from study.search.trial import Outcome
from study.tracking.runs import Run
from study.tracking.store import Store

CONFIG = SearchConfig(name="small", model=FFNNConfig(hidden=4), epochs=3)
PARAMS = {"learning_rate": 0.01, "weight_decay": 0.1}
COMPLETE = TrialRecord(
    0, "COMPLETE", Outcome(0, "complete"), PARAMS, value=0.5, accuracies={1: 0.25, 2: 0.5, 3: 0.5}, draw=0
)
INTERRUPTED = replace(COMPLETE, state="FAIL", outcome=Outcome(0, "interrupted"), value=None, accuracies={1: 0.25})


def started(store: Store, **params: object) -> Run:
    own = {**training(CONFIG, 0, PARAMS).params(), "threads": 1, **params}
    return store.get(start_run(store, CONFIG, 0, dataset="digits", params=own, retry_of=None, parent=None))


@pytest.mark.parametrize("trial", [COMPLETE, INTERRUPTED])
def test_a_run_that_was_left_open_is_completed_and_then_differs_no_more(store: Store, trial: TrialRecord):
    run = started(store)
    store.log(run.id, {"val_accuracy": 0.25, "val_loss": 1.0}, 1)
    Mirror(store, CONFIG, trial, store.get(run.id)).complete()
    run = store.get(run.id)
    assert (run.status, run.tags["status_reason"]) == (trial.outcome.status, trial.outcome.reason)
    assert run.metrics.get("best_val_accuracy") == trial.value
    assert Mirror(store, CONFIG, trial, run).differences() == []


def test_what_was_recorded_otherwise_stays_until_the_run_is_made_anew(store: Store):
    run = started(store, learning_rate=0.5)
    store.log(run.id, {"val_accuracy": 0.125, "val_loss": 1.0}, 1)
    mirror = Mirror(store, CONFIG, COMPLETE, store.get(run.id))
    mirror.complete()
    run = store.get(run.id)
    assert run.params["learning_rate"] == "0.5"
    assert [point.value for point in recorded_points(store, run, "val_accuracy")] == [0.125, 0.5, 0.5]
    differences = Mirror(store, CONFIG, COMPLETE, run).differences()
    assert [each.message for each in differences] == [
        "Its params differ from Optuna's: learning_rate is 0.5, not 0.01.",
        "Optuna's val_accuracy of epoch 1 is 0.25, MLflow's 0.125.",
    ]
    (repair,) = {each.repair for each in differences}
    assert repair
    repair()
    (again,) = store.runs(stage="trial")
    assert again.id != run.id
    assert again.params == {**run.params, "learning_rate": "0.01", "log10_learning_rate": "-2.0"}
    assert [point.value for point in recorded_points(store, again, "val_accuracy")] == [0.25, 0.5, 0.5]
    assert [point.value for point in recorded_points(store, again, "val_loss")] == [1.0]
    assert Mirror(store, CONFIG, COMPLETE, again).differences() == []


def test_params_that_an_interrupted_trial_had_not_recorded_are_not_missed(store: Store):
    bare = start_run(store, CONFIG, 0, dataset="digits", params={}, retry_of=None, parent=None)
    Mirror(store, CONFIG, INTERRUPTED, store.get(bare)).complete()
    assert Mirror(store, CONFIG, INTERRUPTED, store.get(bare)).differences() == []
    assert store.get(bare).params == {}


def test_the_run_of_an_interrupted_trial_is_made_with_the_surroundings_of_another_one(store: Store):
    source = store.get(
        start_run(store, CONFIG, 1, dataset="digits", params={"threads": 1, "seed": 9}, retry_of=None, parent=None)
    )
    make_run(store, CONFIG, INTERRUPTED, source, parent=None)
    (run,) = store.runs(stage="trial", optuna_trial="0")
    assert (run.status, run.params["threads"], run.params["seed"]) == ("KILLED", "1", "0")
    assert [point.value for point in recorded_points(store, run, "val_accuracy")] == [0.25]


def test_a_trial_with_impossible_parameters_is_named_and_nothing_of_it_is_repaired(store: Store):
    run = started(store, learning_rate=0.5)
    impossible = replace(COMPLETE, params={**PARAMS, "weight_decay": -1.0})
    mirror = Mirror(store, CONFIG, impossible, run)
    assert [(each.message[:36], each.repair) for each in mirror.differences()] == [
        ("Its parameters in Optuna are invalid", None)
    ]
    mirror.complete()
    assert store.get(run.id) == run
