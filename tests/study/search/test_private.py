import ast

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from study.home import Home
from study.search import private
from tests.study.search.test_search import opened
from tests.test_architecture import ROOT, product


def private_names() -> set[str]:
    """The private attributes of a study, a trial, a trial's record and a storage."""
    study = optuna.create_study()
    objects = (study, study.ask(), study.trials[0], study._storage)
    names = {name for each in objects for name in (*dir(each), *vars(each))}
    return {name for name in names if name.startswith("_") and not name.endswith("__")}


def private_attributes(source: str) -> set[str]:
    """The private attributes that are taken of anything but `self`."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    attributes = {node.attr for node in nodes if not (isinstance(node.value, ast.Name) and node.value.id == "self")}
    return {name for name in attributes if name.startswith("_") and not name.endswith("__")}


def test_no_other_module_takes_a_private_attribute_of_an_optuna_object():
    names = private_names()
    assert {"_storage", "_study_id", "_trial_id"} <= names
    users = {
        module
        for module in product()
        if names & private_attributes((ROOT / (module.replace(".", "/") + ".py")).read_text())
    }
    assert users == {"study.search.private"}


@pytest.mark.parametrize("can_replace", [True, False])
def test_an_attribute_is_set_and_a_trial_ended_that_another_process_began(
    can_replace: bool, home: Home, monkeypatch: pytest.MonkeyPatch
):
    if not can_replace:
        monkeypatch.setattr("study.search.database.UPSERTS", {})
    search = opened(home)
    search.ask()
    (trial,) = search.trials
    private.set_user_attr(search, trial, "worker", "nobody")
    private.set_system_attr(search, trial, "heartbeat", 3)
    (stored,) = private.stored_trials(search)
    assert (stored.user_attrs["worker"], stored.system_attrs["heartbeat"]) == ("nobody", 3)
    private.set_failed(search, trial, {"why": "gone"})
    (ended,) = search.trials
    assert (ended.state, ended.user_attrs["why"]) == (TrialState.FAIL, "gone")
    with pytest.raises(UpdateFinishedTrialError):
        private.set_user_attr(search, trial, "worker", "somebody")
    with pytest.raises(UpdateFinishedTrialError):
        private.set_failed(search, trial, {"why": "gone"})
