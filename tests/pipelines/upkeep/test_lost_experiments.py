"""Experiments that were renamed or deleted on MLflow's page: all commands say the same, and the doctor repairs it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.tune import tune
from pipelines.upkeep.doctor import Result
from study.errors import StudyError
from study.search.records import Searches
from tests.support.patient import FIX, Patient
from tests.support.process import study_here

COMMANDS = {
    "tune": ("--dataset", "digits", "--search", "digits-cnn", "--trials", "4"),
    "retrain": (),
    "analyse": (),
    "experiment": ("dead-filters", "--dataset", "digits", "--epochs", "1"),
    "runs": (),
    "export": ("TARGET",),
}
READ = ("runs", "export")
"""They go through all experiments, whatever these are called."""


def key(patient: Patient) -> str:
    return patient.store.get(patient.retrained).experiment_id


def rename(patient: Patient) -> None:
    patient.store.client.rename_experiment(key(patient), "my digits")


def delete(patient: Patient) -> None:
    patient.store.client.delete_experiment(key(patient))


@pytest.mark.parametrize(("change", "message"), [(rename, "was renamed to my digits"), (delete, "was deleted")])
def test_every_command_says_what_became_of_the_experiment_and_the_doctor_repairs_it(
    patient: Patient, change: Callable[[Patient], None], message: str, tmp_path: Path
) -> None:
    context, finished = patient.context, patient.finished
    runs, searches = patient.store.runs(), Searches(context.storage).read()
    change(patient)
    messages = set()
    for command, options in COMMANDS.items():
        options = tuple(option.replace("TARGET", str(tmp_path / "some")) for option in options)
        ended = study_here(command, *options, home=context.home.root)
        if change is rename and command in READ:
            assert ended.code == 0, ended.err
        else:
            assert ended.code == 2, ended.err
            messages.add(ended.err)
    [sentence] = messages
    assert f"MLflow's experiment digits {message}: `MLFLOW_TRACKING_URI=" in sentence
    assert Searches(context.storage).read() == searches
    [renamed] = [finding for finding in patient.examine(FIX).repaired if "experiment" in finding.where]
    assert "in MLflow" in renamed.message
    assert patient.examine() == Result()
    # With a deleted experiment MLflow also restores the runs that were deleted before it, as other tests have done.
    before = {run.id for run in runs}
    assert [run for run in patient.store.runs() if run.id in before] == runs
    config = finished.searches["cnn"]
    assert tune(config, finished.dataset, patient.context) == patient.parent


def test_an_experiment_that_is_gone_for_good_is_not_begun_anew_under_the_same_search(patient: Patient) -> None:
    searches = Searches(patient.context.storage).read()
    for run in patient.store.runs():
        patient.erase(run.id)
    patient.sql("DELETE FROM experiments WHERE name = 'digits'")
    config = patient.finished.searches["cnn"]
    with pytest.raises(StudyError, match=r"its run is not in .*: use the tracking store that it was started with"):
        tune(config, patient.finished.dataset, patient.context)
    assert Searches(patient.context.storage).read() == searches
    assert {finding.where for finding in patient.examine().left} >= {"search digits-cnn", "search digits-ffnn"}


def test_a_new_experiment_of_the_old_name_is_not_mixed_with_the_renamed_one(patient: Patient) -> None:
    rename(patient)
    patient.store.client.create_experiment("digits")
    [finding] = [one for one in patient.examine(FIX).left if one.where == "experiment my digits"]
    assert finding.remedy == "nothing: another experiment is called digits; delete the one without runs"


def test_the_run_of_a_search_that_was_deleted_is_told_with_the_remedy(patient: Patient) -> None:
    patient.store.client.delete_run(patient.parent)
    config = patient.finished.searches["cnn"]
    with pytest.raises(StudyError, match="doctor --fix"):
        tune(config, patient.finished.dataset, patient.context)
    assert [finding.message for finding in patient.examine(FIX).repaired] == ["Its run was deleted in MLflow."]
    assert tune(config, patient.finished.dataset, patient.context) == patient.parent
