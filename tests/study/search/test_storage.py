import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from torch import nn

from pipelines.session.context import Context
from pipelines.trials import runner as stage
from pipelines.tune import tune
from study.data import Dataset
from study.errors import StudyError
from study.search import search, storage
from study.system import databases, processes
from tests.pipelines.test_tune import SMALL, in_optuna
from tests.pipelines.trials.test_recovery import assert_runs_mirror


@contextmanager
def refusing(context: Context, pragma: str) -> Iterator[None]:
    """Every connection to the search storage is set to refuse what it is to write."""

    def refuse(connected: sqlalchemy.Connection) -> None:
        if str(connected.engine.url) == context.storage:
            connected.exec_driver_sql(f"PRAGMA {pragma}")

    sqlalchemy.event.listen(sqlalchemy.Engine, "begin", refuse)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "begin", refuse)


@contextmanager
def held(context: Context) -> Iterator[sqlite3.Connection]:
    """Another process writes to the search storage, and does not end."""
    with closing(sqlite3.connect(context.storage.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


FAULTS: dict[str, tuple[Callable[[Context], AbstractContextManager[object]], str]] = {
    # No page more than there are: SQLite says then what it says of a full disk.
    "full": (
        partial(refusing, pragma="max_page_count = 1"),
        "The disk of .* is full .*database or disk is full.*: make room",
    ),
    "read-only": (
        partial(refusing, pragma="query_only = 1"),
        "sqlite:.*optuna.db cannot be written .*readonly database",
    ),
    "locked": (held, "The database sqlite:.*optuna.db is locked by another process"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("trial", [0, 1])
def test_a_storage_that_fails_ends_the_search_with_a_sentence_and_the_next_start_sets_all_right(
    fault: str, trial: int, context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    # So much is written that the pages which are there are full before the end.
    config = replace(SMALL, epochs=200 if fault == "full" else 3)
    begin, sentence = FAULTS[fault]
    # What goes on is another process: this one lives, and would be waited for.
    monkeypatch.setattr(processes, "_start", lambda number: "first")
    with ExitStack() as faults, monkeypatch.context() as patch:
        # Optuna itself tries some writes several times, after pauses of seconds.
        patch.setattr(storage, "TIMEOUT", 0.01)
        patch.setattr(optuna.storages._rdb.storage, "time", SimpleNamespace(sleep=lambda seconds: None))
        whole, begun = stage.build_model, []

        def build(*arguments: Any, **options: Any) -> nn.Module:
            begun.append(1)
            if len(begun) == trial + 1:
                faults.enter_context(begin(context))
            return whole(*arguments, **options)

        patch.setattr(stage, "build_model", build)
        with pytest.raises(StudyError, match=sentence) as raised:
            tune(config, tiny, context)
    assert "\n" not in str(raised.value)
    monkeypatch.setattr(processes, "_start", lambda number: "second")
    tune(config, tiny, context)
    trials = in_optuna(context, config, tiny).get_trials()
    assert search.finished(in_optuna(context, config, tiny)) == config.trials
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == config.trials
    assert_runs_mirror(context, config, trials)


def test_waiting_for_a_locked_storage_is_told_and_ends_with_the_lock(context: Context, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(databases, "PATIENCE", 0)
    engine, lines = storage.open_storage(context.storage).engine, []
    with held(context) as other, monkeypatch.context() as patch:

        def release(line: str, **options: object) -> None:
            lines.append(line)
            other.rollback()

        patch.setattr(databases, "print", release, raising=False)
        with engine.begin() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    assert lines == [
        f"The database {context.storage} is locked by another process (database is locked): retrying for up to 60 s."
    ]


def test_a_storage_that_stays_locked_is_given_up(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(databases, "PATIENCE", 0)
    monkeypatch.setattr(storage, "TIMEOUT", 0.01)
    engine = storage.open_storage(context.storage).engine
    raised = pytest.raises(StudyError, match="is locked by another process")
    with held(context), raised, storage.storage_failures_explained(context.storage), engine.begin():
        pass
    assert "retrying for up to" in capsys.readouterr().out


def test_of_two_that_take_the_same_trial_from_the_line_one_gets_it(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    first, other = (in_optuna(context, SMALL, tiny) for _ in range(2))
    first.enqueue_trial({"learning_rate": 1e-3, "weight_decay": 1e-3})
    [waiting] = first.get_trials()
    whole, taken = RDBStorage.check_trial_is_updatable, []

    def meanwhile(*arguments: Any) -> None:
        """Between looking and taking: nobody else can look."""
        whole(*arguments)
        if not taken:
            taken.append(1)
            with pytest.raises(StorageInternalError):
                other._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)

    monkeypatch.setattr(storage, "TIMEOUT", 0.01)
    monkeypatch.setattr(RDBStorage, "check_trial_is_updatable", meanwhile)
    first, other = (in_optuna(context, SMALL, tiny) for _ in range(2))
    assert first._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
    assert taken
    assert not other._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)


def test_a_bug_while_a_storage_is_opened_is_not_told_as_a_failure_of_the_storage() -> None:
    with pytest.raises(KeyError, match="Permission denied"), storage.opening("sqlite:////home/me/optuna.db"):
        raise KeyError("Permission denied")


def test_a_locked_storage_is_told_as_locked_when_it_is_opened(context: Context, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(storage, "TIMEOUT", 0.1)
    with held(context), pytest.raises(StudyError, match=r"optuna\.db is locked by another process"):
        storage.open_storage(context.storage).create_new_study([optuna.study.StudyDirection.MAXIMIZE])
