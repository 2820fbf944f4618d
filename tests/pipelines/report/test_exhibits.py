"""The files of a report: those of its page, and no others but a user's own."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.exhibit import Exhibit
from pipelines.config import AnalysisConfig
from pipelines.report import figures
from pipelines.report.exhibits import MANIFEST, Report
from tests.conftest import Finished
from tests.pipelines.report.conftest import Analyse

SETTINGS = AnalysisConfig(filter=3, epochs_every=1)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a report and what they hold, without the hidden ones."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name[0] != "."}


def only(*names: str, **changed: int) -> AnalysisConfig:
    return replace(SETTINGS, only=names, **changed)


def test_the_folder_holds_what_its_page_shows_and_what_others_put_there(analysed: Analyse):
    folder = analysed(only("roc", "table2"))
    (folder / "notes.txt").write_text("mine")
    (folder / "roc.svg").write_text("altered by hand")
    analysed(only("kernel_conv1"))
    kernel = {f"kernel_conv1_filter3.{kind}" for kind in ("png", "svg", "csv")}
    assert set(files_of(folder)) == {"index.html", "notes.txt", "roc.svg", *kernel}
    analysed(only("kernel_conv1", filter=2))
    others = {name.replace("filter3", "filter2") for name in kernel}
    assert set(files_of(folder)) == {"index.html", "notes.txt", "roc.svg", *others}
    assert set(files_of(folder / "narrow")) == {"kernel_conv1_filter2.png"}
    analysed(only("kernel_conv1", "table2"))
    assert kernel < set(files_of(folder))
    assert not others & set(files_of(folder))


@pytest.mark.usefixtures("unpictured")
def test_chosen_figures_leave_the_whole_report_and_its_files_as_they_are(
    analysed: Analyse, finished_study: Finished, monkeypatch: pytest.MonkeyPatch
):
    # A report of fewer figures is drawn sooner.
    whole = {"table2", "roc", "ablation", "samples", "kernel_conv1", "animation_conv1", "explorer"}
    monkeypatch.setattr(figures, "FIGURES", tuple(figure for figure in figures.FIGURES if figure.name in whole))
    context, run_id = finished_study.context, finished_study.retrained["cnn"]
    folder = analysed(SETTINGS)
    [kept] = context.home.store.glob(f"artifacts/*/{run_id}/artifacts/report")
    before, logged = files_of(folder), files_of(kept)
    analysed(replace(SETTINGS, only=("ablation", "roc"), ablation="zero"))
    assert (files_of(folder), files_of(kept)) == (before, logged)
    chosen = files_of(folder / "only")
    assert chosen.items() <= files_of(kept / "only").items()
    assert chosen["roc.csv"] == before["roc.csv"]
    assert chosen["ablation_auc_lost.csv"] != before["ablation_auc_lost.csv"]
    assert b'href="../index.html"' in chosen["index.html"]
    shutil.rmtree(kept / "only")
    analysed(SETTINGS)
    assert (files_of(folder), files_of(kept)) == (before, logged)
    assert not (kept / "only").exists(), "not logged with the whole report"


@pytest.mark.usefixtures("unpictured")
def test_what_an_interrupted_analysis_wrote_is_gone_after_the_next(analysed: Analyse, monkeypatch: pytest.MonkeyPatch):
    folder = analysed(only("roc"))
    with monkeypatch.context() as patch:

        def interrupted(*arguments: object, **more: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("analysis.inside.kernels.draw_kernel_evolution", interrupted)
        with pytest.raises(KeyboardInterrupt):
            analysed(only("confusion", "kernel_conv1"))
    assert {"roc.csv", "confusion.csv"} <= set(files_of(folder))
    analysed(only("kernel_conv1"))
    assert not {"roc.csv", "confusion.csv"} & set(files_of(folder))


def exhibit(name: str) -> Exhibit:
    return Exhibit(name, "Heading", "Text.", pd.DataFrame({"a": [1]}))


def test_a_manifest_that_was_tampered_with_reaches_no_file_outside(tmp_path: Path):
    outside, folder = tmp_path / "outside.csv", tmp_path / "report"
    outside.write_text("a\n1\n")
    first = Report(folder)
    first.add(exhibit("first"))
    digest = (folder / MANIFEST).read_text().split()[0]
    with (folder / MANIFEST).open("a") as manifest:
        manifest.write(f"{digest}  ../outside.csv\n{digest}  {outside}\nhalf a line\n\n{digest}  .\n")
    assert outside.read_bytes() == (folder / "first.csv").read_bytes()
    second = Report(folder)
    second.add(exhibit("second"))
    second.remove_stale()
    assert outside.exists()
    assert set(files_of(folder)) == {"second.csv", "second.md"}
    (folder / MANIFEST).unlink()
    third = Report(folder)
    third.add(Exhibit("third", "A sentence alone", "It has no files."))
    third.remove_stale()
    assert set(files_of(folder)) == {"second.csv", "second.md"}, "nothing tells whose they are"
