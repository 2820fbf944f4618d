"""Both stores on PostgreSQL, each in a database of its own."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy

from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.tune import tune
from study.architectures import CNNConfig
from study.config import SearchConfig
from study.data import Dataset
from study.home import Home
from study.search import search
from study.tracking import best
from study.tracking.store import Store
from tests.faults import invariants
from tests.faults.invariants import Broken
from tests.faults.places import Place
from tests.pipelines.trials.test_pool import curve
from tests.support.postgres import SECRET, Cluster, Databases
from tests.support.process import end, start, study_here

CONFIG = SearchConfig(name="on-postgres", model=CNNConfig(filters=(4, 6)), trials=3, epochs=2, batch_size=30)


@pytest.fixture
def on_postgres(context: Context, databases: Databases) -> Context:
    return replace(context, store=Store(context.home, databases.tracking), storage=databases.storage)


def test_a_search_and_its_retraining_are_the_same_in_both_databases(on_postgres: Context, tiny: Dataset) -> None:
    store = on_postgres.store
    tune(CONFIG, tiny, on_postgres)
    opened = search.open_search(CONFIG, on_postgres.storage, digest=tiny.digest)
    trials = opened.get_trials()
    runs = {run.tags["optuna_trial"]: run for run in store.runs(stage="trial")}
    assert set(runs) == {str(trial.number) for trial in trials}
    for trial in trials:
        assert curve(store, runs[str(trial.number)].id) == trial.intermediate_values

    run_id = retrain(best.best_trial(store, tiny.key, "cnn"), tiny, on_postgres, epochs=2)
    assert store.get(run_id).status == "FINISHED"
    assert store.artifacts(run_id, "weights") == [f"weights/epoch_{epoch:03d}.safetensors" for epoch in range(3)]
    assert (on_postgres.home.store / "artifacts").is_dir(), "artifacts lie in the home folder"


def refused(tracking: str, storage: str, home: Home) -> str:
    """The sentence that a search ends with which cannot begin."""
    stores = ("--tracking-uri", tracking, "--storage", storage)
    ended = study_here("tune", "--dataset", "digits", "--trials", "1", *stores, home=home.root)
    assert (ended.code, ended.out) == (2, "")
    [sentence] = ended.err.splitlines()
    return sentence


def test_what_cannot_be_opened_is_said_in_one_sentence_without_the_password(databases: Databases, home: Home) -> None:
    tracking, storage = databases.tracking, databases.storage
    missing = tracking.rpartition("/")[0] + "/missing"
    messages = {
        "cannot hold both": refused(tracking, tracking, home),
        'database "missing" does not exist': refused(missing, storage, home),
        "belongs to another program": refused(storage, tracking, home),
        "There can be no tracking store": refused(tracking.replace("postgresql:", "postgres:"), storage, home),
        "is not installed": refused(tracking.replace("postgresql:", "mysql:"), storage, home),
        ": write postgresql+psycopg://": refused(
            tracking.replace("postgresql:", "postgresql+psycopg2:"), storage, home
        ),
        "Connection refused": refused(re.sub(":[0-9]+/", ":1/", tracking), storage, home),
    }
    for reason, sentence in messages.items():
        assert sentence.startswith("study: ")
        assert reason in sentence
        assert SECRET not in sentence
        assert "postgres:***@127.0.0.1" in sentence


def test_machines_that_start_at_the_same_second_on_empty_databases_make_one_search(
    postgres: Cluster, tmp_path: Path
) -> None:
    databases = Databases(postgres.new(), postgres.new())
    stores = ("--tracking-uri", databases.tracking, "--storage", databases.storage)
    settings = ("--dataset", "digits", "--model", "ffnn", "--trials", "5", "--epochs", "1", "--no-retrain")
    homes = [tmp_path / name for name in ("first", "second", "third")]
    for home in homes:
        home.mkdir()
    started = [start("tune", *settings, *stores, home=home) for home in homes]
    for process in started:
        ended = end(process)
        assert ended.code == 0, ended.err
    place = Place(tmp_path, databases.tracking, databases.storage)
    broken = Broken()
    assert invariants.check_search(place, "digits-ffnn", 5, {}, broken) == 0
    assert broken.all() == []


def tables(url: str) -> list[str]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    return sorted(sqlalchemy.inspect(engine).get_table_names())


def test_another_programs_database_is_refused_and_left_as_it_is(postgres: Cluster, home: Home) -> None:
    def customers(url: str) -> None:
        with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE customers (name TEXT)"))

    foreign = postgres.new(customers)
    for typed in (
        ("runs", "--tracking-uri", foreign),
        ("doctor", "--storage", foreign),
        ("tune", "--dataset", "digits", "--trials", "1", "--epochs", "1", "--storage", foreign),
    ):
        ended = study_here(*typed, home=home.root)
        assert ended.code == 2, typed
        assert "belongs to another program" in ended.err
    assert tables(foreign) == ["customers"]


def test_one_database_under_two_names_of_its_host_is_not_taken_for_two(databases: Databases, home: Home) -> None:
    before = tables(databases.tracking)
    other_name = databases.tracking.replace("127.0.0.1", "localhost")
    ended = study_here("doctor", "--tracking-uri", databases.tracking, "--storage", other_name, home=home.root)
    assert ended.code == 2
    assert "belongs to another program" in ended.err
    assert tables(databases.tracking) == before
