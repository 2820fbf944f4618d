import inspect
import re
import signal
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
from pipelines.trials import trainings as stage
from pipelines.tune import tune
from study.data import Dataset
from study.errors import StoreFault, StudyError
from study.search import cache, search, storage
from study.system import databases, interruption, processes
from study.system.faults import is_passing
from tests.pipelines.test_tune import SMALL, in_optuna
from tests.pipelines.trials.test_recovery import assert_runs_mirror
from tests.support.postgres import Cluster, for_optuna, programs, running_cluster


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


def test_each_call_by_which_optuna_reaches_a_server_waits_for_it() -> None:
    source = inspect.getsource(optuna.storages._cached_storage)
    called = set(re.findall(r"self\._backend\.(\w+)\(", source))
    # Optuna's own heartbeats are not used.
    assert called - set(storage.CALLS) == {
        "record_heartbeat",
        "_get_stale_trial_ids",
        "get_heartbeat_interval",
        "get_heartbeat_stale_trial_callback",
    }
    called = set(re.findall(r"self\._database\.(\w+)\(", inspect.getsource(cache)))
    assert called == {"states", "load", "write"}
    assert called <= set(storage.CALLS)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (its initdb was not found)")
    with running_cluster() as cluster:
        yield cluster


@pytest.mark.parametrize("last", [None, ("x",)], ids=["Optuna's cache", "cache"])
def test_a_database_that_restarts_is_waited_for_in_the_middle_of_a_trial(
    last: tuple[str, ...] | None, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def start_again(line: str, **options: object) -> None:
        lines.append(line)
        cluster.control("start")

    monkeypatch.setattr(storage, "print", start_again, raising=False)
    database = storage.open_storage(cluster.new(for_optuna))
    opened = optuna.create_study(storage=cache.TrialCache(database, last) if last else database, direction="maximize")
    for away in ("ask", "report", "tell"):
        if away == "ask":
            cluster.control("stop", "-m", "fast")
        trial = opened.ask()
        trial.suggest_float("x", 0, 1)
        if away == "report":
            cluster.control("stop", "-m", "fast")
        trial.report(0.5, 1)
        if away == "tell":
            cluster.control("stop", "-m", "fast")
        opened.tell(trial, 0.5)
    assert [(trial.state, trial.value) for trial in opened.trials] == [(TrialState.COMPLETE, 0.5)] * 3
    assert len(lines) == 3
    assert all("does not answer correctly" in line and "retrying for up to 600 s" in line for line in lines)


def test_who_stops_within_a_transaction_holds_up_nobody_for_longer_than_the_grace_period(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.1")
    monkeypatch.setenv("PGOPTIONS", "")
    url = postgres.new(for_optuna)
    stopped, other = (storage.open_storage(url) for _ in range(2))
    opened = optuna.create_study(storage=stopped, study_name="some")
    trial = opened.ask()
    with stopped.engine.connect() as connection:
        # What Optuna locks to give a trial its number, and to end it.
        connection.exec_driver_sql("SELECT 1 FROM studies, trials FOR UPDATE")
        assert other.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        assert optuna.load_study(storage=other, study_name="some").ask().number == 1
        with pytest.raises(sqlalchemy.exc.DBAPIError) as raised:
            connection.exec_driver_sql("SELECT 1")
    assert is_passing(raised.value)
    assert opened.ask().number == 2


def test_a_database_that_stays_away_is_given_up_with_a_sentence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_STORE_TIMEOUT", "0")
    opened = optuna.create_study(storage=storage.open_storage(cluster.new(for_optuna)))
    cluster.control("stop", "-m", "immediate")
    with pytest.raises(StoreFault, match=r"does not answer correctly .*: start it again"):
        opened.ask()
    cluster.control("start")


def test_a_signal_ends_the_waiting_for_a_database_and_closing_waits_no_more(cluster: Cluster) -> None:
    opened = optuna.create_study(storage=storage.open_storage(cluster.new(for_optuna)))
    trial = opened.ask()
    cluster.control("stop", "-m", "immediate")
    with interruption.signals_noted():
        interruption.note(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            opened.tell(trial, 0.5)
        with pytest.raises(StoreFault):
            opened.tell(trial, state=TrialState.FAIL)
        with pytest.raises(StoreFault), databases.locked_database(cluster.url("postgres")):
            pass
    cluster.control("start")


def test_a_server_that_takes_no_further_connection_is_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, lines = cluster.new(for_optuna), list[str]()
    cluster.tell("ALTER SYSTEM SET max_connections = 7")
    cluster.control("restart")
    with ExitStack() as taken:
        # Three are kept for administrators, as whom this test connects.
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        for _ in range(7):
            taken.enter_context(engine.connect())

        def give_back(line: str, **options: object) -> None:
            lines.append(line)
            taken.close()

        monkeypatch.setattr(databases, "print", give_back, raising=False)
        storage.open_storage(url).engine.dispose()
    [line] = lines
    assert "too many clients already" in line


def test_machines_with_different_heartbeats_do_not_work_on_one_search(
    postgres: Cluster, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new(for_optuna)
    search.open_search(SMALL, url, digest=tiny.digest)
    search.open_search(SMALL, url, digest=tiny.digest)
    monkeypatch.setenv("STUDY_HEARTBEAT", "5")
    with pytest.raises(StudyError, match="has a heartbeat every 60 s, and STUDY_HEARTBEAT is 5: set it to the same"):
        search.open_search(SMALL, url, digest=tiny.digest)
