"""Both stores on PostgreSQL, each in a database of its own."""

from dataclasses import replace

import pytest
from conftest import DIGITS
from postgres import Cluster, Databases
from test_workers import curve

from pipelines.context import Context
from pipelines.retrain import retrain
from pipelines.tune import tune
from study import search, selection
from study.config import CNNConfig, SearchConfig
from study.data import Dataset
from study.tracking import Store

CONFIG = SearchConfig(name="on-postgres", model=CNNConfig(filters=(4, 6)), trials=3, epochs=2, batch_size=30)


@pytest.fixture
def on_postgres(context: Context, databases: Databases) -> Context:
    return replace(context, store=Store(context.home, databases.tracking), storage=databases.storage)


def test_a_search_and_its_retraining_are_the_same_in_both_databases(on_postgres: Context, tiny: Dataset) -> None:
    store = on_postgres.store
    tune(CONFIG, DIGITS, tiny, on_postgres)
    opened = search.open_search(CONFIG, on_postgres.storage, digest=tiny.digest)
    trials = opened.get_trials()
    runs = {run.tags["optuna_trial"]: run for run in store.runs(stage="trial")}
    assert set(runs) == {str(trial.number) for trial in trials}
    for trial in trials:
        assert curve(store, runs[str(trial.number)].id) == trial.intermediate_values

    run_id = retrain(selection.best_trial(store, tiny.key, "cnn"), DIGITS, tiny, on_postgres, epochs=2)
    assert store.get(run_id).status == "FINISHED"
    assert store.artifacts(run_id, "weights") == [f"weights/epoch_{epoch:03d}.safetensors" for epoch in range(3)]
    assert (on_postgres.home.store / "artifacts").is_dir(), "artifacts lie in the home folder"


def test_new_databases_are_empty_and_apart(databases: Databases, postgres: Cluster) -> None:
    other = postgres.new()
    assert len({databases.tracking, databases.storage, other}) == 3
