"""An analysis after another one: it makes what is missing or would be another, and leaves the rest."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.page import Section, page
from pipelines.analyse import Analysis, analyse
from pipelines.report import inputs
from pipelines.report.cache import Made
from study.config import AnalysisConfig
from study.system.processes import this_process
from tests.conftest import Finished
from tests.support.process import study_here

ONLY = ("table2", "convergence", "kernel_conv1", "maps_conv1", "architecture")
SETTINGS = AnalysisConfig(filter=3, epochs_every=1, only=ONLY)


@pytest.fixture
def again(finished_study: Finished, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, int]]]:
    """Analyses the finished study's CNN, and returns how many figures were unchanged and how many were made."""
    context, reports = finished_study.context, finished_study.context.home.reports
    before = reports.rename(reports.with_name("reports of other tests")) if reports.exists() else None

    def run(settings: AnalysisConfig = SETTINGS, **more: bool) -> tuple[int, int]:
        capsys.readouterr()
        made: Analysis = analyse("best", settings, context, loaded=finished_study.dataset, **more)
        assert made.missing == ()
        said = capsys.readouterr().out
        assert not re.search(r"\b0 figures|\b0 made", said)
        unchanged = re.search(r"^(\d+) figures? unchanged[.,]", said, re.MULTILINE)
        anew = re.search(r"(?:^|, )(\d+) (?:figures? )?made\.$", said, re.MULTILINE)
        return int(unchanged[1]) if unchanged else 0, int(anew[1]) if anew else 0

    yield run
    shutil.rmtree(reports, ignore_errors=True)
    if before:
        before.rename(reports)


Again = Callable[..., tuple[int, int]]


def report(finished: Finished) -> Path:
    [page] = finished.context.home.reports.glob("*/only/index.html")
    return page.parent


def test_only_what_a_changed_option_shows_is_made_anew(again: Again):
    assert again() == (0, 5)
    assert again(replace(SETTINGS, only=ONLY[:3])) == (3, 0)
    assert again() == (5, 0)
    assert again(replace(SETTINGS, filter=2)) == (3, 2)
    assert again(replace(SETTINGS, filter=2, image="train:3")) == (4, 1)
    assert again(replace(SETTINGS, filter=2, image="train:3"), again=True) == (0, 5)


def test_what_a_killed_analysis_left_open_is_closed_by_the_next(again: Again, finished_study: Finished):
    store, mine = finished_study.context.store, this_process()
    tags = {"stage": "analysis", "model": "cnn", "dataset": "digits", "retrain_run": finished_study.retrained["cnn"]}
    gone = mine.replace(f" {os.getpid()} ", " 999999999 ")
    left, other = (store.start("digits", "left", tags={**tags, "worker": worker}, params={}) for worker in (gone, mine))
    again(replace(SETTINGS, only=("roc",)))
    assert (store.get(left).status, store.get(left).tags["status_reason"]) == ("KILLED", "interrupted")
    assert store.get(other).status == "RUNNING"
    for run_id in (left, other):
        store.client.delete_run(run_id)


def test_an_analysis_that_is_stopped_while_it_is_recorded_ends_its_run(
    again: Again, finished_study: Finished, monkeypatch: pytest.MonkeyPatch
):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    store = finished_study.context.store
    monkeypatch.setattr(store, "log", stop)
    before = {run.id for run in store.runs(stage="analysis")}
    with pytest.raises(KeyboardInterrupt):
        again(replace(SETTINGS, only=("roc",)))
    (left,) = (run for run in store.runs(stage="analysis") if run.id not in before)
    assert (left.status, left.tags["status_reason"]) == ("KILLED", "interrupted")
    store.client.delete_run(left.id)


def test_a_log_is_told_of_every_part_and_of_table_2_only_where_it_was_chosen(
    finished_study: Finished, capsys: pytest.CaptureFixture[str]
):
    said = []
    for only in (ONLY, ONLY[1:]):
        analyse("best", replace(SETTINGS, only=only), finished_study.context, loaded=finished_study.dataset)
        said.append(capsys.readouterr().out)
    parts = ["What the models reach", "How training went", "What formed inside", "How the layers compute"]
    told = re.findall(r"^figures (\d+)/5: (.*)$", said[0], re.MULTILINE)
    assert told == list(zip(["1", "2", "4", "5"], parts, strict=True))
    assert ["| CNN |" in one for one in said] == [True, False]


def test_chosen_figures_leave_the_whole_report_and_its_files_as_they_are(again: Again, finished_study: Finished):
    context, run_id = finished_study.context, finished_study.retrained["cnn"]
    whole, chosen = replace(SETTINGS, only=()), replace(SETTINGS, only=("ablation", "roc"))
    _, all_of_them = again(whole)
    [page] = context.home.reports.glob("*/index.html")
    [kept] = context.home.store.glob(f"artifacts/*/{run_id}/artifacts/report")
    before, logged = files_of(page.parent), files_of(kept)
    assert again(replace(chosen, ablation="zero")) == (1, 1)
    assert (files_of(page.parent), files_of(kept)) == (before, logged)
    only = files_of(page.parent / "only")
    assert only.items() <= files_of(kept / "only").items()
    assert only["roc.csv"] == before["roc.csv"]
    assert only["ablation_auc_lost.csv"] != before["ablation_auc_lost.csv"]
    assert b'href="../index.html"' in only["index.html"]
    assert again(chosen) == (2, 0), "taken from the whole report"
    shutil.rmtree(kept / "only")
    assert again(whole) == (all_of_them, 0)
    assert (files_of(page.parent), files_of(kept)) == (before, logged)
    assert not (kept / "only").exists(), "not logged with the whole report"


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a report and what they hold, without what the next analysis reads."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_file_that_was_removed_or_cut_is_made_again(
    damage: Callable[[Path], object], again: Again, finished_study: Finished
):
    again()
    folder = report(finished_study)
    names = ("kernel_conv1_filter3.png", "table2.md", "convergence.svg")
    whole = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        damage(folder / name)
    assert again() == (2, 3)
    assert {name: (folder / name).read_bytes() for name in names} == whole


def test_what_is_kept_of_a_step_may_be_damaged_itself(again: Again, finished_study: Finished):
    again()
    kept = report(finished_study) / ".made"
    (kept / "table2.json").write_text("half a line")
    (kept / "convergence.json").unlink()
    told = json.loads((kept / "architecture.json").read_text())
    (kept / "architecture.json").write_text(json.dumps({**told, "files": {"../../outside": "0"}}))
    assert again() == (2, 3)


def test_other_seeds_and_trials_change_what_looks_them_up(again: Again, finished_study: Finished):
    store, dataset = finished_study.context.store, finished_study.dataset
    again()
    run_id = store.start(dataset.key, "a new trial", tags={"stage": "trial", "search": "another"}, params={})
    try:
        assert again() == (4, 1)
        assert again() == (5, 0)
    finally:
        store.client.delete_run(run_id)


def test_other_code_makes_all_anew(again: Again, monkeypatch: pytest.MonkeyPatch):
    again()
    monkeypatch.setattr(inputs, "_code", lambda: ["other"])
    assert again() == (0, 5)


def test_an_analysis_that_was_interrupted_makes_only_the_rest(again: Again, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:

        def interrupted(*arguments: object, **more: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("analysis.inside.kernels.draw_kernel_evolution", interrupted)
        with pytest.raises(KeyboardInterrupt):
            again()
    # In the order of the page, the kernels come third.
    assert again() == (2, 3)


def test_a_step_that_failed_is_tried_again_and_the_exit_code_says_so(again: Again, finished_study: Finished):
    context = finished_study.context
    again()
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
    # Every figure about the network is made anew of other weights, and what was made of the right ones is still there.
    assert again(replace(SETTINGS, only=("kernel_conv1", "table2"))) == (1, 1)
    ended = study_here(*command, "--again", home=context.home.root)
    assert ended.code == 0
    assert "\n2 figures made." in ended.out


def test_the_folder_holds_what_its_page_shows_and_what_others_put_there(again: Again, finished_study: Finished):
    assert again(replace(SETTINGS, only=("roc", "table2"))) == (0, 2)
    folder = report(finished_study)
    (folder / "notes.txt").write_text("mine")
    (folder / "roc.svg").write_text("altered by hand")
    assert again(replace(SETTINGS, only=("kernel_conv1",))) == (0, 1)
    kernel = {f"kernel_conv1_filter3.{kind}" for kind in ("png", "svg", "csv")}
    assert set(files_of(folder)) == {"index.html", "notes.txt", "roc.svg", *kernel}
    assert again(replace(SETTINGS, only=("kernel_conv1",), filter=2)) == (0, 1)
    others = {name.replace("filter3", "filter2") for name in kernel}
    assert set(files_of(folder)) == {"index.html", "notes.txt", "roc.svg", *others}
    assert again(replace(SETTINGS, only=("kernel_conv1", "table2", "roc"))) == (2, 1), "the altered one is made anew"
    assert kernel < set(files_of(folder))
    assert not others & set(files_of(folder))
    aside = folder / ".made" / "aside"
    assert others <= {file.name for file in aside.iterdir()}
    assert not kernel & {file.name for file in aside.iterdir()}


def test_what_takes_the_place_of_what_was_set_aside_leaves_nothing_of_it(tmp_path: Path):
    made = Made(tmp_path)
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_text(name)
        made.keep("step", name, [Section(name, "", csv=name)], [name])
    assert sorted(files_of(tmp_path)) == ["c.csv"]
    assert sorted(files_of(tmp_path / ".made" / "aside")) == ["b.csv"]
    assert made.find("step", "a.csv") is None
    for name in ("b.csv", "c.csv"):
        assert [section.csv for section in made.find("step", name) or []] == [name], "the two changed places"
    assert (sorted(files_of(tmp_path)), sorted(files_of(tmp_path / ".made" / "aside"))) == (["c.csv"], ["b.csv"])
    (tmp_path / ".made" / "step.json").write_text("half a line")
    made.set_aside(but=())
    assert "c.csv" in files_of(tmp_path), "nothing tells whose it is"


def test_a_section_comes_back_as_the_page_shows_it(tmp_path: Path):
    table = pd.DataFrame(
        {
            "count": [1200, 3],
            "share": [0.1 + 0.2, float("nan")],
            "mixed": [1, "a"],
            "none": [None, 2.5],
            "is": [True, False],
            7: ["<b>", "é"],
        }
    )
    (tmp_path / "a.png").write_bytes(b"picture")
    (tmp_path / "a.gif").write_bytes(b"moving")
    sections = [
        Section("One", "Text.", table=table, png=b"picture", alt="Alt", csv="a.csv"),
        Section("Two", "Text.", gif=b"moving", link=("words", "explorer.html")),
        Section("Three", ""),
    ]
    made = Made(tmp_path)
    made.keep("step", "inputs", sections, ["a.png", "a.gif"])
    assert made.find("step", "other inputs") is None
    assert made.find("other step", "inputs") is None
    found = made.find("step", "inputs")
    assert found is not None
    assert page("", "", {"Part": found}) == page("", "", {"Part": sections})
