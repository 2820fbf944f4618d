"""Exports of studies that are not whole: what is missing is named, and the rest is exported and imported."""

import errno
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from pipelines.session.display import Display
from pipelines.upkeep import export as stage
from pipelines.upkeep.doctor import Result
from pipelines.upkeep.import_ import import_study
from pipelines.upkeep.pack import written_whole
from study.errors import StudyError
from study.home import Home
from study.search.storage import storage_failures_explained
from study.system.faults import explained
from study.tracking.checkpoints import SLOTS
from study.tracking.registry import ready_model
from tests.conftest import surroundings
from tests.support.patient import CHECK, Patient, examine
from tests.support.process import study_here

LAST = "weights/epoch_002.safetensors"


def export(patient: Patient, target: Path) -> bool:
    return stage.export(target, patient.context, searches=[], datasets=[], runs=[])


def imported(source: Path, root: Path, patient: Patient) -> Patient:
    import_study(source, Home(root=root), most=2**30, display=Display())
    return replace(patient, context=surroundings(Home(root=root), patient.context.machine))


def gaps(archive: Path) -> list[str]:
    return list(json.loads((archive / "study.json").read_text())["gaps"])


def lose(patient: Patient) -> None:
    patient.file(LAST).unlink()


def lose_all(patient: Patient) -> None:
    shutil.rmtree(patient.file("."))


def alter(patient: Patient) -> None:
    patient.file(LAST).write_bytes(b"something else")


def truncate(patient: Patient) -> None:
    patient.file("predictions/test.safetensors").write_bytes(
        patient.file("predictions/test.safetensors").read_bytes()[:-9]
    )


def make_unreadable(patient: Patient) -> None:
    # Also for root, whom no permission keeps away.
    patient.file(LAST).unlink()
    patient.file(LAST).symlink_to("nowhere")


def lose_sums(patient: Patient) -> None:
    patient.file("SHA256SUMS").unlink()


def alter_description(patient: Patient) -> None:
    file = patient.file("dataset.json")
    file.write_text(file.read_text().replace('"3"', '"8"'))


def lose_description(patient: Patient) -> None:
    patient.file("dataset.json").unlink()


def alter_checkpoint(patient: Patient) -> None:
    alter_byte(patient.file(SLOTS[0]))


def alter_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def figures(patient: Patient) -> Path:
    """The folder of the figures of the search."""
    root = patient.store.root(patient.parent)
    assert root
    return root / "search"


def alter_figure(patient: Patient) -> None:
    alter_byte(figures(patient) / "history.png")


def lose_figure(patient: Patient) -> None:
    (figures(patient) / "history.csv").unlink()


def lose_sums_of_figures(patient: Patient) -> None:
    (figures(patient).parent / "SHA256SUMS").unlink()


FIGURES = (alter_figure, lose_figure, lose_sums_of_figures)


def model_id(patient: Patient) -> str:
    model = ready_model(patient.store.client, patient.retrained)
    assert model
    return str(model.model_id)


def lose_model(patient: Patient) -> None:
    shutil.rmtree(patient.file(f"../../models/{model_id(patient)}"))


def alter_model(patient: Patient) -> None:
    patient.file(f"../../models/{model_id(patient)}/artifacts/data/network/weights.safetensors").write_bytes(
        b"something else"
    )


def delete_model(patient: Patient) -> None:
    patient.store.client.delete_logged_model(model_id(patient))


def purge_model(patient: Patient) -> None:
    lost = model_id(patient)
    lose_model(patient)
    for table in ("logged_model_params", "logged_models"):
        patient.sql(f"DELETE FROM {table} WHERE model_id = ?", lost)


@pytest.mark.parametrize(
    "damages",
    [
        {lose: f"Missing: RUN: {LAST}.", alter: f"Altered: RUN: {LAST}."},
        {truncate: "Altered: RUN: predictions/test.safetensors.", make_unreadable: f"Unreadable: RUN: {LAST}."},
        {lose_sums: "Missing: RUN: SHA256SUMS.", alter_model: "Altered: RUN: model/data/network/weights.safetensors."},
        {lose_model: "Missing: RUN: its MLflow model.", lose_all: "Missing: RUN: "},
        {alter_description: "Altered: RUN: dataset.json.", alter_checkpoint: f"Altered: RUN: {SLOTS[0]}."},
        {alter_figure: "Altered: RUN: search/history.png.", lose_figure: "Missing: RUN: search/history.csv."},
        {lose_description: "Missing: RUN: dataset.json.", lose_sums_of_figures: "Missing: RUN: SHA256SUMS."},
    ],
)
def test_what_is_not_whole_is_named_and_the_rest_is_imported(
    patient: Patient, damages: dict[Callable[[Patient], None], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = []
    for model, (damage, line) in zip(("cnn", "ffnn"), damages.items(), strict=True):
        damaged = replace(patient, model=model)
        run = patient.store.get(damaged.parent if damage in FIGURES else damaged.retrained)
        expected.append(line.replace("RUN", f"{run.name} ({run.id[:8]})"))
        damage(damaged)
    assert not export(patient, tmp_path / "some")
    text = "\n".join(gaps(tmp_path / "some"))
    for line in expected:
        kind, _, named = line.partition(": ")
        assert any(one.startswith(f"{kind}: ") and named.rstrip(".") in one for one in text.split("\n")), text
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tmp_path / 'some'} is incomplete")
    brought = imported(tmp_path / "some", tmp_path / "new", patient)
    assert text in capsys.readouterr().out
    assert {run.id for run in brought.store.runs()} == {run.id for run in patient.store.runs()}
    if make_unreadable not in damages:
        before, after = (examine(one.context, CHECK).left for one in (patient, brought))
        assert [(one.message, one.where) for one in before] == [(one.message, one.where) for one in after]


@pytest.mark.parametrize("deletion", [delete_model, purge_model])
def test_a_logged_model_that_was_deleted_is_named_and_left_out(
    patient: Patient, deletion: Callable[[Patient], None], tmp_path: Path
) -> None:
    run = patient.store.get(patient.retrained)
    deletion(patient)
    assert not export(patient, tmp_path / "some")
    assert gaps(tmp_path / "some") == [f"Missing: {run.name} ({run.id[:8]}): its MLflow model."]
    brought = imported(tmp_path / "some", tmp_path / "new", patient)
    assert [model.name for model in brought.store.client.search_registered_models()] == ["digits-ffnn"]
    assert [finding.message for finding in examine(brought.context, CHECK).left] == ["Its MLflow model is missing."]


def test_a_version_whose_run_was_deleted_stays_behind(patient: Patient, tmp_path: Path) -> None:
    patient.store.client.delete_run(patient.retrained)
    assert export(patient, tmp_path / "some")
    brought = imported(tmp_path / "some", tmp_path / "new", patient)
    assert [version.name for version in brought.store.client.search_model_versions()] == ["digits-ffnn"]
    assert examine(brought.context, CHECK) == Result()


def test_the_files_of_a_run_that_is_deleted_meanwhile_are_named(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, copy_artifacts = patient.store.get(patient.retrained), stage._copy_artifacts

    def delete_first(*arguments: object) -> None:
        lose_all(patient)
        patient.erase(run.id)
        copy_artifacts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "_copy_artifacts", delete_first)
    assert not export(patient, tmp_path / "some.zip")
    brought = imported(tmp_path / "some.zip", tmp_path / "new", patient)
    assert brought.store.get(run.id) == run


def test_a_run_that_was_killed_before_it_had_params_is_exported_and_imported(patient: Patient, tmp_path: Path) -> None:
    tags = {name: value for name, value in patient.store.get(patient.retrained).tags.items() if "." not in name}
    killed = patient.store.start("digits", "killed", tags=tags, params={})
    patient.store.finish(killed, "KILLED", "interrupted")
    assert export(patient, tmp_path / "some")
    brought = imported(tmp_path / "some", tmp_path / "new", patient)
    assert brought.store.get(killed) == patient.store.get(killed)


def test_a_run_that_no_import_would_take_is_named_and_left_out(patient: Patient, tmp_path: Path) -> None:
    run = patient.store.get(patient.retrained)
    patient.store.client.delete_tag(run.id, "seed")
    assert not export(patient, tmp_path / "some")
    assert gaps(tmp_path / "some") == [
        f"Left out: {run.name} ({run.id[:8]}): run {run.id}, a retrain, has no tag seed."
    ]
    brought = imported(tmp_path / "some", tmp_path / "new", patient)
    assert run.id not in {other.id for other in brought.store.runs()}
    assert len(brought.store.runs()) == len(patient.store.runs()) - 1


def test_the_exit_code_tells_a_part_from_the_whole(patient: Patient, tmp_path: Path) -> None:
    home = patient.context.home.root
    assert study_here("export", str(tmp_path / "whole.zip"), home=home).code == 0
    lose(patient)
    partial = study_here("export", str(tmp_path / "part.zip"), home=home)
    assert (partial.code, "doctor" in partial.out.splitlines()[-1]) == (1, True)
    taken = study_here("import", str(tmp_path / "part.zip"), home=tmp_path / "new")
    assert (taken.code, "is incomplete" in taken.out.splitlines()[-1]) == (0, True)


def test_a_line_names_the_first_runs_and_files_and_counts_the_others(patient: Patient) -> None:
    gaps = stage.Gaps()
    run = patient.store.get(patient.retrained)
    for number in range(5):
        gaps.add("missing", replace(run, id=str(number), name="n" * 99), [f"file {file}" for file in range(9)])
    [line] = gaps.lines()
    assert line.startswith(f"Missing: {'n' * 60} (0): file 0, file 1, file 2 and 6 more; ")
    assert line.endswith("(2): file 0, file 1, file 2 and 6 more and 2 more.")


FULL = OSError(errno.ENOSPC, "No space left on device")
FULL_DATABASE = sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize(
    ("step", "error"),
    [("compact", FULL_DATABASE), ("keep_only", FULL_DATABASE), ("write_sums", FULL), ("packed", FULL)],
)
def test_a_full_disk_is_told_with_the_target_and_nothing_is_left(
    patient: Patient, step: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    target = tmp_path / "elsewhere" / "some.zip"
    monkeypatch.setattr(stage, step, fail)
    with pytest.raises(StudyError, match=rf"{target} was not written: The disk of .* is full"):
        export(patient, target)
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("explaining", [explained, storage_failures_explained])
def test_a_full_disk_under_the_copied_store_is_told_with_the_target_and_no_temporary_path(
    explaining: Callable[[str], AbstractContextManager[None]], tmp_path: Path
) -> None:
    target = tmp_path / "some.zip"
    is_full = rf"^{target} was not written: The disk of {tmp_path} is full \(.*database or disk is full\)"
    with (
        pytest.raises(StudyError, match=is_full),
        written_whole(target) as folder,
        explaining(f"sqlite:///{folder / 'mlflow.db'}"),
    ):
        raise DBAPIError("UPDATE …", None, FULL_DATABASE)


@pytest.mark.parametrize("name", ["some.zip", "some"])
def test_what_does_not_read_back_is_not_kept(
    patient: Patient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = stage.packed

    def damaged(folder: Path, target: Path, advance: Callable[[float], None]) -> Path:
        archive = packed(folder, target, advance)
        file = archive / "mlflow.db" if archive.is_dir() else archive
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        return archive

    monkeypatch.setattr(stage, "packed", damaged)
    target = tmp_path / "target" / name
    with pytest.raises(StudyError, match="differs from its source"):
        export(patient, target)
    assert not list(target.parent.iterdir())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc, in which nobody can make a file")
def test_a_target_in_a_folder_that_takes_no_files_is_refused_in_a_sentence():
    target = Path("/proc/study.zip")
    with pytest.raises(StudyError, match=rf"^{target} cannot be written: "), written_whole(target):
        pytest.fail("nothing can be written there")
