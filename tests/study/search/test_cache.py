from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from study.home import Home
from study.search import private
from study.search.cache import TrialCache
from study.search.database import Database
from study.search.storage import open_storage
from tests.support.postgres import Databases

LAST = ("x",)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, home: Home) -> str:
    if request.param == "sqlite":
        return home.storage_url
    databases: Databases = request.getfixturevalue("databases")
    return databases.storage


def opened(url: str) -> optuna.Study:
    """A search as another process has it."""
    return optuna.create_study(study_name="search", storage=TrialCache(open_storage(url), LAST), load_if_exists=True)


def stored(url: str) -> list[FrozenTrial]:
    """The trials as Optuna reads them."""
    return optuna.load_study(study_name="search", storage=optuna.storages.RDBStorage(url)).trials


@contextmanager
def statements() -> Iterator[list[str]]:
    executed: list[str] = []

    def note(connection: object, cursor: object, statement: str, *others: object) -> None:
        nonlocal executed
        executed += [statement] if statement.startswith("SELECT") else []

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        yield executed
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def finish(search: optuna.Study, value: float) -> FrozenTrial:
    with private.together(search):
        trial = search.ask()
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("kind", ("one", "other"))
    trial.report(value / 2, 1)
    trial.report(float("inf"), 2)
    with private.together(search):
        trial.set_user_attr("of", ["this", 1])
        return search.tell(trial, value)


def test_what_is_written_and_remembered_is_what_optuna_reads(url: str):
    first, other = opened(url), opened(url)
    for number in range(3):
        told = finish(first, float(number))
        assert told.user_attrs == {"of": ["this", 1]}
        assert told == stored(url)[number]
    pruned = first.ask()
    pruned.report(float("nan"), 1)
    first.tell(pruned, state=TrialState.PRUNED)
    first.enqueue_trial({"x": 0.5})
    own = first.ask()
    own.suggest_float("x", 0, 1)
    assert own.params == {"x": 0.5}
    for search in (first, other):
        seen = search.trials
        assert [trial.number for trial in seen] == list(range(5))
        for trial, recorded in zip(seen, stored(url), strict=True):
            # Not-a-number is unequal to itself.
            assert repr(trial) == repr(recorded)


def test_trials_of_other_processes_are_seen_as_they_go_on_and_end(url: str):
    first, other = opened(url), opened(url)
    trial = other.ask()
    assert [each.state for each in first.get_trials(deepcopy=False)] == [TrialState.RUNNING]
    trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    (seen,) = first.get_trials(deepcopy=False)
    assert (seen.params, seen.intermediate_values) == (trial.params, {1: 0.5})
    assert first.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) == []
    other.tell(trial, 0.7)
    (seen,) = first.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert (seen.value, seen.intermediate_values) == (0.7, {1: 0.5})


def test_a_look_for_finished_trials_is_one_statement_until_one_ends(url: str):
    first, other = opened(url), opened(url)
    finish(first, 0.5)
    under_way = [other.ask() for _ in range(3)]
    first.get_trials()
    with statements() as executed:
        first.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert len(executed) == 1
    other.tell(under_way[1], 0.7)
    found = first.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert [trial.number for trial in found] == [0, 2]
    assert [trial.number for trial in first.get_trials(deepcopy=False)] == [0, 1, 2, 3]


def test_within_a_block_one_look_is_enough_until_a_trial_begins(url: str):
    first, other = opened(url), opened(url)
    with private.together(first):
        assert first.get_trials() == []
        finish(other, 0.5)
        assert first.get_trials() == []
        trial = first.ask()
        assert trial.number == 1
        assert [each.state for each in first.get_trials()] == [TrialState.COMPLETE, TrialState.RUNNING]
    finish(other, 0.5)
    assert len(first.get_trials()) == 3


def test_what_is_set_within_a_block_is_written_at_its_end_or_before_by_a_flush(url: str):
    search = opened(url)
    finish(search, 0.5)
    with private.together(search):
        trial = search.ask()
        trial.set_user_attr("first", 1)
        assert stored(url)[1].user_attrs == {}
        private.flush(search)
        assert stored(url)[1].user_attrs == {"first": 1}
        trial.set_user_attr("second", 2)
        trial.suggest_float("x", 0, 1)
        private.set_note(trial, "a note")
    recorded = stored(url)[1]
    assert (recorded.user_attrs, recorded.params) == ({"first": 1, "second": 2}, trial.params)
    assert "a note" in search._storage.get_study_system_attrs(search._study_id).values()


def test_an_interrupted_block_writes_nothing_more(url: str):
    search = opened(url)
    with pytest.raises(ZeroDivisionError), private.together(search):
        search.ask().set_user_attr("first", 1 / 0)
    assert stored(url)[0].user_attrs == {}
    trial = search.ask()
    trial.set_user_attr("first", 1)
    assert stored(url)[1].user_attrs == {"first": 1}


@pytest.mark.parametrize("within", [True, False])
def test_a_trial_that_another_process_has_ended_takes_nothing_more(url: str, within: bool):
    first, other = opened(url), opened(url)
    trial = first.ask()
    private.set_failed(other, other.trials[0], {"why": "gone"})
    with pytest.raises(UpdateFinishedTrialError), private.together(first) if within else nullcontext():
        trial.set_user_attr("first", 1)
    with pytest.raises(UpdateFinishedTrialError):
        first.tell(trial, 0.5)
    (ended,) = first.trials
    assert (ended.state, ended.user_attrs, ended.value) == (TrialState.FAIL, {"why": "gone"}, None)


def test_a_trial_is_failed_with_its_attributes_in_one_transaction_or_not_at_all(url: str):
    """Else its own process could end it between the two, and keep an attribute that says otherwise."""
    first, other = opened(url), opened(url)
    trial, late = first.ask(), first.ask()
    unended = other.trials
    commits: list[object] = []
    note = commits.append
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", note)
    try:
        private.set_failed(other, unended[trial.number], {"why": "gone", "is_abandoned": True})
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "commit", note)
    assert len(commits) == 1
    late.set_user_attr("why", "pruned")
    first.tell(late, state=TrialState.PRUNED)
    with pytest.raises(UpdateFinishedTrialError):
        private.set_failed(other, unended[late.number], {"why": "gone"})
    ends = [(ended.state, ended.user_attrs) for ended in other.trials]
    assert ends == [(TrialState.FAIL, {"why": "gone", "is_abandoned": True}), (TrialState.PRUNED, {"why": "pruned"})]
    assert [trial.user_attrs for trial in stored(url)] == [attributes for _, attributes in ends]


def test_a_trial_of_the_queue_is_begun_by_one_process_with_what_was_enqueued(url: str):
    first, other = opened(url), opened(url)
    first.enqueue_trial({"x": 0.25}, user_attrs={"retry_of": 0})
    first.get_trials(), other.get_trials()
    trial, another = other.ask(), first.ask()
    assert (trial.number, another.number) == (0, 1)
    assert (trial.suggest_float("x", 0, 1), trial.user_attrs) == (0.25, {"retry_of": 0})
    trial.set_user_attr("more", 1)
    assert first.trials[0].user_attrs == stored(url)[0].user_attrs == {"retry_of": 0, "more": 1}


def test_more_trials_are_loaded_than_one_statement_names(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("study.search.database.AT_ONCE", 2)
    search = opened(url)
    for number in range(5):
        finish(search, float(number))
    assert [trial.value for trial in opened(url).trials] == [0, 1, 2, 3, 4]


def test_a_database_without_a_statement_that_replaces_rows_keeps_optunas_own_cache(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    from study.search.cache import cached

    database = open_storage(home.storage_url)
    assert isinstance(cached(database, LAST), TrialCache)
    monkeypatch.setattr("study.search.database.UPSERTS", {})
    assert isinstance(cached(database, LAST), Database)
