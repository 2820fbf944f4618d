"""A study exported and imported: the same study in another home."""

import contextlib
import json
import re
import socket
import sqlite3
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pandas as pd
import pytest

from pipelines.analyse import analyse
from pipelines.config import AnalysisConfig
from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.session.display import Display
from pipelines.session.mlflow_pages import VIEW
from pipelines.tune import tune
from pipelines.upkeep import export as stage
from pipelines.upkeep import import_
from pipelines.upkeep.doctor import Options, Result, examine
from pipelines.upkeep.export import export
from pipelines.upkeep.relocate import SERVED, Tables, local
from study.device import Machine
from study.errors import StudyError
from study.home import Home
from study.search import search
from study.search.storage import open_storage
from study.system import databases
from study.tracking import best
from study.tracking.registry import model_digests
from study.tracking.runs import Run
from study.tracking.store import Store
from tests.conftest import Finished, copy_of, surroundings
from tests.support.process import study_here

MOST = 2**30


def exported(context: Context, target: Path, **wanted: list[str]) -> Path:
    export(target, context, **{"searches": [], "datasets": [], "runs": [], **wanted})
    return target


def imported(source: Path, home: Home, machine: Any) -> Context:
    import_.import_study(source, home, most=MOST, display=Display())
    return surroundings(home, machine)


@pytest.fixture(scope="module")
def archive(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(finished_study.context, tmp_path_factory.mktemp("archive") / "all.zip")


@pytest.fixture(scope="module")
def one_search(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "ffnn"
    return exported(finished_study.context, folder, searches=["digits-ffnn"])


@pytest.fixture(scope="module")
def elsewhere(archive: Path, machine, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The finished study, imported into a new home: to be read, and not changed."""
    return imported(archive, Home(root=tmp_path_factory.mktemp("elsewhere") / "new home"), machine)


def points(store: Store, run: Run) -> set[tuple[str, float, int, int]]:
    histories = [store.client.get_metric_history(run.id, name) for name in run.metrics]
    return {(point.key, point.value, point.timestamp, point.step) for history in histories for point in history}


def files(store: Store, run: Run) -> dict[str, bytes]:
    folder = local(store.client.get_run(run.id).info.artifact_uri)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def data_sets(store: Store, run: Run) -> list[dict[str, object]]:
    """The dataset inputs of a run."""
    return [entry.to_dictionary() for entry in store.client.get_run(run.id).inputs.dataset_inputs]


def test_every_run_is_there_with_all_that_was_recorded(finished_study: Finished, elsewhere: Context):
    before, after = finished_study.context.store, elsewhere.store
    assert before.runs() == after.runs()
    assert {"search", "trial", "retrain"} <= {run.stage for run in after.runs()}
    for run in after.runs():
        assert points(before, run) == points(after, run)
        assert files(before, run) == files(after, run)
        assert data_sets(before, run) == data_sets(after, run)
        assert local(after.client.get_run(run.id).info.artifact_uri).is_relative_to(elsewhere.home.store)


def test_what_a_server_on_the_store_recorded_is_exported_as_well(archive: Path, machine: Machine, tmp_path: Path):
    served = imported(archive, Home(root=tmp_path / "served"), machine)
    tables, root = Tables(served.store.uri), str(served.store.artifacts_root)
    tables.relocate(root, SERVED, local(root))
    tables.close()
    served = surroundings(served.home, machine)
    assert {run.info.artifact_uri[: len(SERVED)] for run in served.store.client.search_runs(["1"])} == {SERVED}
    after = imported(exported(served, tmp_path / "archive"), Home(root=tmp_path / "after"), machine)
    assert after.store.runs() == served.store.runs()
    assert examine(after, Options()) == Result()


def test_descriptions_and_views_are_kept(finished_study: Finished, elsewhere: Context, one_search: Path):
    before = finished_study.context.store.experiments.tags("1")
    assert elsewhere.store.experiments.tags("1") == before
    assert {"mlflow.note.content", *views_of(finished_study, "cnn", "ffnn")} <= before.keys()
    with contextlib.closing(sqlite3.connect(one_search / "mlflow.db")) as database:
        kept = {row[0] for row in database.execute("SELECT key FROM experiment_tags")}
        data_sets_of = database.execute("SELECT count(*) FROM inputs WHERE source_type = 'DATASET'").fetchone()
    assert kept == {"mlflow.note.content", *views_of(finished_study, "ffnn")}
    # Of the search and of its retrained run.
    assert data_sets_of == (2,)


def views_of(finished_study: Finished, *models: str) -> set[str]:
    ids = [finished_study.parents[model] for model in models]
    return {f"{VIEW}{kind}-{run_id}" for kind in ("trials", "compare") for run_id in ids}


def test_searches_are_equal_to_the_last_digit_and_microsecond(finished_study: Finished, elsewhere: Context):
    for name in ("digits-cnn", "digits-ffnn"):
        trials = [
            optuna.load_study(study_name=name, storage=context.storage).trials
            for context in (finished_study.context, elsewhere)
        ]
        assert trials[0] == trials[1]
        assert len(trials[0]) == 3


def test_the_registered_model_answers_as_before(finished_study: Finished, elsewhere: Context):
    pixels = finished_study.dataset.test.images[:3].numpy()
    answers = []
    for context in (finished_study.context, elsewhere):
        mlflow.set_tracking_uri(context.store.uri)
        answers.append(mlflow.pyfunc.load_model("models:/digits-cnn@best").predict(pixels))
    pd.testing.assert_frame_equal(*answers)
    [version] = elsewhere.store.client.search_model_versions("name='digits-cnn'")
    assert version.run_id == best.best_retrained(elsewhere.store, "cnn").id
    uri = elsewhere.store.client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    assert f"artifact_path: {uri}" in (local(uri) / "MLmodel").read_text()


def test_an_import_is_found_whole_with_the_hashes_of_its_models(elsewhere: Context):
    assert examine(elsewhere, Options()) == Result()
    for run in elsewhere.store.runs(stage="retrain"):
        kept = elsewhere.store.sums(run.id, "MODEL_SHA256SUMS")
        assert "data/network/weights.safetensors" in kept
        assert kept.items() <= model_digests(elsewhere.store, run.id).items()


def test_an_export_of_an_import_is_analysed_with_equal_numbers(
    finished_study: Finished, elsewhere: Context, machine, tmp_path: Path
):
    again = imported(exported(elsewhere, tmp_path / "folder"), Home(root=tmp_path / "again"), machine)
    tables = []
    for context in (elsewhere, again):
        settings = AnalysisConfig(only=("table2", "convergence", "architecture"))
        analysis = analyse("best", settings, context, data=finished_study.dataset)
        tables.append({file.name: file.read_bytes() for file in analysis.page.parent.glob("*.csv")})
    assert tables[0] == tables[1]
    assert "table2.csv" in tables[0]


def test_the_same_command_continues_an_imported_search_as_it_would_have_gone_on(
    finished_study: Finished, archive: Path, home: Home, machine, tmp_path: Path
):
    config = replace(finished_study.searches["ffnn"], trials=5)
    whole = surroundings(home, machine)
    continued = imported(archive, Home(root=tmp_path / "new"), machine)
    tune(config, finished_study.dataset, whole)
    parent = tune(config, finished_study.dataset, continued)
    assert parent == finished_study.parents["ffnn"]
    tables = [
        search.trials_table(optuna.load_study(study_name=config.name, storage=c.storage)) for c in (whole, continued)
    ]
    assert len(tables[0]) == 5
    assert tables[0].equals(tables[1])


def test_the_commands_work_on_what_was_imported(finished_study: Finished, tmp_path: Path):
    target, home = tmp_path / "the study.zip", tmp_path / "home"
    done = study_here("export", str(target), home=finished_study.context.home.root)
    assert done.code == 0, done.err
    content = f"{len(finished_study.context.store.runs())} runs, 2 models, 2 searches and 6 trials"
    assert f"Exported {content}" in done.out
    assert f"study import '{target}' --home NEW" in done.out
    done = study_here("import", str(target), home=home)
    assert done.code == 0, done.err
    assert f"Imported {content}" in done.out
    assert re.search(rf"^  study analyse --run \w+ --home '?{re.escape(str(home))}'?$", done.out, re.M), done.out
    assert sorted(path.name for path in home.iterdir()) == ["mlruns"]
    assert sorted(path.name for path in (home / "mlruns").iterdir()) == ["artifacts", "mlflow.db", "optuna.db"]
    listed = study_here("runs", home=home)
    assert (listed.code, "retrain" in listed.out) == (0, True)
    assert study_here("analyse", "--run", "best:ffnn", "--only", "convergence", home=home).code == 0
    more = ("--model", "ffnn", "--trials", "1", "--epochs", "1", "--search", "more", "--dataset", "digits")
    tuned = study_here("tune", *more, home=home)
    assert tuned.code == 0, tuned.err
    checked = study_here("doctor", home=home)
    assert (checked.code, "No problems found" in checked.out) == (0, True), checked.out


def test_a_home_that_is_not_empty_is_refused(archive: Path, home: Home):
    before = (home.store / "mlflow.db").read_bytes()
    ended = study_here("import", str(archive), home=home.root)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "--home NEW" in ended.err
    assert (home.store / "mlflow.db").read_bytes() == before


def bytes_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def test_what_is_not_chosen_is_nowhere_in_the_archive(finished_study: Finished, one_search: Path):
    store, content = finished_study.context.store, bytes_in(one_search)
    kept = {run.id for run in store.runs(search="digits-ffnn")}
    assert {finished_study.parents["ffnn"], finished_study.retrained["ffnn"]} < kept
    for run in store.runs():
        assert (run.id.encode() in content) == (run.id in kept)
    assert b"digits-cnn" not in content
    assert finished_study.context.home.root.as_uri().encode() not in content


def test_one_search_is_imported_with_its_runs_and_model(
    finished_study: Finished, one_search: Path, machine, tmp_path: Path
):
    alone = imported(one_search, Home(root=tmp_path / "alone"), machine)
    assert {run.id for run in alone.store.runs()} == {
        run.id for run in finished_study.context.store.runs(search="digits-ffnn")
    }
    assert optuna.get_all_study_names(alone.storage) == ["digits-ffnn"]
    assert [model.name for model in alone.store.client.search_registered_models()] == ["digits-ffnn"]
    assert alone.store.client.get_model_version_by_alias("digits-ffnn", "best")
    assert examine(alone, Options()) == Result()


def test_a_run_is_exported_with_what_it_needs(finished_study: Finished, tmp_path: Path):
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    folder = exported(finished_study.context, tmp_path / "one", runs=[run_id[:12]])
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        kept = {row[0] for row in database.execute("SELECT run_uuid FROM runs")}
    wanted = {run.id for run in store.runs(search="digits-cnn") if run.stage in ("search", "trial")}
    # Analyses are below it.
    assert kept == wanted | {run_id} | {run.id for run in store.runs(parent=run_id)}
    assert json.loads((folder / "study.json").read_text())["counts"]["searches"] == 1


def test_runs_of_other_programs_and_deleted_ones_stay_behind(
    finished_study: Finished, one_search: Path, machine, tmp_path: Path
):
    context = imported(one_search, Home(root=tmp_path / "home"), machine)
    client = context.store.client
    foreign = client.create_run(client.create_experiment("another program")).info.run_id
    deleted = retrain(
        best.best_trial(context.store, "digits", "ffnn"), finished_study.dataset, context, epochs=1, seed=9
    )
    client.delete_run(deleted)
    content = bytes_in(exported(context, tmp_path / "some"))
    assert foreign.encode() not in content
    assert deleted.encode() not in content
    assert b"another program" not in content
    assert finished_study.retrained["ffnn"].encode() in content
    assert client.get_run(foreign).info.lifecycle_stage == "active"


def test_a_network_that_is_not_there_is_told_with_the_home_itself(finished_study: Finished, tmp_path: Path):
    with pytest.raises(StudyError, match="No resnet18 was searched") as refused:
        export(tmp_path / "none.zip", finished_study.context, searches=[], datasets=[], runs=["best:resnet18"])
    assert str(finished_study.context.home.root) in str(refused.value)


def test_other_tools_read_an_archive(archive: Path, tmp_path: Path):
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        opened.extractall(tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    names = {line[66:] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()}
    there = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert there - names == {"SHA256SUMS"}
    assert {name for name in there if "/" not in name} == {"SHA256SUMS", "study.json", "mlflow.db", "optuna.db"}


@pytest.mark.parametrize("wanted", [{"searches": ["no such"]}, {"datasets": ["birds"]}, {"runs": ["nothing"]}])
def test_what_is_not_there_is_named_and_leaves_no_file(wanted: dict, finished_study: Finished, tmp_path: Path):
    with pytest.raises(StudyError, match=next(iter(wanted.values()))[0]):
        exported(finished_study.context, tmp_path / "none.zip", **wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["_picked", "_copy_artifacts", "compact", "write_sums"])
def test_an_export_that_is_cut_off_leaves_nothing(step: str, finished_study: Finished, tmp_path: Path, monkeypatch):
    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, step, cut_off)
    with pytest.raises(KeyboardInterrupt):
        exported(finished_study.context, tmp_path / "half.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["require_harmless", "check_runs", "flush"])
def test_an_import_that_is_cut_off_leaves_nothing(step: str, one_search: Path, tmp_path: Path, monkeypatch):
    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    home = Home(root=tmp_path / "new")
    monkeypatch.setattr(import_, step, cut_off)
    with pytest.raises(KeyboardInterrupt):
        import_.import_study(one_search, home, most=MOST, display=Display())
    assert list(home.root.iterdir()) == []


def test_what_killed_exports_and_imports_left_is_removed_by_the_next(finished_study: Finished, tmp_path: Path):
    with subprocess.Popen(["true"]) as killed:
        pass
    home = tmp_path / "new home"
    home.mkdir()
    left = [tmp_path / ".half.zip", home / ".import"]
    left = [path.with_name(f"{path.name}.{killed.pid}@{socket.gethostname()}.part") for path in left]
    for folder in left:
        (folder / "study").mkdir(parents=True)
    exported(finished_study.context, tmp_path / "whole.zip", searches=["digits-ffnn"])
    assert study_here("import", str(tmp_path / "whole.zip"), home=home).code == 0
    assert not any(folder.exists() for folder in left)


def test_it_says_how_large_the_file_is_and_what_it_unpacks_to(finished_study: Finished, tmp_path: Path):
    target = tmp_path / "small.zip"
    ended = study_here("export", str(target), "--search", "digits-ffnn", home=finished_study.context.home.root)
    with zipfile.ZipFile(target) as kept:
        unpacked = sum(entry.file_size for entry in kept.infolist())
    assert target.stat().st_size < unpacked
    assert f"{target}: {target.stat().st_size / 1e6:,.1f} MB, unpacked " in ended.out
    assert f" files, {unpacked / 1e6:,.1f} MB." in ended.out


def test_nothing_is_written_over(finished_study: Finished, tmp_path: Path):
    (tmp_path / "there.zip").write_text("something else")
    with pytest.raises(StudyError, match="already exists"):
        exported(finished_study.context, tmp_path / "there.zip")
    assert (tmp_path / "there.zip").read_text() == "something else"


def test_what_is_under_way_is_not_exported(finished_study: Finished, one_search: Path, machine, tmp_path: Path):
    context = imported(one_search, Home(root=tmp_path / "home"), machine)
    opened = optuna.load_study(study_name="digits-ffnn", storage=context.storage)
    opened.ask()
    with pytest.raises(StudyError, match=r"Trial 3 of search digits-ffnn is under way.*doctor"):
        exported(context, tmp_path / "some")
    opened.tell(3, state=optuna.trial.TrialState.FAIL)
    running = context.store.start("digits", "a retraining", tags={"stage": "retrain"}, params={})
    with pytest.raises(StudyError, match=f"{running}.*is under way"):
        exported(context, tmp_path / "some")
    exported(context, tmp_path / "some", searches=["digits-ffnn"])


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_a_database_that_stays_locked_is_named(
    name: str, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(databases, "PATIENCE", 0)
    monkeypatch.setattr(stage, "TIMEOUT", 0.01)
    file = context.home.store / name
    open_storage(context.storage)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StudyError, match=f"The database sqlite:///{file} is locked by another process"):
            exported(context, tmp_path / "some")
    assert f"{file} is locked by another process (database is locked): retrying" in capsys.readouterr().out
    assert not (tmp_path / "some").exists()


@pytest.mark.parametrize(
    "options",
    [("--tracking-uri", "http://127.0.0.1:9"), ("--storage", "postgresql://somebody:geheim@127.0.0.1:9/optuna")],
)
def test_what_a_server_keeps_is_not_exported(options: tuple[str, str], home: Home, tmp_path: Path):
    ended = study_here("export", str(tmp_path / "some"), *options, home=home.root)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "is on a server" in ended.err
    assert "geheim" not in ended.err
    assert not (tmp_path / "some").exists()


def test_a_home_that_was_moved_is_to_be_repaired_first(one_search: Path, machine, tmp_path: Path):
    context = imported(one_search, Home(root=tmp_path / "home"), machine)
    moved = surroundings(copy_of(context.home, tmp_path / "moved"), machine)
    with pytest.raises(StudyError, match=r"outside .*doctor --fix"):
        exported(moved, tmp_path / "some")
