"""Archives that are broken, or made to do harm: each is refused with one sentence, and nothing is changed."""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from pipelines.session.display import Display
from pipelines.upkeep.export import export
from pipelines.upkeep.import_ import import_study
from study.errors import StudyError
from study.home import Home
from tests.conftest import Finished
from tests.support.process import study_here


@pytest.fixture(scope="module")
def whole(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "study"
    export(folder, finished_study.context, searches=["digits-ffnn"], datasets=[], runs=[])
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "archive"))


def require_refused(source: Path, *, says: str) -> None:
    home = Home(root=source.parent / "new home")
    before = everything(source.parent)
    with pytest.raises(StudyError) as refused:
        import_study(source, home, most=2**30, display=Display())
    assert says in str(refused.value)
    assert everything(source.parent) == before, "nothing is written, in the home or outside it"


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - {"new home"}


def summed(folder: Path) -> None:
    """Writes hashes that fit, so that what was changed is not seen by them."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if not line.endswith("  SHA256SUMS\n")))


def change(file: Path, edit: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def append(file: Path, text: str) -> None:
    with file.open("ab") as opened:
        opened.write(text.encode())


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "study.json").unlink(), "study.json is missing"),
    "no hashes": (lambda f: (f / "SHA256SUMS").unlink(), "no file SHA256SUMS"),
    "a file too many": (lambda f: (f / "artifacts" / "more").write_text(""), "artifacts/more is not listed"),
    "a byte more": (lambda f: append(f / "optuna.db", " "), "was changed"),
    "hashes that are none": (lambda f: (f / "SHA256SUMS").write_text("abc  study.json\n"), "line 1 of SHA256SUMS"),
    "hashes that are no text": (lambda f: (f / "SHA256SUMS").write_bytes(b"\xff\xfe"), "SHA256SUMS is not text"),
    "a hash from elsewhere": (
        lambda f: append(f / "SHA256SUMS", f"{'0' * 64}  ../../secret\n"),
        "not a path inside it",
    ),
    "a hash twice": (
        lambda f: (f / "SHA256SUMS").write_text((f / "SHA256SUMS").read_text() * 2),
        "again",
    ),
    "a link": (lambda f: (f / "artifacts" / "link").symlink_to("/etc/passwd"), "link"),
    "a linked folder": (lambda f: (f / "artifacts" / "link").symlink_to("/etc"), "link"),
    "a pipe": (lambda f: os.mkfifo(f / "artifacts" / "pipe"), "a special file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(damage: str, folder: Path):
    make, says = DAMAGES[damage]
    make(folder)
    require_refused(folder, says=says)


def manifest(edit: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "study.json", edit)


def runs(statement: str) -> Callable[[Path], None]:
    """An edit of the tracking database, in which RUN, a stage in capitals, stands for a run of that stage."""

    def make(folder: Path) -> None:
        with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
            stages = database.execute("SELECT value, min(run_uuid) FROM tags WHERE key = 'stage' GROUP BY value")
            text = statement
            for stage, run_id in stages.fetchall():
                text = text.replace(stage.upper(), run_id)
            database.executescript(text)

    return make


def tag(stage: str, name: str, value: str | None) -> Callable[[Path], None]:
    if value is None:
        return runs(f"DELETE FROM tags WHERE run_uuid = '{stage}' AND key = '{name}'")
    quoted = value.replace("'", "''")
    return runs(f"INSERT OR REPLACE INTO tags (run_uuid, key, value) VALUES ('{stage}', '{name}', '{quoted}')")


def searches(statement: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with contextlib.closing(sqlite3.connect(folder / "optuna.db")) as database, database:
            database.executescript(statement)

    return make


def attribute(name: str, value: Any, trial: int = 0) -> Callable[[Path], None]:
    """Sets a user attribute of a trial."""

    def make(folder: Path) -> None:
        url = f"sqlite:///{folder}/optuna.db"
        storage = optuna.storages.RDBStorage(url)
        optuna_trial = optuna.load_study(study_name="digits-ffnn", storage=storage).trials[trial]
        storage.engine.dispose()
        text = json.dumps(value).replace("'", "''")
        searches(
            "INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json) "
            f"VALUES ({optuna_trial._trial_id}, '{name}', '{text}')"
        )(folder)

    return make


def stray(folder: Path) -> None:
    (folder / "artifacts/digits" / ("0" * 32) / "artifacts").mkdir(parents=True)
    (folder / "artifacts/digits" / ("0" * 32) / "artifacts/x").write_text("x")


VALUE = "trial_params WHERE param_name = 'learning_rate'"
LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda f: (f / "study.json").write_text("{"), "study.json: Invalid JSON"),
    "JSON of something else": (lambda f: (f / "study.json").write_text("[1, 2]"), "study.json"),
    "nested without end": (lambda f: (f / "study.json").write_text("[" * 100_000), "study.json"),
    "another format": (manifest(lambda m: m.update(format=1)), "study.json, format"),
    "an unknown field": (manifest(lambda m: m.update(more=1)), "study.json, more"),
    "a field too few": (manifest(lambda m: m.pop("counts")), "study.json, counts"),
    "counts that are wrong": (manifest(lambda m: m["counts"].update(runs=3)), "it has 5 runs, not 3"),
    "a negative count": (manifest(lambda m: m["counts"].update(runs=-1)), "counts, runs"),
    "no database": (lambda f: (f / "optuna.db").unlink(), "no file optuna.db"),
    "no manifest": (lambda f: (f / "study.json").unlink(), "no file study.json"),
    "a journal of SQLite's": (
        lambda f: (f / "mlflow.db-journal").write_text("x"),
        "mlflow.db-journal does not belong in it",
    ),
    "files of no run": (stray, "does not belong in it"),
    "a database that is none": (
        lambda f: (f / "mlflow.db").write_text("a shopping list\n" * 400),
        "mlflow.db is damaged",
    ),
    "another database": (lambda f: shutil.copy(f / "optuna.db", f / "mlflow.db"), "mlflow.db has rows in the table"),
    "a trigger": (
        runs("CREATE TRIGGER evil AFTER INSERT ON runs BEGIN DELETE FROM runs; END"),
        "the trigger 'evil'",
    ),
    "a trigger of MLflow's name": (
        runs(
            "DROP TRIGGER prevent_secrets_aad_mutation; CREATE TRIGGER prevent_secrets_aad_mutation AFTER INSERT ON "
            "runs BEGIN DELETE FROM runs; END"
        ),
        "the trigger 'prevent_secrets_aad_mutation'",
    ),
    "a view": (searches("CREATE VIEW evil AS SELECT 1"), "the view 'evil'"),
    "a virtual table": (searches("CREATE VIRTUAL TABLE evil USING fts5(x)"), "the table 'evil'"),
    "rows that no study has": (
        runs("CREATE TABLE more (x); INSERT INTO more VALUES (1)"),
        "rows in the table 'more'",
    ),
    "a time that is text": (
        runs("UPDATE runs SET start_time = 'today' WHERE run_uuid = 'TRIAL'"),
        "a text among the numbers start_time of runs",
    ),
    "a direction that is none": (
        searches("PRAGMA ignore_check_constraints = ON; UPDATE study_directions SET direction = 'best'"),
        "the searches cannot be read",
    ),
    "a later MLflow": (runs("UPDATE alembic_version SET version_num = 'ffff'"), "cannot be opened here"),
    "a later Optuna": (searches("UPDATE alembic_version SET version_num = 'v9.9.9.a'"), "cannot be opened here"),
    "files outside": (
        runs("UPDATE runs SET artifact_uri = '/etc' WHERE run_uuid = 'TRIAL'"),
        "'/etc' is not a location",
    ),
    "files upwards": (
        runs("UPDATE runs SET artifact_uri = 'file:///study/artifacts/../../etc' WHERE run_uuid = 'TRIAL'"),
        "not a path inside it",
    ),
    "files upwards, quoted": (
        runs("UPDATE runs SET artifact_uri = 'file:///study/artifacts/%2e%2e/etc' WHERE run_uuid = 'TRIAL'"),
        "not a path inside it",
    ),
    "files of another machine": (
        runs("UPDATE experiments SET artifact_location = 's3://bucket/evil' WHERE name = 'digits'"),
        "is not a location of artifacts",
    ),
    "a model elsewhere": (runs("UPDATE logged_models SET artifact_location = 'file:///etc'"), "is not a location"),
    "a version elsewhere": (runs("UPDATE model_versions SET source = 'https://host/evil'"), "is not a location"),
    "a deleted run": (runs("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = 'TRIAL'"), "were deleted"),
    "an experiment that is a path": (
        runs("UPDATE experiments SET name = '../../x' WHERE name = 'digits'"),
        "name of a folder",
    ),
    "a run under way": (runs("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = 'TRIAL'"), "the status 'RUNNING'"),
    "a time before there was any": (
        runs("UPDATE runs SET start_time = -1 WHERE run_uuid = 'TRIAL'"),
        "not a valid time",
    ),
    "a parent that is no run": (tag("TRIAL", "mlflow.parentRunId", "../x"), "not a run id"),
    "no stage": (tag("TRIAL", "stage", None), "the stage ''"),
    "an unknown stage": (tag("TRIAL", "stage", "play"), "'play'"),
    "another name": (tag("TRIAL", "mlflow.runName", "another"), "has the name"),
    "a trial without its number": (tag("TRIAL", "optuna_trial", None), "optuna_trial"),
    "a trial with a word for a number": (tag("TRIAL", "optuna_trial", "one"), "'one'"),
    "a trial with an endless number": (tag("TRIAL", "optuna_trial", "9" * 5000), "whole"),
    "a seed that torch cannot take": (tag("TRIAL", "base_seed", "9" * 30), "base_seed"),
    "a trial stopped in no epoch": (tag("TRIAL", "stopped_epoch", "x"), "stopped_epoch"),
    "a finished trial without a reason": (tag("TRIAL", "status_reason", None), "the reason None"),
    "a retraining of nothing": (tag("RETRAIN", "trial_run", None), "trial_run"),
    "a data set that is a path": (tag("TRIAL", "dataset", "../../x"), "none can have"),
    "a search with a quotation mark": (tag("TRIAL", "search", "a'b"), "none can have"),
    "runs in a circle": (tag("SEARCH", "mlflow.parentRunId", "TRIAL"), "in a circle"),
    "a retraining on no images": (
        runs("DELETE FROM params WHERE run_uuid = 'RETRAIN' AND key = 'dataset_digest'"),
        "dataset_digest",
    ),
    "a trial without params": (runs("DELETE FROM params WHERE run_uuid = 'TRIAL'"), "params that no trial has"),
    "a learning rate that is none": (
        runs("UPDATE params SET value = '-1' WHERE run_uuid = 'TRIAL' AND key = 'learning_rate'"),
        "learning_rate",
    ),
    "no settings": (searches("DELETE FROM study_user_attributes"), "the settings or trials"),
    "settings of nothing": (searches("UPDATE study_user_attributes SET value_json = '[1]'"), "the settings or trials"),
    "attributes that are no JSON": (searches("UPDATE study_user_attributes SET value_json = '{'"), "cannot be"),
    "a trial left out": (searches("DELETE FROM trials WHERE number = 0"), "it has 2 trials, not 3"),
    "trials out of order": (searches("UPDATE trials SET number = 7 WHERE number = 0"), "not numbered from 0"),
    "a trial under way": (searches("UPDATE trials SET state = 'RUNNING' WHERE number = 0"), "trial 0"),
    "no value": (searches("DELETE FROM trial_values"), "cannot be"),
    "a parameter outside": (searches("UPDATE trial_params SET param_value = 99"), "trial 0"),
    "a parameter left out": (searches(f"DELETE FROM {VALUE}"), "trial 0"),
    "a distribution that is none": (
        searches("""UPDATE trial_params SET distribution_json = '{"name": "os.system", "attributes": {}}'"""),
        "the settings or trials",
    ),
    "a distribution without ends": (
        searches("""UPDATE trial_params SET distribution_json = '{"name": "FloatDistribution", "attributes": {}}'"""),
        "the settings or trials",
    ),
    "a reason that is none": (attribute("status_reason", 3), "trial 0"),
    "a retry of a later trial": (attribute("retry_of", 1), "its retry_of is 1"),
    "a retry of no number": (attribute("retry_of", "0", trial=1), "its retry_of is '0'"),
    "a draw after its number": (attribute("draw", 1), "its draw is 1"),
    "no start": (searches("UPDATE trials SET datetime_start = NULL"), "trial 0"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_folder_whose_records_cannot_be_is_refused(lie: str, folder: Path):
    make, says = LIES[lie]
    make(folder)
    summed(folder)
    require_refused(folder, says=says)


def packed(folder: Path, target: Path, *more: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in sorted(folder.rglob("*")):
            opened.write(file, file.relative_to(folder))
        for name, content in more:
            opened.writestr(name, content)
    return target


def entry(name: str, kind: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = name
    if kind:
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


ENTRIES: dict[str, tuple[zipfile.ZipInfo, bytes, str]] = {
    "an absolute path": (entry("/etc/cron.d/evil"), b"x", "not a path inside it"),
    "a path upwards": (entry("../evil"), b"x", "not a path inside it"),
    "a path upwards in the middle": (entry("runs/../../evil"), b"x", "not a path inside it"),
    "a drive letter": (entry("C:/evil"), b"x", "not a path inside it"),
    "another separator": (entry("runs\\..\\..\\evil"), b"x", "not a path inside it"),
    "an empty part": (entry("runs//evil"), b"x", "not a path inside it"),
    "a control character": (entry("runs/\x1b[2Jevil"), b"x", "not a path inside it"),
    "a name too long": (entry("runs/" + "x" * 300), b"x", "not a path inside it"),
    "a link": (entry("runs/link", stat.S_IFLNK), b"/etc/passwd", "is a link"),
    "a device": (entry("runs/device", stat.S_IFCHR), b"", "is a link or a special file"),
    "the manifest again": (entry("study.json"), b"{}", "in it twice"),
    "a file that is a folder": (entry("study.json/x"), b"{}", "a file and a folder"),
    "what is not listed": (entry("runs/more"), b"x", "is not listed"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ENTRIES)
def test_a_zip_with_an_entry_that_does_harm_is_refused(name: str, folder: Path, tmp_path: Path):
    info, content, says = ENTRIES[name]
    info.compress_type = zipfile.ZIP_DEFLATED
    source = packed(folder, tmp_path / "evil.zip", (info, content))
    require_refused(source, says=says)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("runs/zeros", b"\0" * 20_000_000)
    require_refused(tmp_path / "bomb.zip", says="times its size")


def test_what_holds_more_than_is_allowed_is_refused(folder: Path, tmp_path: Path):
    for source in (folder, packed(folder, tmp_path / "big.zip")):
        with pytest.raises(StudyError, match=r"more than --max-size"):
            import_study(source, Home(root=tmp_path / "home"), most=1000, display=Display())
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_zip_that_ends_too_early_is_refused(share: float, folder: Path, tmp_path: Path):
    content = packed(folder, tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: int(len(content) * share)])
    require_refused(tmp_path / "cut.zip", says="damaged, or no zip")


def test_a_zip_with_bytes_changed_inside_is_refused(folder: Path, tmp_path: Path):
    source = packed(folder, tmp_path / "changed.zip")
    with zipfile.ZipFile(source) as opened:
        largest = max(opened.infolist(), key=lambda info: info.compress_size)
    content = bytearray(source.read_bytes())
    place = largest.header_offset + 100 + largest.compress_size // 2
    content[place] ^= 0xFF
    source.write_bytes(content)
    require_refused(source, says="nothing was imported")


def test_an_encrypted_zip_is_refused(folder: Path, tmp_path: Path):
    source = packed(folder, tmp_path / "locked.zip")
    content = bytearray(source.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1
    source.write_bytes(content)
    require_refused(source, says="is encrypted")


def test_what_is_no_archive_is_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    require_refused(tmp_path / "empty", says="no file SHA256SUMS")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    require_refused(tmp_path / "picture.png", says="no zip")
    require_refused(tmp_path / "nowhere", says="There is no")


def test_a_refusal_is_one_sentence(folder: Path, tmp_path: Path):
    append(folder / "mlflow.db", " ")
    ended = study_here("import", str(folder), home=tmp_path / "home")
    assert ended.code == 2
    assert ended.err.startswith("study: ")
    assert len(ended.err.splitlines()) == 1


def test_the_commands_that_make_the_reports_again_are_named(
    folder: Path, tmp_path: Path, finished_study: Finished, capsys: pytest.CaptureFixture[str]
):
    home = Home(root=tmp_path / "home")
    import_study(folder, home, most=2**30, display=Display())
    said = capsys.readouterr().out
    assert f"The reports are not in {home.reports}; to make them again:\n" in said
    assert f"  study analyse --run {finished_study.retrained['ffnn']} --home {home.root}\n" in said


def test_a_run_that_ended_before_it_started_is_imported_since_a_clock_may_be_set_back(folder: Path, tmp_path: Path):
    runs("UPDATE runs SET end_time = start_time - 3600000")(folder)
    summed(folder)
    import_study(folder, Home(root=tmp_path / "home"), most=2**30, display=Display())
