"""A report is drawn again exactly where something that it is made from has changed."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.config import AnalysisConfig
from pipelines.report import inputs
from pipelines.report.exhibits import INPUTS
from pipelines.session.notes import NOTE
from study.tracking.runs import WORKER
from tests.conftest import Finished
from tests.pipelines.report.conftest import Analyse

SETTINGS = AnalysisConfig(filter=3, epochs_every=1, only=("table2", "architecture"))
UNCHANGED = "Nothing has changed since this report was made"


@pytest.fixture
def is_drawn(analysed: Analyse, capsys: pytest.CaptureFixture[str]) -> Callable[..., bool]:
    """Whether an analysis draws its figures."""

    def run(config: AnalysisConfig = SETTINGS, **more: bool) -> bool:
        capsys.readouterr()
        analysed(config, **more)
        output = capsys.readouterr().out
        assert (UNCHANGED in output) != (" drawn." in output)
        assert re.search(r"^ test +CNN +0\.", output, re.MULTILINE)
        assert "Report: " in output
        return UNCHANGED not in output

    return run


def test_an_unchanged_report_is_kept_and_no_analysis_is_recorded(is_drawn, finished_study: Finished):
    store = finished_study.context.store
    assert is_drawn()
    recorded = store.runs(stage="analysis")
    assert not is_drawn()
    assert store.runs(stage="analysis") == recorded
    assert is_drawn(again=True)
    assert len(store.runs(stage="analysis")) == len(recorded) + 1
    assert is_drawn(replace(SETTINGS, per_map=True))
    assert not is_drawn(replace(SETTINGS, per_map=True))


def test_a_search_that_another_process_looked_through_draws_nothing(is_drawn, finished_study: Finished):
    (search,) = finished_study.context.store.runs(stage="search", search="digits-cnn")
    assert is_drawn()
    finished_study.context.store.tag(search.id, **{WORKER: "another", NOTE: "described with its report"})
    is_drawn_again = is_drawn()
    # The study is of other tests too.
    finished_study.context.store.tag(search.id, **{name: search.tags[name] for name in (WORKER, NOTE)})
    assert not is_drawn_again


def test_a_file_of_the_report_that_was_altered_or_lost_is_made_again(
    is_drawn, analysed: Analyse, finished_study: Finished
):
    folder = analysed(SETTINGS)
    page = (folder / "index.html").read_bytes()
    (folder / "index.html").write_bytes(page + b" ")
    assert is_drawn()
    assert (folder / "index.html").read_bytes() == page
    (folder / "table2.csv").unlink()
    assert is_drawn()
    assert (folder / "table2.csv").is_file()
    for content in ("", "[1]", '{"inputs": 1}'):
        (folder / INPUTS).write_text(content)
        assert is_drawn()
    assert not is_drawn()


def test_what_was_deleted_of_the_report_in_mlflow_is_logged_again(is_drawn, finished_study: Finished):
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    assert is_drawn()
    root = store.root(run_id)
    assert root
    (root / "report" / "only" / "table2.csv").unlink()
    assert not is_drawn()
    assert (root / "report" / "only" / "table2.csv").is_file()


def test_other_code_and_other_packages_draw_again(is_drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert is_drawn()
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "version", lambda package: "0")
        assert is_drawn()
    assert is_drawn()
    for package in inputs.CODE:
        (tmp_path / package).mkdir()
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    assert is_drawn()
    (tmp_path / "analysis" / "page.html").write_text("<p>")
    assert is_drawn()
    assert not is_drawn()


def test_a_change_in_the_store_draws_again(is_drawn, finished_study: Finished):
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    trial = store.runs(stage="trial", search="digits-cnn")[0]
    assert is_drawn()
    store.tag(trial.id, note="changed")
    assert is_drawn()
    store.client.delete_tag(trial.id, "note")
    root = store.root(run_id)
    assert root
    weights = root / "weights" / "epoch_000.safetensors"
    content = weights.read_bytes()
    assert is_drawn()
    try:
        weights.write_bytes(content + b" ")
        assert is_drawn()
    finally:
        weights.write_bytes(content)
    assert is_drawn()
    assert not is_drawn()
