"""The page's analysis as a run, and what a log is told of it."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest

from analysis.results import intervals, table2
from analysis.results.kinds import GROUPS
from pipelines.analyse import analyse
from pipelines.config import AnalysisConfig
from pipelines.report import page
from pipelines.report.network import pull
from study.system.processes import this_process
from study.tracking.runs import WORKER
from tests.conftest import Finished
from tests.pipelines.report.conftest import Analyse
from tests.support.process import study_here

ONLY = ("table2", "convergence", "kernel_conv1", "maps_conv1", "architecture")
SETTINGS = AnalysisConfig(filter=3, epochs_every=1, only=ONLY)


def test_what_a_killed_analysis_left_open_is_closed_by_the_next(analysed: Analyse, finished_study: Finished):
    store, mine = finished_study.context.store, this_process()
    tags = {"stage": "analysis", "model": "cnn", "dataset": "digits", "retrain_run": finished_study.retrained["cnn"]}
    gone = mine.replace(f" {os.getpid()} ", " 999999999 ")
    left, other = (store.start("digits", "left", tags={**tags, WORKER: worker}, params={}) for worker in (gone, mine))
    analysed(replace(SETTINGS, only=("roc",)))
    assert (store.get(left).status, store.get(left).tags["status_reason"]) == ("KILLED", "interrupted")
    assert store.get(other).status == "RUNNING"
    for run_id in (left, other):
        store.client.delete_run(run_id)


def test_an_analysis_that_is_stopped_while_it_is_recorded_ends_its_run(
    analysed: Analyse, finished_study: Finished, monkeypatch: pytest.MonkeyPatch
):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    store = finished_study.context.store
    monkeypatch.setattr(store, "log", stop)
    before = {run.id for run in store.runs(stage="analysis")}
    with pytest.raises(KeyboardInterrupt):
        analysed(replace(SETTINGS, only=("roc",)))
    (left,) = (run for run in store.runs(stage="analysis") if run.id not in before)
    assert (left.status, left.tags["status_reason"]) == ("KILLED", "interrupted")
    store.client.delete_run(left.id)


@pytest.mark.parametrize(
    ("recorded", "known_as"),
    [
        ("cifar10", "CIFAR-10"),
        ("digits", "scikit-learn's digits"),
        ("/home/me/my birds", "the image folder “my birds”"),
        ("", "the image folder “birds-1a2b3c4d”"),
    ],
)
def test_a_data_set_is_named_as_a_reader_knows_it(finished_study: Finished, recorded: str, known_as: str):
    store = finished_study.context.store
    network = pull(store, store.get(finished_study.retrained["cnn"]))
    run = replace(network.run, tags={"dataset": "birds-1a2b3c4d"}, params={"dataset": recorded})
    assert replace(network, run=run).images == known_as


def test_a_log_is_told_of_every_part_and_of_table_2_only_where_it_was_chosen(
    finished_study: Finished, capsys: pytest.CaptureFixture[str]
):
    messages = []
    for only in (ONLY, ONLY[1:]):
        analyse("best", replace(SETTINGS, only=only), finished_study.context, data=finished_study.dataset, again=True)
        messages.append(capsys.readouterr().out)
    parts = ["How well the models classify", "How training went", "What formed inside", "How the layers compute"]
    parts_shown = re.findall(r"^figures (\d+)/5: (.*)$", messages[0], re.MULTILINE)
    assert parts_shown == list(zip(["1", "2", "4", "5"], parts, strict=True))
    assert [len(re.findall(r"^ (?:train|test) +CNN +0\.", message, re.MULTILINE)) for message in messages] == [2, 0]
    assert ["\n5 figures drawn.\n" in message for message in messages] == [True, False]


def test_a_figure_that_failed_is_drawn_by_the_next_and_the_exit_code_says_so(
    analysed: Analyse, finished_study: Finished
):
    context = finished_study.context
    run_id = finished_study.retrained["cnn"]
    [weights] = context.home.store.glob(f"artifacts/*/{run_id}/artifacts/weights/epoch_001.safetensors")
    whole = weights.read_bytes()
    command = ("analyse", "--only", "kernel_conv1,table2", "--epochs-every", "1", "--filter", "3")
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        ended = study_here(*command, home=context.home.root)
    finally:
        weights.write_bytes(whole)
    assert ended.code == 1
    assert "Left out: kernel_conv1. The artifact weights/epoch_001.safetensors of run" in ended.out
    assert f"{run_id} was altered" in ended.out
    assert "\n1 figure drawn." in ended.out
    ended = study_here(*command, "--again", home=context.home.root)
    assert ended.code == 0
    assert "\n2 figures drawn." in ended.out


@pytest.mark.parametrize(
    ("columns", "cells"), [("80", r"0\.\d{3} +0\.\d{3}"), ("180", r"0\.\d{3} \(0\.\d{3}–0\.\d{3}\) +0\.")]
)
def test_a_terminal_shows_table_2_on_one_line_a_model_with_intervals_where_they_fit(
    columns: str,
    cells: str,
    finished_study: Finished,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for name, value in {"COLUMNS": columns, "FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    only = replace(SETTINGS, only=("table2",))
    analyse("best", only, finished_study.context, data=finished_study.dataset, again=True)
    lines = capsys.readouterr().out.splitlines()
    assert [bool(re.match(rf" test +CNN +{cells}", line)) for line in lines].count(True) == 1
    assert max(len(line) for line in lines if line.startswith(" test")) <= int(columns)


def test_the_reports_rows_are_told_from_ours_where_intervals_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, value in {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    predictions = {("cnn", "test"): (np.eye(10)[np.arange(50) % 10], np.arange(50) % 10)}
    measured = intervals.measured(
        predictions, sorted(name for names in GROUPS.values() for name in names), of_cifar10=True
    )
    page.print_table2(table2.answer(measured), is_quiet=False)
    output = capsys.readouterr().out
    assert re.findall(r"^ test +(CNN(?: \(Wik\))?) +(\S+)", output, re.MULTILINE) == [
        ("CNN", "1.000"),
        ("CNN (Wik)", "0.710"),
    ]
