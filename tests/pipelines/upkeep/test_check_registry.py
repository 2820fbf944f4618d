"""Registered models that drifted from the runs, found and repaired by the doctor."""

import shutil
from collections.abc import Callable

import pytest

from pipelines.retrain import retrain
from pipelines.upkeep.doctor import Result
from study.tracking import best
from study.tracking.registry import move_alias, ready_model
from study.tracking.runs import Run
from tests.support.patient import FIX, Patient


def second(patient: Patient) -> str:
    """Another retraining of the best trial, whose model is version 2."""
    trial = best.best_trial(patient.store, "digits", "cnn")
    return retrain(trial, patient.finished.dataset, patient.context, epochs=1, seed=9)


def worse(patient: Patient) -> str:
    """A retraining of the worst trial, whose model is version 2."""
    trials = patient.store.runs(stage="trial", search="digits-cnn")
    worst = min(trials, key=lambda run: run.metrics["best_val_accuracy"])
    assert worst.id != patient.store.get(patient.retrained).trial_run
    return retrain(worst, patient.finished.dataset, patient.context, epochs=1)


def holder(patient: Patient) -> str:
    return str(patient.store.client.get_model_version_by_alias("digits-cnn", "best").run_id)


def delete_run(patient: Patient) -> None:
    patient.store.client.delete_run(patient.retrained)


def purge_run(patient: Patient) -> None:
    patient.erase(patient.retrained)


def lose_files(patient: Patient) -> None:
    shutil.rmtree(patient.file(f"../../models/{exported(patient)}"))


def exported(patient: Patient) -> str:
    model = ready_model(patient.store.client, patient.retrained)
    assert model
    return str(model.model_id)


def delete_logged_model(patient: Patient) -> None:
    patient.store.client.delete_logged_model(exported(patient))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (delete_run, "whose run was deleted"),
        (purge_run, "whose run does not exist"),
        (lose_files, "whose files are missing"),
        (delete_logged_model, "whose files are missing"),
    ],
)
def test_an_alias_on_a_version_that_cannot_be_used_moves_to_the_best_other_one(
    patient: Patient,
    damage: Callable[[Patient], None],
    reason: str,
) -> None:
    other = second(patient)
    damage(patient)
    [finding] = [one for one in patient.examine().left if one.where == "registered model digits-cnn"]
    assert f"is on version 1, {reason}" in finding.message
    assert "gives it to version 2" in finding.remedy
    assert holder(patient) == patient.retrained
    assert finding in patient.examine(FIX).repaired
    assert holder(patient) == other


def delete_alias(patient: Patient) -> None:
    patient.store.client.delete_registered_model_alias("digits-cnn", "best")


def lower_alias(patient: Patient) -> None:
    patient.store.client.set_registered_model_alias("digits-cnn", "best", "2")


@pytest.mark.parametrize(
    ("damage", "message"), [(delete_alias, "No version of it has the alias best"), (lower_alias, "not the best")]
)
def test_an_alias_that_is_missing_or_not_on_the_best_is_given_to_it(
    patient: Patient,
    damage: Callable[[Patient], None],
    message: str,
) -> None:
    worse(patient)
    damage(patient)
    [finding] = patient.examine(FIX).repaired
    assert (message in finding.message, finding.where) == (True, "registered model digits-cnn")
    assert holder(patient) == patient.retrained
    assert patient.examine() == Result()


def tag(patient: Patient, value: str) -> None:
    patient.store.client.set_model_version_tag("digits-cnn", "1", "val_accuracy", value)


def untag(patient: Patient) -> None:
    patient.store.client.delete_model_version_tag("digits-cnn", "1", "val_accuracy")


@pytest.mark.parametrize(
    ("damage", "has_moved", "message"),
    [
        (untag, True, "It has no tag val_accuracy; its trial has "),
        (lambda patient: tag(patient, "0.01"), False, "Its tag val_accuracy is 0.01; its trial has "),
        (lambda patient: tag(patient, "high"), False, "Its tag val_accuracy is high; its trial has "),
    ],
)
def test_the_score_of_a_version_is_restored_from_its_trial_and_the_alias_follows(
    patient: Patient, damage: Callable[[Patient], None], has_moved: bool, message: str
) -> None:
    worse(patient)
    before = patient.store.client.get_model_version("digits-cnn", "1").tags
    damage(patient)
    if has_moved:
        move_alias(patient.store.client, "digits-cnn")
        assert holder(patient) != patient.retrained
    [finding] = patient.examine().left
    assert finding.message.startswith(message)
    assert finding.where == "registered model digits-cnn, version 1"
    assert len(patient.examine(FIX).repaired) == 1 + has_moved
    assert patient.store.client.get_model_version("digits-cnn", "1").tags == before
    assert holder(patient) == patient.retrained
    assert patient.examine() == Result()


def test_an_alias_without_any_version_that_can_be_used_is_removed(patient: Patient) -> None:
    delete_run(patient)
    [finding] = patient.examine(FIX).repaired
    assert finding.remedy == "removes it: no other version is whole"
    assert not patient.store.client.get_registered_model("digits-cnn").aliases
    assert patient.examine() == Result()


def delete_version(patient: Patient) -> None:
    patient.store.client.delete_model_version("digits-cnn", "1")


def delete_registered_model(patient: Patient) -> None:
    patient.store.client.delete_registered_model("digits-cnn")


@pytest.mark.parametrize("deletion", [delete_version, delete_registered_model])
def test_a_model_that_is_not_registered_any_more_is_registered_again(
    patient: Patient,
    deletion: Callable[[Patient], None],
) -> None:
    before, run = exported(patient), patient.store.get(patient.retrained)
    deletion(patient)
    [finding] = patient.examine().left
    assert (finding.message, run.id[:12] in finding.where) == ("Its model is not registered as digits-cnn.", True)
    assert patient.examine(FIX).repaired == [finding]
    version = patient.store.client.get_model_version_by_alias("digits-cnn", "best")
    assert (version.run_id, version.source) == (run.id, f"models:/{before}")
    assert float(version.tags["val_accuracy"]) == trial_of(patient, run).metrics["best_val_accuracy"]
    assert patient.examine() == Result()


def trial_of(patient: Patient, run: Run) -> Run:
    return patient.store.get(run.tags["trial_run"])
