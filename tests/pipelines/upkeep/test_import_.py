"""Archives that are broken, or made to do harm: each is refused with one sentence, and nothing is changed."""

import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.session.display import Display
from pipelines.upkeep.export import export
from pipelines.upkeep.import_ import verified
from study.config import Home
from study.errors import StudyError
from tests.conftest import Finished
from tests.support.process import Ended, study_here


@pytest.fixture(scope="module")
def whole(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "study"
    export(folder, finished_study.context, searches=["digits-ffnn"], datasets=[], runs=[])
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "archive"))


def require_refused(source: Path, *, says: str, arguments: tuple[str, ...] = ()) -> None:
    home = source.parent / "new home"
    before = everything(source.parent)
    ended = study_here("import", str(source), *arguments, home=home)
    assert ended.code == 2, f"{ended.out}{ended.err}"
    require_sentence(ended, says)
    assert everything(source.parent) == before, "nothing is written, in the home or outside it"


def require_sentence(ended: Ended, says: str) -> None:
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("study: ")
    assert says in lines[0]


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "mlruns"} - {"new home"}


def summed(folder: Path) -> None:
    """Writes hashes that fit, so that what was changed is not seen by them."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if not line.endswith("  SHA256SUMS\n")))


def change(file: Path, edit: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def run_file(folder: Path, stage: str) -> Path:
    for file in sorted(folder.glob("runs/*/run.json")):
        if json.loads(file.read_text())["tags"]["stage"] == stage:
            return file
    raise AssertionError(stage)


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "study.json").unlink(), "study.json is missing"),
    "no hashes": (lambda f: (f / "SHA256SUMS").unlink(), "no file SHA256SUMS"),
    "a file too many": (lambda f: (f / "runs" / "more").write_text(""), "runs/more is not listed"),
    "a byte more": (lambda f: append(f / "searches/digits-ffnn.json", " "), "was changed"),
    "hashes that are none": (lambda f: (f / "SHA256SUMS").write_text("abc  study.json\n"), "line 1 of SHA256SUMS"),
    "hashes that are no text": (lambda f: (f / "SHA256SUMS").write_bytes(b"\xff\xfe"), "SHA256SUMS is no text"),
    "a hash from elsewhere": (
        lambda f: append(f / "SHA256SUMS", f"{'0' * 64}  ../../secret\n"),
        "no path inside it",
    ),
    "a hash twice": (
        lambda f: (f / "SHA256SUMS").write_text((f / "SHA256SUMS").read_text() * 2),
        "again",
    ),
    "a link": (lambda f: (f / "runs" / "link").symlink_to("/etc/passwd"), "link"),
    "a linked folder": (lambda f: (f / "runs" / "link").symlink_to("/etc"), "link"),
    "a pipe": (lambda f: os.mkfifo(f / "runs" / "pipe"), "no file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(damage: str, folder: Path):
    make, says = DAMAGES[damage]
    make(folder)
    require_refused(folder, says=says)


def manifest(edit: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "study.json", edit)


def of_run(stage: str, edit: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda folder: change(run_file(folder, stage), edit)


def of_search(edit: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "searches/digits-ffnn.json", edit)


def metrics(edit: Callable[[str], str]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        file = run_file(folder, "trial").with_name("metrics.csv")
        file.write_text(edit(file.read_text()))

    return make


def circle(folder: Path) -> None:
    parent = run_file(folder, "search")
    child = json.loads(run_file(folder, "trial").read_text())["id"]
    change(parent, lambda run: run["tags"].update({"mlflow.parentRunId": child}))


LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda f: (f / "study.json").write_text("{"), "study.json: Invalid JSON"),
    "JSON of something else": (lambda f: (f / "study.json").write_text("[1, 2]"), "study.json"),
    "nested without end": (lambda f: (f / "study.json").write_text("[" * 100_000), "study.json"),
    "another format": (manifest(lambda m: m.update(format=2)), "study.json, format"),
    "an unknown field": (manifest(lambda m: m.update(more=1)), "study.json, more"),
    "a field too few": (manifest(lambda m: m.pop("counts")), "study.json, counts"),
    "counts that are wrong": (manifest(lambda m: m["counts"].update(runs=3)), "it has 5 runs, and says 3"),
    "a negative count": (manifest(lambda m: m["counts"].update(runs=-1)), "counts.runs"),
    "a run that is not there": (manifest(lambda m: m["runs"].append("0" * 32)), f"no file runs/{'0' * 32}/run.json"),
    "a run twice": (manifest(lambda m: m["runs"].append(m["runs"][0])), "a run is in it twice"),
    "a run id that is a path": (manifest(lambda m: m["runs"].append("../../x")), "study.json, runs"),
    "a run left out": (manifest(lambda m: m["runs"].pop()), "has no place in it"),
    "a search elsewhere": (manifest(lambda m: m["searches"].update(x="/etc/passwd")), "is said to be in"),
    "a search that is the manifest": (manifest(lambda m: m["searches"].update(x="study.json")), "one file"),
    "a search by another name": (
        manifest(lambda m: m["searches"].update({"x": m["searches"].pop("digits-ffnn")})),
        "x",
    ),
    "a version of nothing": (
        manifest(lambda m: m["registered"][0]["versions"][0].update(model=f"m-{'0' * 32}")),
        "is no model in it",
    ),
    "an alias of nothing": (manifest(lambda m: m["registered"][0]["aliases"].update(best=7)), "not in order"),
    "the id of another run": (of_run("trial", lambda r: r.update(id="0" * 32)), "is of run 000"),
    "a status that is none": (of_run("trial", lambda r: r.update(status="RUNNING")), "status"),
    "a time before there was any": (of_run("trial", lambda r: r.update(started=-1)), "started"),
    "a time that is text": (of_run("trial", lambda r: r.update(started="today")), "started"),
    "an end before there was any": (of_run("trial", lambda r: r.update(ended=-1)), "ended"),
    "a tag that is a number": (of_run("trial", lambda r: r["tags"].update(x=1)), "tags.x"),
    "a tag without end": (of_run("trial", lambda r: r["tags"].update(x="x" * 9000)), "tags.x"),
    "no stage": (of_run("trial", lambda r: r["tags"].pop("stage")), "the stage ''"),
    "an unknown stage": (of_run("trial", lambda r: r["tags"].update(stage="play")), "'play'"),
    "a trial without its number": (of_run("trial", lambda r: r["tags"].pop("optuna_trial")), "optuna_trial"),
    "a trial with a word for a number": (of_run("trial", lambda r: r["tags"].update(optuna_trial="one")), "'one'"),
    "a trial with an endless number": (of_run("trial", lambda r: r["tags"].update(optuna_trial="9" * 5000)), "whole"),
    "a seed that torch cannot take": (of_run("trial", lambda r: r["tags"].update(base_seed="9" * 30)), "base_seed"),
    "a trial stopped in no epoch": (of_run("trial", lambda r: r["tags"].update(stopped_epoch="x")), "stopped_epoch"),
    "a finished trial without a reason": (of_run("trial", lambda r: r["tags"].pop("status_reason")), "the reason None"),
    "a retraining on no images": (of_run("retrain", lambda r: r["params"].pop("dataset_digest")), "dataset_digest"),
    "a retraining of no commit": (of_run("retrain", lambda r: r["params"].pop("git_commit")), "git_commit"),
    "a trial without params": (of_run("trial", lambda r: r["params"].clear()), "params that no trial has"),
    "a learning rate that is none": (
        of_run("trial", lambda r: r["params"].update(learning_rate="-1")),
        "learning_rate",
    ),
    "a retraining of nothing": (of_run("retrain", lambda r: r["tags"].pop("trial_run")), "trial_run"),
    "a model left out": (of_run("retrain", lambda r: r["models"].clear()), "the models of run"),
    "what is half imported": (of_run("trial", lambda r: r["tags"].update(importing_complete="yes")), "half imported"),
    "a search that is half imported": (of_search(lambda s: s["user_attrs"].update(importing="x")), "half imported"),
    "an origin that is no run": (of_run("trial", lambda r: r["tags"].update(imported_from="../x")), "no run's id"),
    "an experiment that is a path": (of_run("trial", lambda r: r.update(experiment="../../x")), "name of a folder"),
    "a data set that is a path": (of_run("trial", lambda r: r["tags"].update(dataset="../../x")), "none can have"),
    "a search with a quotation mark": (of_run("trial", lambda r: r["tags"].update(search="a'b")), "none can have"),
    "a tag that no store takes": (of_run("trial", lambda r: r["tags"].update({"a\nb": "x"})), "tags"),
    "an alias that no store takes": (manifest(lambda m: m["registered"][0]["aliases"].update({"1/x": 1})), "aliases"),
    "runs in a circle": (circle, "in a circle"),
    "metrics without names": (metrics(lambda text: text.partition("\n")[2]), "its columns are not"),
    "a metric that is a word": (metrics(lambda text: text + "x,many,1,1\n"), "could not convert"),
    "a metric at no step": (metrics(lambda text: text + "x,1.0,1,1.5\n"), "invalid literal"),
    "a metric in another age": (metrics(lambda text: text + "x,1.0,99999999999999999999,1\n"), "no point of a metric"),
    "a metric too few": (metrics(lambda text: text + "x,1.0\n"), "not enough values"),
    "metrics with a quote that never ends": (metrics(lambda text: text + '"x,1.0,1,1\n'), "metrics.csv"),
    "a trial left out": (of_search(lambda s: s["trials"].pop(0)), "not numbered from 0"),
    "a state that is none": (of_search(lambda s: s["trials"][0].update(state="RUNNING")), "state"),
    "no value": (of_search(lambda s: s["trials"][0].update(state="COMPLETE", value=None)), "trial 0"),
    "a value that is no number": (of_search(lambda s: s["trials"][0].update(value="nan")), "the value nan"),
    "a parameter outside": (of_search(lambda s: s["trials"][0]["params"].update(learning_rate=99.0)), "trial 0"),
    "a parameter that is text": (of_search(lambda s: s["trials"][0]["params"].update(learning_rate="x")), "trial 0"),
    "a parameter left out": (of_search(lambda s: s["trials"][0]["params"].pop("learning_rate")), "trial 0"),
    "a distribution that is none": (
        of_search(lambda s: s["trials"][0]["distributions"].update(learning_rate={"name": "os.system"})),
        "trial 0",
    ),
    "a distribution without ends": (
        of_search(lambda s: s["trials"][0]["distributions"]["learning_rate"].update(attributes={})),
        "trial 0",
    ),
    "an epoch that is none": (of_search(lambda s: s["trials"][0]["intermediate_values"].update(x=0.5)), "intermediate"),
    "a reason that is none": (of_search(lambda s: s["trials"][0]["user_attrs"].update(status_reason=3)), "trial 0"),
    "a retry of a later trial": (
        of_search(lambda s: s["trials"][0]["user_attrs"].update(retry_of=1)),
        "its retry_of is 1",
    ),
    "a retry of no number": (
        of_search(lambda s: s["trials"][1]["user_attrs"].update(retry_of="0")),
        "its retry_of is '0'",
    ),
    "a draw after its number": (of_search(lambda s: s["trials"][0]["user_attrs"].update(draw=1)), "its draw is 1"),
    "a time elsewhere": (of_search(lambda s: s["trials"][0].update(started="2026-01-01T00:00:00+05:00")), "trial 0"),
    "no start": (of_search(lambda s: s["trials"][0].update(started=None)), "trial 0"),
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
    "an absolute path": (entry("/etc/cron.d/evil"), b"x", "no path inside it"),
    "a path upwards": (entry("../evil"), b"x", "no path inside it"),
    "a path upwards in the middle": (entry("runs/../../evil"), b"x", "no path inside it"),
    "a drive letter": (entry("C:/evil"), b"x", "no path inside it"),
    "another separator": (entry("runs\\..\\..\\evil"), b"x", "no path inside it"),
    "an empty part": (entry("runs//evil"), b"x", "no path inside it"),
    "a control character": (entry("runs/\x1b[2Jevil"), b"x", "no path inside it"),
    "a name too long": (entry("runs/" + "x" * 300), b"x", "no path inside it"),
    "a link": (entry("runs/link", stat.S_IFLNK), b"/etc/passwd", "is a link"),
    "a device": (entry("runs/device", stat.S_IFCHR), b"", "is a link or another thing"),
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
        with (
            pytest.raises(StudyError, match=r"more than --max-size"),
            verified(source, Home(root=tmp_path / "home"), most=1000, display=Display()),
        ):
            pass
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


def test_a_rename_must_say_what_to_what(folder: Path):
    for rename, says in {
        "x": "OLD=NEW",
        "x=y": "digits-ffnn",
        "digits-ffnn=": "OLD=NEW",
        "digits-ffnn=a'b": "quotation",
    }.items():
        ended = study_here("import", str(folder), "--rename", rename, home=folder.parent / "home")
        assert ended.code == 2
        require_sentence(ended, says)
    assert not list((folder.parent / "home").rglob("*.db"))


def test_a_run_that_ended_before_it_started_is_imported_since_a_clock_may_be_set_back(folder: Path, tmp_path: Path):
    for stage in ("trial", "retrain"):
        change(run_file(folder, stage), lambda run: run.update(ended=run["started"] - 3_600_000))
    summed(folder)
    ended = study_here("import", str(folder), home=tmp_path / "home")
    assert ended.code == 0, ended.err
    assert study_here("doctor", home=tmp_path / "home").code == 0
    assert study_here("export", str(tmp_path / "again"), home=tmp_path / "home").code == 0
