"""A worker that hangs, with real processes: it is stopped so that it does nothing at all, not even end."""

import os
import signal
from pathlib import Path

import pytest
from optuna.trial import TrialState

from study.home import Home
from study.tracking.store import Store
from tests.conftest import copy_of
from tests.pipelines.trials.test_pool import TUNE, assert_gone, pid, started, trials_of
from tests.support.process import end, read_until, study_here

LIMIT = 15
"""Seconds: many times what an epoch takes, on a machine that does a lot else too."""
SEARCH = (*TUNE, "--trials", "2", "--epochs", "60", "--workers", "1", "--trial-timeout", str(LIMIT))


@pytest.mark.timeout(600)
def test_a_worker_that_hangs_is_killed_its_trial_timed_out_and_another_tries_it_again(migrated: Home, tmp_path: Path):
    home = copy_of(migrated, tmp_path / "home")
    with started(SEARCH, home) as watch:
        while not (under_way := [trial for trial in watch.running() if trial.last_step]):
            assert watch.process.poll() is None, end(watch.process)
        [hung] = watch.workers()
        assert hung.pid == pid(under_way[0]) != watch.process.pid
        os.kill(hung.pid, signal.SIGSTOP)
        output = read_until(watch.process, "takes its place")
        assert_gone([hung])
        ended = end(watch.process, output)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert f"Worker 1 was killed (no epoch in {LIMIT} s): another takes its place." in lines
    number = under_way[0].number
    assert f"Retrying after an interruption, under a new number: trial {number}." in lines

    trials, store, reason = trials_of(home), Store(home), f"timed out after {LIMIT} s without an epoch"
    assert trials[number].state == TrialState.FAIL
    assert trials[number].user_attrs["status_reason"] == trials[number].user_attrs["stopped"] == reason
    run = store.get(trials[number].user_attrs["mlflow_run"])
    assert (run.status, run.tags["status_reason"]) == ("KILLED", reason)
    [again] = [trial for trial in trials if trial.user_attrs.get("retry_of") == number]
    assert (again.state, again.params) == (TrialState.COMPLETE, trials[number].params)
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 2
    assert store.runs(status="RUNNING") == []


@pytest.mark.parametrize("text", ["-1", "soon"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(text: str, home: Home):
    ended = study_here(*TUNE, "--trial-timeout", text, home=home.root)
    assert ended.code == 2
    assert ended.err.startswith("study: --trial-timeout is ")
    assert Store(home).runs() == []
