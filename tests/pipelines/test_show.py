"""What is shown of what is there: the first line, the tables of runs and images, plain lines for a file or a pipe."""

import json
import re
from pathlib import Path

import pytest

from pipelines.session.display import Display
from pipelines.session.isolation import ERASE
from pipelines.show import summary
from study.home import Home
from study.tracking.runs import WORKER
from study.tracking.store import Store
from tests.conftest import copy_of
from tests.support.patient import dead_process
from tests.support.process import Ended, on_a_terminal, study_here

TUNE = ("tune", "--model", "ffnn", "--dataset", "digits", "--trials", "1", "--epochs", "1", "--retrain-epochs", "1")


@pytest.fixture(scope="module")
def tuned(migrated: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Ended]:
    home = copy_of(migrated, tmp_path_factory.mktemp("tuned") / "home")
    return home, study_here(*TUNE, home=home.root)


@pytest.mark.slow
def test_the_first_line_names_dataset_device_precision_and_store(tuned: tuple[Home, Ended]) -> None:
    home, ended = tuned
    assert ended.code == 0, ended.err
    first = ended.out.splitlines()[0]
    assert "digits" in first
    assert "cpu" in first or "cuda" in first
    assert "float32" in first or "bf16" in first
    assert str(home.store / "mlflow.db") in first


def test_where_no_terminal_listens_lines_are_plain(tuned: tuple[Home, Ended]) -> None:
    _, ended = tuned
    assert "trial 0 (1/1)" in ended.out
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err


def test_a_line_of_progress_is_rare_where_lines_were_just_printed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Display()
    for text in ("first", "second"):
        shown.log("too soon", after=60)
        # As if a minute had passed.
        shown._said -= 61
        shown.log(text, after=60)
    shown.log("at once", after=0)
    assert capsys.readouterr().out.splitlines() == ["first", "second", "at once"]


def test_a_terminal_shows_that_a_command_starts_until_there_is_more(tuned: tuple[Home, Ended]) -> None:
    code, screen = on_a_terminal("runs", home=tuned[0].root)
    assert code == 0
    assert screen.startswith(f"study runs is starting …{ERASE}")
    assert "digits-ffnn" in screen


@pytest.mark.parametrize(("columns", "left_out"), [(80, {"stage", "data set", "started"}), (150, set())])
def test_a_narrow_terminal_has_fewer_columns_and_whole_keys(
    tuned: tuple[Home, Ended], columns: int, left_out: set[str]
) -> None:
    _, screen = on_a_terminal("runs", home=tuned[0].root, COLUMNS=str(columns))
    lines = [re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", line).split() for line in screen.splitlines()]
    (heading,) = [words for words in lines if "id" in words and "name" in words]
    assert {"id", "name", "model", "rate", "status", "val", "test"} <= set(heading)
    assert not left_out & set(heading)
    assert ("stage" in heading) == (columns > 80)
    for run in Store(tuned[0]).runs(stage="retrain"):
        assert any(words[:1] == [run.id[:8]] for words in lines)
        # On the next line, where the name is folded.
        assert any("digits-ffnn" in words for words in lines)
    assert ("Too" in {words[0] for words in lines if words}) == bool(left_out)


def test_runs_lists_the_search_and_the_retrained_run_but_no_trials(tuned: tuple[Home, Ended]) -> None:
    listed = study_here("runs", home=tuned[0].root).out
    _, *rows = listed.splitlines()
    runs = [run for run in Store(tuned[0]).runs() if run.tags["stage"] != "trial"]
    assert [row.split()[0] for row in rows] == [run.id[:8] for run in runs]
    # Runs of other numbers of epochs have the same name.
    assert re.search(r"ffnn · seed 0 of digits-ffnn +retrain +ffnn +1 ", rows[0])
    assert "digits-ffnn" in rows[1]
    assert all("finished" in row for row in rows)


def test_runs_of_a_stage_are_listed_when_asked_for(tuned: tuple[Home, Ended]) -> None:
    listed = study_here("runs", "--stage", "trial", home=tuned[0].root).out
    assert "trial 0" in listed
    assert "seed 0" not in listed


def test_a_stage_without_runs_is_named_with_those_that_there_are(tuned: tuple[Home, Ended]) -> None:
    ended = study_here("runs", "--stage", "experiment", home=tuned[0].root)
    assert ended.code == 2
    assert ended.err.startswith("study: No run of stage experiment is in ")
    assert ended.err.endswith(": there are those of retrain, search and trial.\n")


def test_data_shows_how_many_images_of_each_class_each_split_has(home: Home) -> None:
    ended = study_here("data", "--dataset", "digits", home=home.root)
    assert ended.code == 0, ended.err
    cells = [[cell.strip().replace(",", "") for cell in line.split("│")[1:-1]] for line in ended.out.splitlines()]
    rows = {row[0]: list(map(int, row[1:])) for row in cells if len(row) == 4 and row[1].isdigit()}
    totals = rows.pop("all")
    assert "Transparent" not in ended.out + ended.err
    assert list(rows) == list("0123456789")
    assert [sum(column) for column in zip(*rows.values(), strict=True)] == totals
    assert sum(totals) == 1797


def test_the_same_as_json(tuned: tuple[Home, Ended]) -> None:
    home = tuned[0]
    ended = study_here("runs", "--json", home=home.root)
    assert (ended.code, ended.err) == (0, "")
    shown = {run["id"]: run for run in json.loads(ended.out)}
    runs = [run for run in Store(home).runs() if run.stage != "trial"]
    assert list(shown) == [run.id for run in runs]
    retrained, search = runs
    assert shown[retrained.id]["learning_rate"] == retrained.train_config.learning_rate
    assert shown[retrained.id]["test_accuracy"] == retrained.metrics["final_test_accuracy"]
    assert shown[search.id]["learning_rate"] is None, "a search has a range"
    data = json.loads(study_here("data", "--dataset", "digits", "--json", home=home.root).out)
    assert sum(sum(counts.values()) for counts in data["splits"].values()) == 1797
    assert data["digest"] == retrained.dataset_digest
    ended = study_here("doctor", "--json", home=home.root)
    assert (ended.code, ended.err, json.loads(ended.out)) == (0, "", [])


def test_where_several_users_record_the_list_says_who(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    headings = []
    for user in ("alice", "bob"):
        monkeypatch.setenv("LOGNAME", user)
        store.start("digits", f"of {user}", tags={"stage": "search"}, params={"dataset": "digits"})
        heading, *rows = study_here("runs", home=store.home.root).out.splitlines()
        headings.append(heading)
    assert ["user" in heading.split() for heading in headings] == [False, True]
    assert [("alice" in row.split()[3:], "bob" in row.split()[3:]) for row in rows] == [(False, True), (True, False)]
    assert [run["user"] for run in json.loads(study_here("runs", "--json", home=store.home.root).out)] == [
        "bob",
        "alice",
    ]


def test_a_run_whose_process_has_ended_without_a_word_says_so(store: Store) -> None:
    tags = {"stage": "retrain", "model": "cnn"}
    run_id = store.start("digits", "killed", tags=tags, params={})
    assert summary(store.get(run_id), store)["reason"] == ""
    store.tag(run_id, **{WORKER: dead_process()})
    assert summary(store.get(run_id), store)["reason"] == "its process has ended"


def test_runs_takes_a_data_set_by_its_key_and_as_the_other_commands_do(store: Store, tmp_path: Path) -> None:
    for key, source in (("birds-1a2b", tmp_path), ("birds-1a2b-64px", tmp_path), ("digits", "digits")):
        store.start(key, f"of {key}", tags={"stage": "search"}, params={"dataset": str(source)})
    for named, keys in (
        ("digits", {"digits"}),
        ("birds-1a2b", {"birds-1a2b"}),
        (f"{tmp_path}/", {"birds-1a2b", "birds-1a2b-64px"}),
    ):
        listed = json.loads(study_here("runs", "--json", "--dataset", named, home=store.home.root).out)
        assert {run["data_set"] for run in listed} == keys
    refused = study_here("runs", "--dataset", "dreams", home=store.home.root)
    assert refused.code == 2
    assert "'dreams': choose one of birds-1a2b, birds-1a2b-64px, digits" in refused.err
