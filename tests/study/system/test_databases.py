import time
from contextlib import nullcontext

import pytest

from study.system import databases
from study.system.databases import locked_database
from tests.support.postgres import Cluster


def test_one_process_at_a_time_holds_the_lock_of_a_database(postgres: Cluster):
    url, other = postgres.new(), postgres.new()
    with locked_database(url) as is_held:
        assert is_held
        with locked_database(url, is_patient=False) as is_held_twice, locked_database(other) as is_other_held:
            assert (is_held_twice, is_other_held) == (False, True)
    with locked_database(url, is_patient=False) as is_held:
        assert is_held


def test_who_holds_a_lock_and_stops_loses_it_after_the_grace_period_and_others_go_on(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch
):
    url = postgres.new()
    monkeypatch.setattr(databases, "grace", lambda: 0.5)
    monkeypatch.setattr(databases, "PeriodicCall", lambda beat: nullcontext())
    with locked_database(url), locked_database(url) as is_held:
        assert is_held


def test_who_works_for_longer_than_the_grace_period_keeps_the_lock(postgres: Cluster, monkeypatch: pytest.MonkeyPatch):
    url = postgres.new()
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.05")
    monkeypatch.setattr(databases, "grace", lambda: 2.5)
    with locked_database(url):
        time.sleep(3)
        with locked_database(url, is_patient=False) as is_held:
            assert not is_held
