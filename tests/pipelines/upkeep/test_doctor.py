import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from pipelines.analyse import analyse
from pipelines.config import AnalysisConfig
from pipelines.retrain import retrain
from pipelines.upkeep import doctor
from pipelines.upkeep.doctor import Options, Result, as_json, examine
from pipelines.upkeep.findings import Finding
from study.errors import StudyError
from study.home import Home
from study.search.records import Searches
from study.system.backups import back_up
from study.system.processes import this_process
from study.tracking import best
from study.tracking.checkpoints import SLOTS
from study.tracking.permissions import Resource
from study.tracking.runs import HEARTBEAT, WORKER
from study.tracking.store import Store
from tests.conftest import surroundings
from tests.support.patient import FIX, Patient, dead_process
from tests.support.process import study_here


def delete_run(patient: Patient) -> None:
    patient.store.client.delete_run(patient.trial)


def delete_search_run(patient: Patient) -> None:
    patient.store.client.delete_run(patient.parent)


def erase_run(patient: Patient) -> None:
    patient.erase(patient.trial)


def erase_search_run(patient: Patient) -> None:
    patient.erase(patient.parent)


def end_otherwise(patient: Patient) -> None:
    patient.store.finish(patient.trial, "KILLED", "interrupted")


def leave_open(patient: Patient) -> None:
    patient.store.resume(patient.trial)


def untag(patient: Patient) -> None:
    patient.store.client.delete_tag(patient.trial, "base_seed")


def name_other_parent(patient: Patient) -> None:
    patient.store.tag(patient.trial, **{"mlflow.parentRunId": "0" * 32})


def record_twice(patient: Patient) -> None:
    patient.store.log(patient.trial, {"val_accuracy": 0.5}, 1)


def change_accuracy(patient: Patient) -> None:
    first = "key = 'val_accuracy' AND step = 1 AND run_uuid = ?"
    patient.sql(f"UPDATE metrics SET value = 0.99 WHERE {first}", patient.trial)


def lose_epoch(patient: Patient) -> None:
    patient.sql("DELETE FROM metrics WHERE key = 'val_accuracy' AND step = 1 AND run_uuid = ?", patient.trial)


def change_metric(patient: Patient, run_id: str, name: str, value: float, where: str = "") -> None:
    """Where MLflow keeps every value, and where the last."""
    for table in ("metrics", "latest_metrics"):
        patient.sql(f"UPDATE {table} SET value = {value!r} WHERE key = '{name}' AND run_uuid = ? {where}", run_id)


def lose_metric(patient: Patient, run_id: str, name: str) -> None:
    for table in ("metrics", "latest_metrics"):
        patient.sql(f"DELETE FROM {table} WHERE key = '{name}' AND run_uuid = ?", run_id)


def change_best(patient: Patient) -> None:
    change_metric(patient, patient.trial, "best_val_accuracy", 1.7976931348623157e308)


def lose_best(patient: Patient) -> None:
    lose_metric(patient, patient.trial, "best_val_accuracy")


def second_run(patient: Patient) -> None:
    run = patient.store.get(patient.trial)
    tags = {name: value for name, value in run.tags.items() if not name.startswith("mlflow.")}
    again = patient.store.start("digits", run.name, tags=tags, params=run.params)
    patient.store.finish(again, "FINISHED", "complete")


def kill_trial(patient: Patient) -> None:
    """As a SIGKILL in the middle of a trial leaves both stores."""
    here = patient.number + 1 + 3 * (patient.model == "ffnn")
    patient.sql("UPDATE trials SET state = 'RUNNING' WHERE trial_id = ?", here, database="optuna")
    statement = "DELETE FROM trial_user_attributes WHERE key = 'status_reason' AND trial_id = ?"
    patient.sql(statement, here, database="optuna")
    patient.store.resume(patient.trial)
    patient.store.resume(patient.parent)


def leave_search_open(patient: Patient) -> None:
    patient.store.resume(patient.parent)


def leave_retraining_open(patient: Patient) -> None:
    patient.store.resume(patient.retrained)


def count_otherwise(patient: Patient) -> None:
    patient.store.tag(patient.parent, trials=2)


def name_other_trial(patient: Patient) -> None:
    patient.store.tag(patient.retrained, trial_run="0" * 32)


def leave_half(patient: Patient) -> None:
    number = dead_process().split()[1]
    for host, name in ((socket.gethostname(), number), (socket.gethostname(), os.getpid()), ("elsewhere", number)):
        patient.file(f"weights/.epoch_001.safetensors.{name}@{host}.part").write_bytes(b"half")


def forget_sums(patient: Patient) -> None:
    patient.file("SHA256SUMS").unlink()


def change_param(patient: Patient) -> None:
    statement = "UPDATE params SET value = '0.5' WHERE key = 'learning_rate' AND run_uuid = ?"
    patient.sql(statement, patient.trial)


def lose_params(patient: Patient) -> None:
    patient.sql("DELETE FROM params WHERE key IN ('seed', 'batch_size') AND run_uuid = ?", patient.trial)


def change_epochs(patient: Patient, epochs: int = 1) -> None:
    patient.sql(f"UPDATE params SET value = '{epochs}' WHERE key = 'epochs' AND run_uuid = ?", patient.retrained)


def raise_epochs(patient: Patient) -> None:
    change_epochs(patient, 3)


def record_epoch_twice(patient: Patient) -> None:
    patient.store.log(patient.retrained, {"test_accuracy": 0.5}, 1)


def change_result(patient: Patient) -> None:
    change_metric(patient, patient.retrained, "final_test_accuracy", 0.999)


def change_last_epoch(patient: Patient) -> None:
    change_metric(patient, patient.retrained, "test_accuracy", 0.999, "AND step = 2")


def lose_result(patient: Patient) -> None:
    lose_metric(patient, patient.retrained, "final_train_accuracy")


Damages = dict[Callable[[Patient], None], str]
NO_PROCESS = "but its process has ended"
TRIALS = [
    {
        delete_run: "deleted in MLflow",
        erase_run: "MLflow has no run of it",
        end_otherwise: "MLflow KILLED (interrupted)",
        leave_open: "MLflow RUNNING",
        untag: "base_seed",
        name_other_parent: "mlflow.parentRunId",
    },
    {
        record_twice: "is in MLflow 2 times",
        change_accuracy: "MLflow's 0.99",
        lose_epoch: "epoch 1 is missing",
        change_best: "MLflow's infinite",
        lose_best: "lacks its best_val_accuracy",
        second_run: "Duplicate run",
    },
    {
        change_param: "learning_rate is 0.5, not 0.0",
        lose_params: "batch_size is missing, not 30, seed is missing, not 1",
    },
]
RECREATED = (erase_run, record_twice, change_accuracy, change_best, change_param)
"""What a new run is made for, instead of the damaged one: MLflow changes no value."""
"""What is done to a trial each, and what is said of it."""
SEARCHES = [
    {erase_search_run: "has no run in MLflow", delete_search_run: "deleted in MLflow"},
    {leave_search_open: NO_PROCESS, count_otherwise: "figures cover 2 trials, but 3 are finished"},
]
RETRAININGS = [
    {name_other_trial: "which does not exist", leave_retraining_open: NO_PROCESS},
    {leave_half: "is incomplete", forget_sums: "is not recorded"},
    {lose_result: "lacks its final_train_accuracy"},
]


def require_repaired(patient: Patient, expected: list[tuple[str, str]]) -> None:
    """That exactly this is found, as what and where, and is repaired, once."""
    result = patient.examine(FIX)
    findings = sorted((finding.where, finding.message) for finding in result.repaired)
    assert len(findings) == len(expected), findings
    for (where, what), (expected_where, expected_what) in zip(findings, sorted(expected), strict=True):
        assert expected_where in where
        assert expected_what in what
    assert not result.left
    assert patient.examine(FIX) == Result()


def test_a_healthy_study_is_found_healthy_and_left_as_it_is(patient: Patient) -> None:
    assert patient.examine() == patient.examine(FIX) == Result()
    assert not list(patient.context.home.store.glob("backup-*"))


@pytest.mark.parametrize("damages", TRIALS)
def test_what_is_wrong_with_trials_is_found_and_repaired(patient: Patient, damages: Damages) -> None:
    best = {(run.tags["model"], int(run.tags["optuna_trial"])) for run in patient.store.runs(stage="retrain")}
    trials = [(model, number) for model in ("cnn", "ffnn") for number in range(3)]
    expected = []
    for (model, number), (damage, what) in zip(trials, damages.items(), strict=False):
        damage(replace(patient, model=model, number=number))
        expected.append((f"search digits-{model}, trial {number}", what))
        if damage in RECREATED and (model, number) in best:
            # The best one's run is named by its retraining.
            expected.append((f"{model} · seed 0", "which does not exist"))
    require_repaired(patient, expected)


@pytest.mark.parametrize("damages", SEARCHES)
def test_what_is_wrong_with_searches_is_found_and_repaired(patient: Patient, damages: Damages) -> None:
    for model, damage in zip(("cnn", "ffnn"), damages, strict=True):
        damage(replace(patient, model=model))
    require_repaired(
        patient, [(f"search digits-{m}", w) for m, w in zip(("cnn", "ffnn"), damages.values(), strict=True)]
    )


@pytest.mark.parametrize("damages", RETRAININGS)
def test_what_is_wrong_with_retrained_runs_is_found_and_repaired(patient: Patient, damages: Damages) -> None:
    expected = []
    for model, (damage, what) in zip(("cnn", "ffnn"), damages.items(), strict=False):
        model_patient = replace(patient, model=model)
        damage(model_patient)
        expected.append((f"run {model_patient.retrained[:12]}", what))
    require_repaired(patient, expected)


IMPOSSIBLE = {
    "its retry_of is '0', and its number 1": ("retry_of", '"0"'),
    "its retry_of is 1, and its number 1": ("retry_of", "1"),
    "its draw is 7, and its number 1": ("draw", "7"),
    "its draw is 0.5, and its number 1": ("draw", "0.5"),
}


@pytest.mark.parametrize("fault", IMPOSSIBLE)
def test_a_trial_with_an_impossible_record_is_named_and_nothing_of_it_is_repaired(patient: Patient, fault: str) -> None:
    name, value = IMPOSSIBLE[fault]
    if name == "draw":
        patient.sql("DELETE FROM trial_user_attributes WHERE trial_id = 2 AND key = 'draw'", database="optuna")
    insert = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (2, ?, ?)"
    patient.sql(insert, name, value, database="optuna")
    end_otherwise(replace(patient, number=1))
    result = patient.examine(FIX)
    assert not result.repaired
    assert [(finding.where, finding.message) for finding in result.left] == [
        ("search digits-cnn, trial 1", f"Optuna's record of it is impossible: {fault}.")
    ]


@pytest.mark.parametrize(
    ("harm", "refused", "permission"),
    [(leave_open, (MlflowClient, "set_terminated"), "EDIT"), (second_run, (MlflowClient, "delete_run"), "MANAGE")],
)
def test_a_repair_that_the_server_refuses_names_the_permission(
    harm: Callable[[Patient], object],
    refused: tuple[object, str],
    permission: str,
    patient: Patient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harm(patient)

    forbidden: list[object] = []

    def refuse(store: Store, *resources: Resource, permission: str) -> None:
        # Not before the repair, as where the permission is taken away meanwhile.
        if forbidden and resources:
            raise StudyError(f"User carol has no {permission} on {resources[0].name}.")

    def forbid(*arguments: object, **more: object) -> None:
        forbidden.append(arguments)
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(Store, "require_permission", refuse)
    monkeypatch.setattr(*refused, forbid)
    with pytest.raises(StudyError, match=f"User carol has no {permission} on digits"):
        examine(patient.context, Options(fix=True, backup=False))


def test_what_a_killed_search_left_is_closed_in_both_stores(patient: Patient) -> None:
    kill_trial(patient)
    require_repaired(patient, [("search digits-cnn, run", NO_PROCESS), ("search digits-cnn, trial 0", NO_PROCESS)])
    assert patient.store.get(patient.trial).status == patient.store.get(patient.parent).status == "KILLED"
    (search, _) = Searches(patient.context.storage).read()
    assert (search.trials[0].state, search.trials[0].outcome.reason) == ("FAIL", "interrupted")


def test_a_run_made_anew_says_what_the_lost_one_said(patient: Patient) -> None:
    before, curve = patient.store.get(patient.trial), patient.points()
    erase_run(patient)
    patient.examine(FIX)
    after = patient.store.get(patient.trial)
    assert after.tags["restored"]
    assert after.params == before.params
    own = ("mlflow.", "restored")
    tags = {name: value for name, value in after.tags.items() if not name.startswith(own)}
    assert tags == {name: value for name, value in before.tags.items() if not name.startswith(own)}
    assert (after.status, after.name, after.experiment_id) == (before.status, before.name, before.experiment_id)
    for name in ("best_val_accuracy", "best_epoch"):
        assert after.metrics[name] == before.metrics[name]
    assert patient.points() == [point._replace(time=ANY) for point in curve]


@pytest.mark.parametrize("damage", [record_twice, change_accuracy, change_best, change_param, lose_params])
def test_a_repaired_run_says_what_optuna_does_and_keeps_its_other_values(
    patient: Patient, damage: Callable[[Patient], None]
) -> None:
    before, curve, losses = patient.store.get(patient.trial), patient.points(), patient.points("train_loss")
    damage(patient)
    patient.examine(FIX)
    after = patient.store.get(patient.trial)
    assert (after.params, after.metrics, after.status) == (before.params, before.metrics, before.status)
    assert patient.points() == [point._replace(time=ANY) for point in curve]
    assert patient.points("train_loss") == losses
    # The damaged one can be restored.
    assert patient.store.client.get_run(before.id).info.lifecycle_stage == (
        "active" if damage is lose_params else "deleted"
    )


def test_a_run_that_a_killed_doctor_had_made_anew_is_not_kept_beside_another(patient: Patient) -> None:
    before = patient.store.get(patient.trial)
    change_param(patient)
    second_run(patient)
    assert not patient.examine(FIX).left
    (run,) = patient.store.runs(stage="trial", search="digits-cnn", optuna_trial="0")
    assert run.params == before.params


def test_a_result_that_is_lost_is_that_of_the_predictions(patient: Patient) -> None:
    before = patient.store.get(patient.retrained).metrics
    lose_result(patient)
    assert len(patient.examine(FIX).repaired) == 1
    assert patient.store.get(patient.retrained).metrics == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_result, "Its final_test_accuracy is 0.999; by its predictions it is 0."),
        (change_last_epoch, "Its test_accuracy is 0.999; by its predictions it is 0."),
        (record_epoch_twice, "Its test_accuracy has 2 values of epoch 1, of 2."),
        (change_epochs, "Its test_accuracy has 1 values of epoch 2, of 1."),
        (raise_epochs, "Its test_accuracy has no values of epoch 3, of 3."),
    ],
)
def test_altered_results_are_named_and_stay(patient: Patient, damage: Callable[[Patient], None], message: str) -> None:
    damage(patient)
    before = patient.store.get(patient.retrained)
    result = patient.examine(FIX)
    assert not result.repaired
    assert [finding.message[: len(message)] for finding in result.left if "is missing" not in finding.message] == [
        message
    ]
    assert all("--again` trains it again" in finding.remedy for finding in result.left)
    assert patient.store.get(patient.retrained) == before


def test_altered_predictions_vouch_for_nothing(patient: Patient) -> None:
    change_result(patient)
    alter(patient.file("predictions/test.safetensors"))
    assert ["test.safetensors was altered" in finding.message for finding in patient.examine().left] == [True]


def test_params_of_a_retraining_that_are_not_its_trials_are_named(patient: Patient) -> None:
    statement = "UPDATE params SET value = '7' WHERE key IN ('weight_decay', 'seed', 'dataset_digest') AND run_uuid = ?"
    patient.sql(statement, patient.retrained)
    result = patient.examine(FIX)
    assert not result.repaired
    (one,) = result.left
    assert "dataset_digest is 7, not" in one.message
    assert "seed is 7, not 0" in one.message
    assert "weight_decay is 7, not" in one.message
    assert one.where[:16] == f"run {patient.retrained[:12]}"


def test_the_databases_are_copied_before_they_are_changed(patient: Patient) -> None:
    end_otherwise(patient)
    patient.examine(FIX)
    (folder,) = patient.context.home.store.glob("backup-*")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as kept:
        query = "SELECT status FROM runs WHERE run_uuid = ?"
        assert kept.execute(query, (patient.trial,)).fetchone() == ("KILLED",)
    with contextlib.closing(sqlite3.connect(folder / "optuna.db")) as kept:
        assert kept.execute("SELECT count(*) FROM trials").fetchone() == (6,)


def test_a_backup_that_cannot_be_made_leaves_nothing_that_looks_like_one(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("a shopping list, and no database " * 200)
    with pytest.raises(StudyError, match=r"cannot be written .*nothing was changed"):
        back_up({"optuna": f"sqlite:///{tmp_path}/optuna.db"}, tmp_path / "backup")
    assert not list((tmp_path / "backup").iterdir())


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_altered_and_missing_weights_stay_until_they_are_trained_anew(patient: Patient) -> None:
    alter(patient.file("weights/epoch_001.safetensors"))
    patient.file("weights/epoch_002.safetensors").unlink()
    change_result(patient)
    result = patient.examine(FIX)
    run = patient.store.get(patient.retrained)
    assert not result.repaired
    assert [one.message.split(" was")[0].split(" is")[0] for one in result.left] == [
        "weights/epoch_002.safetensors",
        "weights/epoch_001.safetensors",
        "Its final_test_accuracy",
    ]
    command = f"retrain --run {run.tags['trial_run']} --epochs 2 --seed {run.params['seed']}"
    assert all(command in one.remedy for one in result.left)
    trial = best.choose_trial(patient.store, run.tags["trial_run"], "cnn")
    again = retrain(trial, patient.finished.dataset, patient.context, epochs=2)
    left = patient.examine(FIX).left
    assert not [one for one in left if one.repair is None and "trains it again" in one.remedy]
    assert not patient.examine(FIX).left
    assert patient.retrained not in {one.id for one in patient.store.runs(stage="retrain")}
    assert patient.store.client.get_model_version_by_alias("digits-cnn", "best").run_id == again


@pytest.mark.parametrize("lost", ["all", "one"])
def test_hashes_that_an_interrupted_retraining_lacks_are_recorded(patient: Patient, lost: str) -> None:
    patient.store.finish(patient.retrained, "KILLED", "interrupted")
    assert patient.examine() == Result()
    before = patient.store.sums(patient.retrained)
    left = {} if lost == "all" else {path: before[path] for path in before if "epoch_001" not in path}
    forget_sums(patient)
    if left:
        patient.store.log_sums(patient.retrained, left)
    require_repaired(patient, [(f"run {patient.retrained[:12]}", f"{len(before) - len(left)} of its files is not")])
    assert patient.store.sums(patient.retrained) == before


@pytest.mark.parametrize("reason", ["diverged", "incomplete"])
def test_hashes_of_a_retraining_that_is_not_continued_are_not_missed(patient: Patient, reason: str) -> None:
    patient.store.finish(patient.retrained, "FAILED", reason)
    forget_sums(patient)
    assert patient.examine() == Result()


def test_an_altered_training_state_is_found_and_removed(patient: Patient) -> None:
    even, odd = map(patient.file, SLOTS)
    alter(odd)
    require_repaired(patient, [(f"run {patient.retrained[:12]}", f"{SLOTS[1]} was altered")])
    assert (even.is_file(), odd.exists()) == (True, False)


def test_an_altered_description_of_the_images_is_found(patient: Patient) -> None:
    content = patient.file("dataset.json").read_bytes()
    patient.file("dataset.json").write_bytes(content.replace(b'"3"', b'"8"'))
    assert ["dataset.json was altered" in finding.message for finding in patient.examine(FIX).left] == [True]
    patient.file("dataset.json").unlink()
    assert [finding.message for finding in patient.examine(FIX).left] == ["dataset.json is missing."]


@pytest.mark.parametrize("is_altered", [False, True])
def test_a_description_without_a_hash_is_told_by_the_digest_in_it(patient: Patient, is_altered: bool) -> None:
    sums = patient.store.sums(patient.retrained)
    patient.store.log_sums(patient.retrained, {path: sums[path] for path in sums if path != "dataset.json"})
    if is_altered:
        digest = patient.store.get(patient.retrained).dataset_digest.encode()
        content = patient.file("dataset.json").read_bytes()
        patient.file("dataset.json").write_bytes(content.replace(digest, digest[::-1]))
        [finding] = patient.examine(FIX).left
        assert "dataset.json cannot be read: its digest is not that of the images" in finding.message
    else:
        require_repaired(patient, [(f"run {patient.retrained[:12]}", "The SHA-256 of 1 of its files is not recorded")])
        assert patient.store.sums(patient.retrained) == sums


def test_a_missing_model_is_found(patient: Patient) -> None:
    shutil.rmtree(patient.file("../../models"))
    findings = patient.examine().left
    # Of both networks.
    missing = ["Its MLflow model is missing."] * 2
    unusable = ["The alias best is on version 1, whose files are missing or altered."] * 2
    assert [one.message for one in findings] == missing + unusable


def test_altered_files_of_a_model_are_found_but_those_that_mlflow_changes(patient: Patient) -> None:
    model = patient.store.client.get_run(patient.retrained).outputs.model_outputs[0].model_id
    folder = patient.file(f"../../models/{model}/artifacts")
    (folder / "registered_model_meta").write_text("model_name: digits-cnn\n")
    (folder / "MLmodel").write_bytes((folder / "MLmodel").read_bytes() + b"\n")
    assert patient.examine() == Result()
    alter(folder / "data/network/weights.safetensors")
    (folder / "requirements.txt").unlink()
    result = patient.examine(FIX)
    assert [finding.remedy for finding in result.repaired] == ["removes it: no other version is whole"]
    assert [finding.message.partition(" is missing, or was")[0] for finding in result.left] == [
        "data/network/weights.safetensors of its MLflow model",
        "requirements.txt of its MLflow model",
    ]
    assert all("exports the model again" in finding.remedy for finding in result.left)


def test_altered_hashes_of_a_model_are_found(patient: Patient) -> None:
    alter(patient.file("MODEL_SHA256SUMS"))
    assert "MODEL_SHA256SUMS was altered" in patient.examine().left[0].message
    patient.file("MODEL_SHA256SUMS").unlink()
    assert [finding.message for finding in patient.examine().left] == ["MODEL_SHA256SUMS is missing."]


def test_a_run_of_before_has_no_hashes_of_its_model(patient: Patient) -> None:
    patient.file("MODEL_SHA256SUMS").unlink()
    sums = patient.store.sums(patient.retrained)
    patient.store.log_sums(patient.retrained, {path: sums[path] for path in sums if path != "MODEL_SHA256SUMS"})
    assert patient.examine() == Result()


@pytest.mark.parametrize("stays", [False, True], ids=["moved", "copied"])
def test_a_study_in_another_folder_is_analysed_there(patient: Patient, tmp_path: Path, stays: bool) -> None:
    old, new = patient.context.home.root, tmp_path / "100 % elsewhere"
    shutil.copytree(old, new)
    aside = tmp_path / "aside"
    if not stays:
        old.rename(aside)
    else:
        shutil.copytree(old, aside)
    moved = surroundings(Home(root=new), patient.context.machine)
    (result,) = examine(moved, Options()).left
    assert str(old) in result.message
    assert ("would write" in result.message) == stays
    with pytest.raises(StudyError, match=f"and they are in {re.escape(str(new))}.*`study doctor --fix` corrects"):
        moved.store.writable("digits")
    assert old.exists() == stays
    if not stays:
        with pytest.raises(StudyError, match=r"no artifact dataset.json: .*moved, `study doctor --fix`"):
            Store(Home(root=new)).load_json(patient.retrained, "dataset.json")
    assert not examine(moved, FIX).left
    assert examine(moved, FIX) == Result()
    again = surroundings(Home(root=new), patient.context.machine)
    analyse(patient.retrained, AnalysisConfig(only=("convergence",)), again, patient.finished.dataset)
    assert (new / "mlruns/artifacts/digits" / patient.retrained / "artifacts/report").is_dir()
    if stays:
        assert {file.relative_to(old) for file in old.rglob("*") if "artifacts" in file.parts} == {
            file.relative_to(aside) for file in aside.rglob("*") if "artifacts" in file.parts
        }
    else:
        assert not old.exists()


def test_what_is_under_way_is_left_alone(patient: Patient) -> None:
    patient.store.claim(patient.retrained)
    assert not patient.examine().left
    with pytest.raises(StudyError, match="is under way"):
        patient.examine(FIX)
    assert patient.store.get(patient.retrained).status == "RUNNING"


@pytest.fixture
def on_another_machine(patient: Patient) -> Patient:
    patient.store.resume(patient.retrained)
    elsewhere = this_process().replace(socket.gethostname(), "otherhost", 1).replace("/", "-/")
    patient.store.tag(patient.retrained, **{WORKER: elsewhere})
    return patient


def test_what_another_machine_works_on_is_left_alone(
    on_another_machine: Patient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run_id = on_another_machine.store, on_another_machine.retrained
    monkeypatch.setattr(doctor.interruption, "sleep", lambda seconds: store.tag(run_id, **{HEARTBEAT: 1}))
    assert on_another_machine.examine(FIX) == Result()
    printed = capsys.readouterr().out
    assert "Looking for signs of life of 1 process on other machines, for up to 300 s." in printed
    assert "is under way on another machine, which gives signs of life" in printed
    assert store.get(run_id).status == "RUNNING"


def test_what_gives_no_sign_of_life_is_dead_after_the_grace_period(
    on_another_machine: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.02")
    assert len(on_another_machine.examine(FIX).repaired) == 1
    assert on_another_machine.store.get(on_another_machine.retrained).status == "KILLED"


def test_what_other_machines_work_on_can_be_taken_for_dead_at_once(
    on_another_machine: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    on_another_machine.examine(Options(all_hosts=True, backup=False))
    assert "doctor --fix --all-hosts --no-backup" in capsys.readouterr().out
    assert len(on_another_machine.examine(Options(fix=True, all_hosts=True)).repaired) == 1
    assert "signs of life" not in capsys.readouterr().out
    assert on_another_machine.store.get(on_another_machine.retrained).status == "KILLED"


def test_the_exit_code_tells(patient: Patient) -> None:
    home = patient.context.home.root
    well = study_here("doctor", home=home)
    assert (well.code, well.err) == (0, "")
    assert "2 searches, 6 trials" in well.out
    assert "No problems found." in well.out
    end_otherwise(patient)
    ill = study_here("doctor", home=home)
    assert (ill.code, ill.err) == (1, "")
    assert "doctor --fix" in ill.out
    assert study_here("doctor", "--fix", home=home).code == 0


def test_an_empty_home_and_a_damaged_database_are_refused_in_a_sentence(tmp_path: Path, home: Home) -> None:
    empty = study_here("doctor", home=tmp_path / "empty")
    assert (empty.code, empty.out) == (2, "")
    assert "nothing to check" in empty.err
    assert not (tmp_path / "empty").exists()
    database = home.store / "mlflow.db"
    content = bytearray(database.read_bytes())
    content[8192:40960] = bytes(32768)
    database.write_bytes(content)
    damaged = study_here("doctor", home=home.root)
    assert damaged.code == 2
    assert len(damaged.err.splitlines()) == 1
    assert "is damaged" in damaged.err


def test_a_search_of_a_model_that_is_not_known_is_named_and_the_rest_is_examined(patient: Patient) -> None:
    change = """UPDATE study_user_attributes SET value_json = replace(value_json, '"ffnn"', '"resnet"')"""
    patient.sql(f"{change} WHERE key = 'settings' AND value_json LIKE '%\"ffnn\"%'", database="optuna")
    leave_open(patient)
    result = patient.examine(FIX)
    assert [repaired.message for repaired in result.repaired if "MLflow RUNNING" in repaired.message]
    [left] = result.left
    assert left.where == "search digits-ffnn"
    assert left.message == "Its settings cannot be read: Unknown model 'resnet': choose one of cnn, ffnn."


def test_findings_as_json_say_what_can_be_and_was_repaired() -> None:
    repairable = Finding("It is open.", "run 1", "closes it", repair=lambda: None)
    findings = Result(
        repaired=[repairable], left=[Finding("It is lost.", "run 2 at http://me:secret@host", "train it")]
    )
    first, second = json.loads(as_json(findings))
    assert first == {
        "what": "It is open.",
        "where": "run 1",
        "remedy": "closes it",
        "is_repaired": True,
        "is_repairable": True,
    }
    assert (second["is_repaired"], second["is_repairable"]) == (False, False)
    assert "secret" not in second["where"]
