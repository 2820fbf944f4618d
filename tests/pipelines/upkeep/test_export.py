"""A study exported and imported: the same study elsewhere, whatever stops the import on its way."""

import json
import re
import socket
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest

from pipelines.analyse import analyse
from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.session.display import Display
from pipelines.tune import tune
from pipelines.upkeep import archive_models, archive_runs, archive_searches, import_
from pipelines.upkeep.doctor import Options, Result, examine
from pipelines.upkeep.export import export
from study.config import AnalysisConfig, DataConfig, Home
from study.errors import StudyError
from study.search import search
from study.search.storage import open_storage
from study.tracking import best
from study.tracking.registry import model_digests
from study.tracking.runs import Run
from study.tracking.store import Store
from tests.conftest import Finished, copy_of, surroundings
from tests.support.postgres import Databases
from tests.support.process import study_here

DIGITS = DataConfig(dataset="digits")
MOST = 2**30
OF_THE_STORE = {"mlflow.parentRunId", "trial_run", "retrain_run", "imported_from"}


def exported(context: Context, target: Path, **wanted: list[str]) -> Path:
    export(target, context, **{"searches": [], "datasets": [], "runs": [], **wanted})
    return target


def imported(source: Path, context: Context, *renames: str) -> None:
    with import_.verified(source, context.home, most=MOST, display=Display()) as archive:
        import_.import_study(archive, context, renames=import_.renames_in(archive, renames))


@pytest.fixture(scope="module")
def archive(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(finished_study.context, tmp_path_factory.mktemp("archive") / "all.zip")


@pytest.fixture(scope="module")
def one_search(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "ffnn"
    return exported(finished_study.context, folder, searches=["digits-ffnn"])


@pytest.fixture(scope="module")
def elsewhere(archive: Path, migrated: Home, machine, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The finished study, imported into a new home: to be read, and not changed."""
    context = surroundings(copy_of(migrated, tmp_path_factory.mktemp("elsewhere") / "home"), machine)
    imported(archive, context)
    return context


def pairs(before: Context, after: Context) -> list[tuple[Run, Run]]:
    """Every run, and what it became."""
    became = {run.tags.get("imported_from"): run for run in after.store.runs()}
    return [(run, became[run.id]) for run in before.store.runs()]


def points(store: Store, run: Run) -> set[tuple[str, float, int, int]]:
    histories = [store.client.get_metric_history(run.id, name) for name in run.metrics]
    return {(point.key, point.value, point.timestamp, point.step) for history in histories for point in history}


def files(store: Store, run: Run, into: Path) -> dict[str, bytes]:
    folder = into / run.id
    archive_runs.fetch_artifacts(store, run.id, folder)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def trials(context: Context, name: str) -> list[dict[str, Any]]:
    """All that a search's storage says of its trials, but which runs mirror them."""
    record = archive_searches.record_of(open_storage(context.storage), name)
    said = [trial.model_dump(mode="json") for trial in record.trials]
    for trial in said:
        trial["user_attrs"].pop("mlflow_run")
    return said


def test_every_run_is_there_with_all_that_was_recorded(finished_study: Finished, elsewhere: Context, tmp_path: Path):
    before, after = finished_study.context.store, elsewhere.store
    both = pairs(finished_study.context, elsewhere)
    assert len(both) == len(after.runs()) == 10
    for old, new in both:
        assert (new.name, new.status, new.started, new.params, new.metrics) == (
            old.name,
            old.status,
            old.started,
            old.params,
            old.metrics,
        )
        assert points(before, old) == points(after, new)
        assert files(before, old, tmp_path) == files(after, new, tmp_path)
        for tags in (old.tags, new.tags):
            assert not [name for name in tags if name.startswith("importing")]
        kept = [{name: value for name, value in run.tags.items() if name not in OF_THE_STORE} for run in (old, new)]
        assert kept[0] == kept[1]


def test_runs_are_in_the_same_order_and_under_the_same_data_set(finished_study: Finished, elsewhere: Context):
    before, after = finished_study.context.store, elsewhere.store
    assert [run.name for run in before.runs(["digits"])] == [run.name for run in after.runs(["digits"])]


def test_references_between_runs_and_from_trials_follow(finished_study: Finished, elsewhere: Context):
    became = {old.id: new.id for old, new in pairs(finished_study.context, elsewhere)}
    for old, new in pairs(finished_study.context, elsewhere):
        for name in OF_THE_STORE - {"imported_from"}:
            assert new.tags.get(name) == became.get(old.tags.get(name, ""))
    for name in ("digits-cnn", "digits-ffnn"):
        here = optuna.load_study(study_name=name, storage=elsewhere.storage)
        for trial in here.trials:
            assert elsewhere.store.get(trial.user_attrs["mlflow_run"]).tags["optuna_trial"] == str(trial.number)


def test_searches_are_equal_to_the_last_digit_and_microsecond(finished_study: Finished, elsewhere: Context):
    for name in ("digits-cnn", "digits-ffnn"):
        assert trials(finished_study.context, name) == trials(elsewhere, name)


def test_the_registered_model_answers_as_before(finished_study: Finished, elsewhere: Context):
    pixels = finished_study.dataset.test.images[:3].float().numpy()
    answers = []
    for context in (finished_study.context, elsewhere):
        mlflow.set_tracking_uri(context.store.uri)
        answers.append(mlflow.pyfunc.load_model("models:/digits-cnn@best").predict(pixels))
    np.testing.assert_array_equal(*answers)
    [version] = elsewhere.store.client.search_model_versions("name='digits-cnn'")
    assert version.run_id == best.best_retrained(elsewhere.store, "cnn").id
    assert set(version.tags) == {"val_accuracy"}
    uri = elsewhere.store.client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    described = (Path(uri.removeprefix("file://")) / "MLmodel").read_text()
    assert f"artifact_path: {uri}" in described
    assert version.run_id in described


def test_an_import_is_found_whole_with_the_hashes_of_its_models(finished_study: Finished, elsewhere: Context):
    assert examine(elsewhere, Options()) == Result()
    for old, new in pairs(finished_study.context, elsewhere):
        if old.tags["stage"] == "retrain":
            (model,) = elsewhere.store.client.get_run(new.id).outputs.model_outputs
            before = finished_study.context.store.client.get_run(old.id).outputs.model_outputs
            assert model.model_id != before[0].model_id
            kept = elsewhere.store.sums(new.id, "MODEL_SHA256SUMS")
            assert "data/model.pt2" in kept
            assert kept.items() <= model_digests(elsewhere.store, new.id).items()


def test_an_export_of_an_import_is_analysed_with_equal_numbers(
    finished_study: Finished, elsewhere: Context, migrated: Home, machine, tmp_path: Path
):
    again = surroundings(copy_of(migrated, tmp_path / "again"), machine)
    imported(exported(elsewhere, tmp_path / "folder"), again)
    assert {run.tags["imported_from"] for run in again.store.runs()} == {
        run.id for run in finished_study.context.store.runs()
    }
    third = surroundings(copy_of(migrated, tmp_path / "third"), machine)
    imported(exported(again, tmp_path / "third.zip"), third)
    tables = []
    for context in (again, third):
        settings = AnalysisConfig(only=("table2", "convergence", "architecture"))
        made = analyse("best", settings, context, DIGITS, loaded=finished_study.dataset)
        tables.append({file.name: file.read_bytes() for file in made.page.parent.glob("*.csv")})
    assert tables[0] == tables[1]
    assert "table2.csv" in tables[0]


def test_the_same_command_continues_an_imported_search_as_it_would_have_gone_on(
    finished_study: Finished, archive: Path, home: Home, other_home: Home, machine
):
    config = replace(finished_study.searches["ffnn"], trials=5)
    whole, continued = surroundings(home, machine), surroundings(other_home, machine)
    tune(config, DIGITS, finished_study.dataset, whole)
    imported(archive, continued)
    parent = tune(config, DIGITS, finished_study.dataset, continued)
    assert continued.store.get(parent).tags["imported_from"] == finished_study.parents["ffnn"]
    tables = [
        search.trials_table(optuna.load_study(study_name=config.name, storage=c.storage)) for c in (whole, continued)
    ]
    assert len(tables[0]) == 5
    assert tables[0].equals(tables[1])


def test_importing_again_does_nothing_and_says_so(archive: Path, elsewhere: Context, capsys):
    runs = [(run.id, run.tags, run.metrics) for run in elsewhere.store.runs()]
    imported(archive, elsewhere)
    assert "10 runs are here already" in capsys.readouterr().out
    assert [(run.id, run.tags, run.metrics) for run in elsewhere.store.runs()] == runs


def test_what_came_from_here_is_here_already(finished_study: Finished, elsewhere: Context, tmp_path: Path, capsys):
    imported(exported(elsewhere, tmp_path / "back.zip"), finished_study.context)
    assert "10 runs are here already" in capsys.readouterr().out
    assert len(finished_study.context.store.runs()) == 10


def test_what_was_added_since_is_imported_alone(
    finished_study: Finished, one_search: Path, home: Home, other_home: Home, machine, tmp_path: Path, capsys
):
    first = surroundings(home, machine)
    imported(one_search, first)
    trial = best.best_trial(first.store, "digits", "ffnn")
    retrain(trial, DIGITS, finished_study.dataset, first, epochs=1, seed=9)
    more = exported(first, tmp_path / "more.zip")
    second = surroundings(other_home, machine)
    imported(one_search, second)
    capsys.readouterr()
    imported(more, second)
    said = capsys.readouterr().out
    assert "Imported 1 run and 1 model" in said
    assert "5 runs are here already" in said
    [added] = second.store.runs(stage="retrain", seed="9")
    assert added.tags["trial_run"] == best.best_trial(second.store, "digits", "ffnn").id


def test_another_search_of_the_same_name_is_refused_or_renamed(
    finished_study: Finished, one_search: Path, context: Context
):
    config = replace(finished_study.searches["ffnn"], trials=1, seed=7)
    tune(config, DIGITS, finished_study.dataset, context)
    runs = {run.id for run in context.store.runs()}
    with pytest.raises(StudyError, match=r"digits-ffnn.*--rename"):
        imported(one_search, context)
    assert {run.id for run in context.store.runs()} == runs
    imported(one_search, context, "digits-ffnn=from elsewhere")
    renamed = context.store.runs(search="from elsewhere")
    assert len(renamed) == 5
    assert {run.name for run in renamed} >= {"from elsewhere", "trial 0 of from elsewhere"}
    assert trials(finished_study.context, "digits-ffnn") == trials(context, "from elsewhere")
    imported(one_search, context, "digits-ffnn=from elsewhere")
    assert len(context.store.runs(search="from elsewhere")) == 5


def test_a_run_is_exported_with_what_it_needs(finished_study: Finished, tmp_path: Path):
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    folder = exported(finished_study.context, tmp_path / "one", runs=[run_id[:12]])
    manifest = json.loads((folder / "study.json").read_text())
    wanted = {run.id for run in store.runs(search="digits-cnn") if run.tags["stage"] != "retrain"}
    assert set(manifest["runs"]) == wanted | {run_id}
    assert list(manifest["searches"]) == ["digits-cnn"]


def test_other_tools_read_an_archive(archive: Path, tmp_path: Path):
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        opened.extractall(tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    said = {line[66:] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()}
    there = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert there - said == {"SHA256SUMS"}
    assert {Path(name).suffix for name in there if "/models/" not in name} <= {
        "", ".json", ".csv", ".safetensors", ".png", ".svg", ".md", ".html", ".gif"
    }  # fmt: skip


@pytest.mark.parametrize("wanted", [{"searches": ["no such"]}, {"datasets": ["birds"]}, {"runs": ["nothing"]}])
def test_what_is_not_there_is_named_and_leaves_no_file(wanted: dict, finished_study: Finished, tmp_path: Path):
    with pytest.raises(StudyError, match=next(iter(wanted.values()))[0]):
        exported(finished_study.context, tmp_path / "none.zip", **wanted)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_cut_off_leaves_nothing(finished_study: Finished, tmp_path: Path, monkeypatch):
    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(archive_runs, "fetch_artifacts", cut_off)
    with pytest.raises(KeyboardInterrupt):
        exported(finished_study.context, tmp_path / "half.zip")
    assert list(tmp_path.iterdir()) == []


def test_what_killed_exports_and_imports_left_is_removed_by_the_next(finished_study: Finished, tmp_path: Path):
    with subprocess.Popen(["true"]) as killed:
        pass
    (tmp_path / "new home" / "mlruns").mkdir(parents=True)
    left = [tmp_path / ".half.zip", tmp_path / "new home" / "mlruns" / ".import"]
    left = [path.with_name(f"{path.name}.{killed.pid}@{socket.gethostname()}.part") for path in left]
    for folder in left:
        (folder / "study").mkdir(parents=True)
    exported(finished_study.context, tmp_path / "whole.zip", searches=["digits-ffnn"])
    assert study_here("import", str(tmp_path / "whole.zip"), home=tmp_path / "new home").code == 0
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
    with pytest.raises(StudyError, match="is there already"):
        exported(finished_study.context, tmp_path / "there.zip")
    assert (tmp_path / "there.zip").read_text() == "something else"


def test_what_is_under_way_is_not_exported(
    finished_study: Finished, one_search: Path, context: Context, tmp_path: Path
):
    imported(one_search, context)
    opened = optuna.load_study(study_name="digits-ffnn", storage=context.storage)
    opened.ask()
    with pytest.raises(StudyError, match=r"Trial 3 of search digits-ffnn is under way.*doctor"):
        exported(context, tmp_path / "some")
    opened.tell(3, state=optuna.trial.TrialState.FAIL)
    running = context.store.start("digits", "a retraining", tags={"stage": "retrain"}, params={})
    with pytest.raises(StudyError, match=f"{running}.*is under way"):
        exported(context, tmp_path / "some")
    exported(context, tmp_path / "some", searches=["digits-ffnn"])


def test_databases_on_a_server_take_a_study_and_give_it_back(
    finished_study: Finished, one_search: Path, context: Context, databases: Databases, tmp_path: Path
):
    there = replace(context, store=Store(context.home, databases.tracking), storage=databases.storage)
    with stopped("before the runs appeared", Killed, killed=True), pytest.raises(Killed):
        imported(one_search, there)
    imported(one_search, there)
    all_is_there(there, finished_study)
    back = exported(there, tmp_path / "back.zip")
    imported(back, finished_study.context)
    assert len(finished_study.context.store.runs()) == 10


def test_a_tracking_server_takes_a_study_and_gives_it_back(
    finished_study: Finished, one_search: Path, home: Home, machine, server: str, tmp_path: Path
):
    there = replace(surroundings(home, machine), store=Store(home, server))
    with stopped("within a model", KeyboardInterrupt, killed=False), pytest.raises(KeyboardInterrupt):
        imported(one_search, there)
    assert not there.store.runs()
    imported(one_search, there)
    all_is_there(there, finished_study)
    [retrained] = there.store.runs(stage="retrain")
    assert files(
        finished_study.context.store, finished_study.context.store.get(finished_study.retrained["ffnn"]), tmp_path
    ) == files(there.store, retrained, tmp_path)
    assert not (home.store / "artifacts").exists(), "artifacts went to the server"
    imported(exported(there, tmp_path / "back.zip"), finished_study.context)
    assert len(finished_study.context.store.runs()) == 10


class Killed(BaseException):
    """What no code here knows, as it does not know a SIGKILL."""


MOMENTS = {
    "before the first run": (archive_runs, "bring", 1),
    "before the third run": (archive_runs, "bring", 3),
    "within a run": (archive_runs, "_bring_points", 2),
    "within a model": (archive_runs, "_describe_anew", 1),
    "before the registered model": (archive_models, "bring_versions", 1),
    "before the search": (archive_searches, "bring", 1),
    "within the search": (archive_searches, "frozen", 5),  # the first three are of the verification
    "before all was there": (archive_runs, "seal", 1),
    "before the search appeared": (archive_searches, "complete", 1),
    "before the runs appeared": (archive_runs, "complete", 1),
    "while the runs appeared": (archive_runs, "give_aliases", 3),
}


@contextmanager
def stopped(moment: str, error: type[BaseException], *, killed: bool) -> Iterator[None]:
    """Raises `error` at this moment; with `killed` nothing is cleaned up after it."""
    module, name, number = MOMENTS[moment]
    original: Callable[..., Any] = getattr(module, name)
    calls = 0

    def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            if killed:
                patch.setattr(import_, "_settle", lambda storage, context: None)
            raise error
        return original(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, counted)
        yield


def nothing_is_there(context: Context) -> None:
    assert not context.store.runs()
    assert not context.store.client.search_registered_models()
    assert not optuna.get_all_study_names(context.storage)
    assert not [file for file in (context.home.store / "artifacts").rglob("*") if file.is_file()]


def all_is_there(context: Context, finished_study: Finished) -> None:
    assert len(context.store.runs()) == len(context.store.runs(search="digits-ffnn")) == 5
    assert not [name for run in context.store.runs() for name in run.tags if name.startswith("importing")]
    assert context.store.client.get_model_version_by_alias("digits-ffnn", "best").version in (1, "1")
    assert trials(finished_study.context, "digits-ffnn") == trials(context, "digits-ffnn")
    assert not archive_searches.unfinished(open_storage(context.storage))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_import_shows_nothing_half_and_is_made_good(
    moment: str, one_search: Path, context: Context, finished_study: Finished
):
    with stopped(moment, Killed, killed=True), pytest.raises(Killed):
        imported(one_search, context)
    if "appeared" not in moment:
        assert not [run for run in context.store.runs() if "stage" in run.tags]
        with pytest.raises(StudyError):
            best.best_trial(context.store, "digits", "ffnn")
    if moment != "while the runs appeared":
        config = finished_study.searches["ffnn"]
        if "digits-ffnn" in optuna.get_all_study_names(context.storage) and "runs appeared" not in moment:
            with pytest.raises(StudyError, match="Only a part of the search"):
                search.open_search(config, context.storage, digest=finished_study.dataset.digest)
    imported(one_search, context)
    all_is_there(context, finished_study)


@pytest.mark.parametrize("moment", ["within a run", "within the search", "before the runs appeared"])
def test_an_interrupted_import_is_undone_or_finished_at_once(
    moment: str, one_search: Path, context: Context, finished_study: Finished
):
    with stopped(moment, KeyboardInterrupt, killed=False), pytest.raises(KeyboardInterrupt):
        imported(one_search, context)
    if "appeared" in moment:
        all_is_there(context, finished_study)
    else:
        nothing_is_there(context)


def test_the_commands_say_what_comes_next(finished_study: Finished, tmp_path: Path):
    target, home = tmp_path / "the study.zip", tmp_path / "home"
    done = study_here("export", str(target), home=finished_study.context.home.root)
    assert done.code == 0, done.err
    assert "Exported 10 runs, 2 models, 2 searches and 6 trials" in done.out
    assert f"study import '{target}'" in done.out
    done = study_here("import", str(target), home=home)
    assert done.code == 0, done.err
    assert "Imported 10 runs, 2 models, 2 searches and 6 trials" in done.out
    command = re.search(r"study (analyse .*)", done.out)
    assert command
    assert command[1].endswith("--run best")
    assert sorted(path.name for path in (home / "mlruns").iterdir() if "import" in path.name) == [".import.lock"]
