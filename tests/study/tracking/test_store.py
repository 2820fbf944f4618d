import contextlib
import http.server
import json
import math
import socket
import sqlite3
import threading
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from study.errors import StudyError
from study.home import Home
from study.tracking.runs import metric
from study.tracking.store import Store


def started(store: Store, name: str = "a run", experiment: str = "toys", **tags: str) -> str:
    return store.start(experiment, name, tags=tags, params={"size": 3})


def file_of(store: Store, run_id: str, path: str) -> Path:
    root = store.client.get_run(run_id).info.artifact_uri
    return Path(unquote(urlparse(root).path)) / path


@pytest.mark.slow
def test_a_store_is_made_where_there_is_none(tmp_path: Path):
    home = Home(root=tmp_path / "new" / "home")
    store = Store(home)
    assert (home.store / "mlflow.db").is_file()
    assert store.runs() == []
    assert store.get(started(store)).params == {"size": "3"}


@pytest.mark.parametrize("content", ["notes, and no database", "x" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(content: str, tmp_path: Path):
    home = Home(root=tmp_path)
    home.store.mkdir()
    file = home.store / "mlflow.db"
    file.write_text(content)
    with pytest.raises(StudyError, match=r"mlflow\.db"):
        Store(home)
    assert file.read_text() == content


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "mlruns").write_text("a file where the folder should be")
    with pytest.raises(StudyError, match="mlruns"):
        Store(Home(root=tmp_path))


def test_a_server_that_does_not_answer_is_named_with_the_variable_to_unset(home: Home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(StudyError, match="MLFLOW_TRACKING_URI") as raised:
        Store(home, uri)
    assert uri in str(raised.value)
    assert "check the name" not in str(raised.value)
    with pytest.raises(StudyError, match=r"check the name, start it, or unset MLFLOW_TRACKING_URI\.$"):
        Store(home, "http://serber.invalid:5000")


def test_a_server_that_is_no_mlflow_is_named(home: Home):
    class Deaf(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Deaf) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(StudyError, match="No MLflow server answers"):
                Store(home, f"http://127.0.0.1:{server.server_address[1]}")
            with pytest.raises(StudyError, match=r"WRONG_VERSION_NUMBER.*: it speaks http:// and not https://\.$"):
                Store(home, f"https://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


def test_artifacts_lie_below_home_wherever_the_command_was_typed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run_id = started(store, experiment="photos 2% of #1")
    store.log_json(run_id, "notes/content.json", {"a": [1, 2]})
    file = file_of(store, run_id, "notes/content.json")
    assert file.is_file()
    assert file.is_relative_to(store.home.store / "artifacts")
    assert store.load_json(run_id, "notes/content.json") == {"a": [1, 2]}
    assert list(elsewhere.iterdir()) == []


def test_a_run_records_what_it_was_started_with(store: Store):
    parent = started(store, "parent")
    run_id = store.start(
        "toys", "child", tags={"stage": "trial"}, params={"filters": (4, 6), "rate": 0.1}, parent=parent
    )
    run = store.get(run_id)
    assert (run.name, run.status) == ("child", "RUNNING")
    assert run.params == {"filters": "[4, 6]", "rate": "0.1"}
    assert run.tags["stage"] == "trial"
    assert run.tags["mlflow.parentRunId"] == parent
    assert run.tags["mlflow.user"]
    store.finish(run_id, "KILLED", "interrupted")
    assert store.get(run_id).status == "KILLED"
    assert store.get(run_id).tags["status_reason"] == "interrupted"
    store.claim(run_id)
    assert (store.get(run_id).status, store.get(run_id).reason) == ("RUNNING", "")


def test_the_data_set_of_a_run_is_its_dataset_input(store: Store):
    run_id = store.start("toys", "a run", tags={}, params={})
    store.log_dataset(
        run_id, name="toys", digest="ab" * 32, source="/photos", profile={"train": 90}, used=("train", "test")
    )
    (entry,) = store.client.get_run(run_id).inputs.dataset_inputs
    dataset = entry.dataset
    assert (dataset.name, dataset.digest, json.loads(dataset.source)) == ("toys", "ab" * 8, {"dataset": "/photos"})
    assert json.loads(dataset.profile) == {"train": 90}
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "train + test")]


def test_a_history_has_a_row_per_epoch_and_nan_where_nothing_was_recorded(store: Store):
    run_id = started(store)
    store.log(run_id, {"test_loss": 2.5}, 0)
    store.log(run_id, {"test_loss": 1.5, "train_loss": 1.75}, 1)
    store.log(run_id, {"test_loss": 0.1 + 0.2, "train_loss": 1e-300}, 2)
    table = store.history(run_id)
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["test_loss"].tolist() == [2.5, 1.5, 0.1 + 0.2]
    assert math.isnan(table["train_loss"][0])
    assert table["train_loss"].tolist()[1:] == [1.75, 1e-300]
    assert store.get(run_id).metrics["test_loss"] == 0.1 + 0.2


def test_the_history_of_a_run_without_metrics_is_empty(store: Store):
    assert store.history(started(store)).empty


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_metric_that_is_not_finite_or_not_there_is_nan(value: float, store: Store):
    run_id = started(store)
    store.log(run_id, {"bad": value, "good": 0.5})
    run = store.get(run_id)
    assert math.isnan(metric(run, "bad"))
    assert math.isnan(metric(run, "absent"))
    assert metric(run, "good") == 0.5


def test_runs_are_found_by_experiment_and_all_their_tags_the_latest_first(store: Store):
    names = ["it's", 'a "quoted" name']
    first = started(store, "1", "one", stage="trial", search=names[0])
    second = started(store, "2", "one", stage="trial", search=names[1])
    third = started(store, "3", "two", stage="search", search=names[0])

    def ids(*arguments: object, **tags: str) -> list[str]:
        return [run.id for run in store.runs(*arguments, **tags)]

    assert set(ids()) == {first, second, third}
    assert set(ids(["one"])) == {first, second}
    assert ids(["absent"]) == []
    assert ids(search=names[0], stage="trial") == [first]
    assert ids(search=names[1]) == [second]
    assert set(ids(search=names[0])) == {first, third}
    starts = [run.started for run in store.runs()]
    assert starts == sorted(starts, reverse=True)


def test_runs_are_found_beyond_a_page(store: Store):
    started(store, experiment="many")
    with contextlib.closing(sqlite3.connect(store.home.store / "mlflow.db")) as database, database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(runs)")]
        copied = ", ".join("?" if name == "run_uuid" else name for name in columns)
        database.executemany(
            f"INSERT INTO runs ({', '.join(columns)}) SELECT {copied} FROM runs LIMIT 1",
            [(f"{number:032x}",) for number in range(1002)],
        )
    assert len({run.id for run in store.runs(["many"])}) == 1003
