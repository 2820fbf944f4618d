"""An analysis of what is not all there: it names what is missing, shows the rest, and the command ends with 1."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipelines.analyse import Analysis, analyse
from pipelines.config import AnalysisConfig
from pipelines.report import figures, needs
from study.device import Machine
from study.errors import StudyError
from tests.conftest import Finished, copy_of, surroundings
from tests.support.figures import cnn_figures
from tests.support.process import study_here

FEW = AnalysisConfig(filter=3, epochs_every=1, only=("table2", "confusion", "convergence", "kernel_conv1"))


@contextmanager
def without(finished: Finished, model: str, pattern: str) -> Iterator[None]:
    """The finished study while files that a retraining kept are away."""
    (kept,) = finished.context.home.store.glob(f"artifacts/*/{finished.retrained[model]}/artifacts")
    # Not beside them, where they would be artifacts still.
    aside = finished.context.home.root / "away" / model
    aside.mkdir(parents=True, exist_ok=True)
    away = {path: aside / path.name for path in sorted(kept.glob(pattern))}
    assert away
    for path, place in away.items():
        path.rename(place)
    try:
        yield
    finally:
        for path, place in away.items():
            place.rename(path)


Made = Callable[..., Analysis]


@pytest.fixture
def analysed(finished_study: Finished, unpictured: None) -> Iterator[Made]:
    """Analyses the finished study's CNN anew; its reports are gone afterwards."""
    reports = finished_study.context.home.reports
    before = reports.rename(reports.with_name("reports of other tests")) if reports.exists() else None

    def run(config: AnalysisConfig = FEW, **changed: object) -> Analysis:
        dataset = replace(finished_study.dataset, **changed) if changed else finished_study.dataset
        return analyse("best", config, finished_study.context, data=dataset)

    yield run
    shutil.rmtree(reports, ignore_errors=True)
    if before:
        before.rename(reports)


def pictures(page: Path) -> set[str]:
    return {path.stem for path in page.parent.glob("*.png")}


def test_a_missing_epoch_is_named_and_the_others_are_shown(analysed: Made, finished_study: Finished):
    with without(finished_study, "cnn", "weights/epoch_001.safetensors"):
        analysis = analysed()
    [line] = analysis.missing
    assert "no artifact weights/epoch_001.safetensors" in line
    assert line in analysis.page.read_text()
    assert pictures(analysis.page) == {"table2_intervals", "confusion", "convergence", "kernel_conv1_filter3"}


def test_files_of_others_among_the_weights_are_nobodys_epoch(analysed: Made, finished_study: Finished):
    root = finished_study.context.store.root(finished_study.retrained["cnn"])
    assert root
    others = [root / "weights" / name for name in ("epoch_000.safetensors.more", "notes.txt")]
    for file in others:
        file.write_text("mine")
    try:
        assert analysed().missing == ()
    finally:
        for file in others:
            file.unlink()


def test_missing_train_predictions_leave_the_test_ones(analysed: Made, finished_study: Finished):
    with without(finished_study, "cnn", "predictions/train.safetensors"):
        analysis = analysed()
    run_id = finished_study.retrained["cnn"]
    [line] = analysis.missing
    assert line == (
        f"Run {run_id} has no artifact predictions/train.safetensors: "
        "what is measured on these predictions is left out."
    )
    assert "table2_intervals" in pictures(analysis.page)


def test_predictions_that_cannot_be_read_say_why(analysed: Made, finished_study: Finished):
    run_id = finished_study.retrained["cnn"]
    (kept,) = finished_study.context.home.store.glob(f"artifacts/*/{run_id}/artifacts/predictions/train.safetensors")
    whole = kept.read_bytes()
    try:
        kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        [line] = analysed().missing
    finally:
        kept.write_bytes(whole)
    assert line == (
        f"The artifact predictions/train.safetensors of run {run_id} was altered: its hash is not that in SHA256SUMS. "
        "What is measured on these predictions is left out."
    )


def test_without_the_other_models_predictions_the_run_is_shown(analysed: Made, finished_study: Finished):
    with without(finished_study, "ffnn", "predictions/*.safetensors"):
        analysis = analysed()
    assert len(analysis.missing) == 2
    assert all(finished_study.retrained["ffnn"] in line for line in analysis.missing)
    assert "table2_intervals" in pictures(analysis.page)


def test_without_any_predictions_the_weights_are_shown(analysed: Made, finished_study: Finished):
    with without(finished_study, "ffnn", "predictions"), without(finished_study, "cnn", "predictions"):
        analysis = analysed(replace(FEW, only=("kernel_conv1",)))
    assert "No predictions of the test images were kept." in analysis.page.read_text()
    assert pictures(analysis.page) == {"kernel_conv1_filter3"}


def test_without_any_weights_the_rest_is_shown(analysed: Made, finished_study: Finished):
    run_id = finished_study.retrained["cnn"]
    with without(finished_study, "cnn", "weights"):
        analysis = analysed(AnalysisConfig(filter=3, epochs_every=1))
    shown = pictures(analysis.page)
    [line] = analysis.missing
    assert line.startswith("Left out: kernel_convergence, ")
    assert line.endswith(f" ({run_id}) has no weights: name another run, or run `study retrain` again.")
    left_out = set(line.removeprefix("Left out: ").partition(". ")[0].split(", "))
    assert left_out == {figure.name for figure in figures.FIGURES if needs.WEIGHTS in figure.needs}
    of_weights = {name for name in cnn_figures(filter=3) if figures.names_of([name])[0] in left_out}
    assert shown == cnn_figures(filter=3) - of_weights
    assert {"table2_intervals", "roc", "confusion", "convergence", "search_heatmap", "image", "samples"} <= shown
    for name in ("table2", "mcnemar", "architecture"):
        assert (analysis.page.parent / f"{name}.csv").is_file()


def test_chosen_figures_that_need_what_is_not_there_are_named(analysed: Made, finished_study: Finished):
    both = replace(FEW, only=("kernel_conv1", "roc", "convergence"))
    with without(finished_study, "cnn", "weights"):
        assert [line[:24] for line in analysed(both).missing] == ["Left out: kernel_conv1. "]
    with without(finished_study, "ffnn", "predictions"), without(finished_study, "cnn", "predictions"):
        analysis = analysed(both)
    assert analysis.missing[-1] == "Left out: roc. No predictions of the test images were kept."
    assert {"convergence", "kernel_conv1_filter3"} <= pictures(analysis.page)


def test_where_nothing_can_be_shown_it_is_refused(
    analysed: Made, finished_study: Finished, monkeypatch: pytest.MonkeyPatch
):
    with without(finished_study, "cnn", "weights"):
        with pytest.raises(StudyError, match=r"^Nothing can be shown\. Left out: kernel_conv1\. Run .* has no weights"):
            analysed(replace(FEW, only=("kernel_conv1",)))
        with without(finished_study, "cnn", "predictions"):
            assert "convergence" in pictures(analysed().page)
            monkeypatch.setattr(type(finished_study.context.store), "history", lambda *_: pd.DataFrame())
            with pytest.raises(StudyError, match="has no weights, no predictions and no curves: "):
                analysed()
    assert not list(finished_study.context.home.reports.glob("*/index.html"))


def test_classes_that_the_run_no_longer_tells_are_the_data_sets(analysed: Made, finished_study: Finished):
    with without(finished_study, "cnn", "dataset.json"):
        analysis = analysed(replace(FEW, only=("confusion", "samples")))
        with pytest.raises(StudyError, match=r"no artifact dataset\.json"):
            analysed(replace(FEW, only=("confusion",)))
    [line] = analysis.missing
    assert "dataset.json" in line
    assert pictures(analysis.page) == {"confusion", "samples"}


def test_a_damaged_file_leaves_out_what_needs_it(analysed: Made, finished_study: Finished):
    (weights,) = finished_study.context.home.store.glob(
        f"artifacts/*/{finished_study.retrained['cnn']}/artifacts/weights/epoch_002.safetensors"
    )
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:100])
        analysis = analysed()
    finally:
        weights.write_bytes(whole)
    [line] = analysis.missing
    assert line.startswith("Left out: kernel_conv1. ")
    assert "epoch_002.safetensors" in line
    assert "confusion" in pictures(analysis.page)


def test_other_images_than_the_runs_leave_out_what_is_measured_on_them(analysed: Made):
    only = ("confusion", "samples", "maps_conv1", "kernel_conv1")
    analysis = analysed(replace(FEW, only=only), digest="another")
    [line] = analysis.missing
    assert line.startswith("Left out: samples, maps_conv1. ")
    assert "trained on other images" in line
    assert pictures(analysis.page) == {"confusion", "kernel_conv1_filter3"}


def test_an_image_file_is_shown_without_the_data_set(analysed: Made, tmp_path: Path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 50), (200, 30, 60)).save(photo)
    only = ("maps_conv1", "samples", "image", "grid_pool2", "explorer")
    analysis = analysed(replace(FEW, only=only, image=str(photo), per_map=True), digest="another")
    [line] = analysis.missing
    assert line.startswith("Left out: samples. Run")
    assert analysis.page.parts[-2:] == ("only", "index.html")
    assert not (analysis.page.parents[1] / "index.html").exists()
    maps = {f"maps_{layer}_filter3" for layer in ("conv1", "relu1", "pool1")}
    assert pictures(analysis.page) == {*maps, "image", "grid_pool2"}
    assert "photo.png --filter 3 --epochs-every 1 --per-map --only" in analysis.page.read_text().replace(
        str(tmp_path), ""
    )
    assert "photo.png" in (analysis.page.parent / "explorer.html").read_text()


def test_the_command_ends_with_1_where_something_is_missing(finished_study: Finished, analysed: Made):
    with without(finished_study, "cnn", "predictions/train.safetensors"):
        ended = study_here("analyse", "--only", "roc", home=finished_study.context.home.root)
    assert ended.code == 1, ended.err
    assert "predictions/train.safetensors: what is measured on these predictions is left out." in ended.out
    assert "Report: " in ended.out


def test_the_command_makes_what_is_chosen_without_the_data_set_and_ends_with_0(
    finished_study: Finished, analysed: Made
):
    home = finished_study.context.home
    ended = study_here("analyse", home=home.root, STUDY_ONLY="roc, correlation_of_nothing")
    assert ended.code == 2
    assert "'correlation_of_nothing'" in ended.err
    ended = study_here("analyse", home=home.root, STUDY_ONLY="roc, kernel_conv1_filter3", STUDY_FILTER="3")
    assert ended.code == 0, ended.err
    assert "Dataset" not in ended.out
    (page,) = home.reports.glob("*/only/index.html")
    assert pictures(page) == {"roc", "kernel_conv1_filter3"}


def test_a_network_of_a_model_that_is_not_known_is_refused(finished_study: Finished, machine: Machine, tmp_path: Path):
    run_id, home = finished_study.retrained["ffnn"], copy_of(finished_study.context.home, tmp_path)
    with closing(sqlite3.connect(home.store / "mlflow.db")) as database, database:
        database.execute("UPDATE params SET value = 'resnet' WHERE key = 'model' AND run_uuid = ?", (run_id,))
    with pytest.raises(
        StudyError, match=rf"{run_id}\) cannot be read: unknown model 'resnet': choose one of cnn, ffnn."
    ):
        analyse(run_id, FEW, surroundings(home, machine), data=finished_study.dataset)
