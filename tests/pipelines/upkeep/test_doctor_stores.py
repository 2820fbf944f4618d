"""The doctor on PostgreSQL, and over an MLflow server."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy

from pipelines.session.context import Context
from pipelines.tune import tune
from pipelines.upkeep.doctor import Options, Result, examine
from study.architectures import CNNConfig
from study.config import SearchConfig
from study.data import Dataset
from study.device import Machine
from study.home import Home
from study.tracking.store import Store
from tests.conftest import Finished, copy_of, surroundings
from tests.support.postgres import Databases
from tests.support.process import study_here
from tests.support.server import Server

FIX = Options(fix=True)
CONFIG = SearchConfig(name="digits-cnn", model=CNNConfig(filters=(4, 6)), trials=2, epochs=2, batch_size=30)


def test_it_repairs_and_backs_up_what_postgresql_holds(context: Context, databases: Databases, tiny: Dataset) -> None:
    store = Store(context.home, databases.tracking)
    context = replace(context, store=store, storage=databases.storage)
    tune(CONFIG, tiny, context)
    assert examine(context, FIX) == Result()
    first, second = store.runs(stage="trial")
    store.log(first.id, {"val_accuracy": 0.5}, 1)
    store.client.delete_run(second.id)
    engine = sqlalchemy.create_engine(store.uri, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        change = f"UPDATE params SET value = '0.5' WHERE key = 'learning_rate' AND run_uuid = '{first.id}'"
        connection.execute(sqlalchemy.text(change))
    repaired = examine(context, FIX)
    assert (len(repaired.repaired), repaired.left) == (3, [])
    (again,) = store.runs(stage="trial", optuna_trial=first.tags["optuna_trial"])
    assert (again.params, again.metrics) == (first.params, first.metrics)
    assert examine(context, FIX) == Result()
    (folder,) = context.home.store.glob("backup-*")
    assert [file.read_bytes()[:5] for file in sorted(folder.iterdir())] == [b"PGDMP", b"PGDMP"]


def test_over_a_server_it_repairs_all_but_the_places_of_files(
    finished_study: Finished, machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = finished_study.context.home
    home = copy_of(source, tmp_path)
    server = Server(home.store)
    try:
        server.start()
        context = surroundings(home, machine)
        context = replace(context, store=Store(home, server.address))
        examine(context, FIX)
        store = context.store
        first, second, third = store.runs(stage="trial", search="digits-cnn")
        store.client.delete_run(first.id)
        store.finish(second.id, "KILLED", "interrupted")
        store.log(third.id, {"val_accuracy": 0.5}, 1)
        with contextlib.closing(sqlite3.connect(home.store / "mlflow.db")) as opened, opened:
            opened.execute("UPDATE params SET value = '0.5' WHERE key = 'weight_decay' AND run_uuid = ?", (third.id,))
        result = examine(context, FIX)
        assert "the locations of files, which only its database has" in capsys.readouterr().out
        messages = [finding.message for finding in result.repaired if "which does not exist" not in finding.message]
        assert len(messages) == 4
        assert sum("2 times" in message or "weight_decay is 0.5" in message for message in messages) == 2
        assert not result.left
        assert examine(context, FIX) == Result()
    finally:
        server.stop()


@pytest.mark.parametrize("command", [("doctor",), ("tune", "--dataset", "digits", "--trials", "1", "--epochs", "1")])
def test_another_programs_file_is_refused_and_left_as_it_is(command: tuple[str, ...], home: Home, tmp_path: Path):
    with contextlib.closing(sqlite3.connect(tmp_path / "recipes.db")) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    before = (tmp_path / "recipes.db").read_bytes()
    ended = study_here(*command, "--storage", f"sqlite:///{tmp_path}/recipes.db", home=home.root)
    assert ended.code == 2
    assert "belongs to another program" in ended.err
    assert (tmp_path / "recipes.db").read_bytes() == before
