"""`study reproduce` as a user runs it: on the digits, and on real images where STUDY_TEST_IMAGES names a folder."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from analysis.page import data_url
from study.home import Home
from study.tracking.runs import metric
from study.tracking.store import Store
from tests.support.figures import cnn_figures
from tests.support.process import REPRODUCE, Ended, Reproduced, only_page, reproduced, study, study_cold

FIGURES = cnn_figures(filter=12)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Reproduced:
    reproduction = reproduced(tmp_path_factory)
    assert reproduction.ended.code == 0, reproduction.ended.err
    return reproduction


@pytest.fixture(scope="module")
def store(digits: Reproduced) -> Store:
    return Store(Home(root=digits.home))


def test_the_page_holds_every_figure_and_the_table(digits: Reproduced) -> None:
    page = only_page(digits.home)
    assert f"Report: {page}" in digits.ended.out
    html = page.read_text()
    pictures = {path.stem: path.read_bytes() for path in page.parent.glob("*.png")}
    # Which filters live, and which of them matters most, depends on the training.
    assert {re.sub(r"_filter\d+$", "_filter12", name) for name in pictures} <= FIGURES
    assert all(name.startswith(("kernel_conv", "maps_")) for name in FIGURES - set(pictures))
    for name, picture in pictures.items():
        assert data_url(picture) in html, name
        assert f"{name}.csv" in html
    for model in ("cnn", "ffnn"):
        assert model.upper() in html
    table = pd.read_csv(page.parent / "table2.csv")
    table = table[table["minus"].isna()]
    assert set(zip(table["model"], table["split"], strict=True)) == {
        (model, split) for model in ("cnn", "ffnn") for split in ("train", "test")
    }
    assert "report" not in table, "the report's numbers belong beside CIFAR-10's classes alone"


def test_every_stage_says_what_it_does_and_for_which_model_and_the_end_how_the_pages_are_seen(
    digits: Reproduced,
) -> None:
    lines = digits.ended.out.splitlines()
    assert [line for line in lines if re.match(r"\d/5 ", line)] == [
        "1/5 Search: cnn, 3 trials of up to 2 epochs",
        "2/5 Retrain: cnn, the best trial for 2 epochs",
        "3/5 Search: ffnn, 3 trials of up to 2 epochs",
        "4/5 Retrain: ffnn, the best trial for 2 epochs",
        "5/5 Analyse: cnn and ffnn",
    ]
    numbers = [number for number, line in enumerate(lines) if line.startswith("MLflow's pages of it: ")]
    assert len(numbers) == 1
    assert numbers[0] > lines.index("5/5 Analyse: cnn and ffnn")


def test_the_runs_are_of_the_installed_wheel(store: Store) -> None:
    assert {run.params["git_commit"] for run in store.runs(stage="retrain")} == {"unknown"}


def test_every_trial_is_a_run_below_its_search(store: Store) -> None:
    searches = {run.name: run for run in store.runs(stage="search")}
    assert set(searches) == {"digits-cnn", "digits-ffnn"}
    for name, search in searches.items():
        trials = store.runs(stage="trial", search=name)
        assert sorted(trial.tags["optuna_trial"] for trial in trials) == ["0", "1", "2"]
        assert {trial.tags["mlflow.parentRunId"] for trial in trials} == {search.id}
        assert {trial.status for trial in [search, *trials]} == {"FINISHED"}


def test_both_models_are_retrained_with_the_weights_of_every_epoch_and_their_predictions(store: Store) -> None:
    runs = {run.tags["model"]: run for run in store.runs(stage="retrain")}
    assert set(runs) == {"cnn", "ffnn"}
    for run in runs.values():
        assert run.status == "FINISHED"
        assert store.artifacts(run.id, "weights") == [f"weights/epoch_00{epoch}.safetensors" for epoch in range(3)]
        predicted, _ = store.load_tensors(run.id, "predictions/test.safetensors")
        right = (predicted["logits"].argmax(1) == predicted["labels"]).double().mean().item()
        assert metric(run, "final_test_accuracy") == pytest.approx(right)
        assert right > 0.5
        assert list(store.history(run.id)["epoch"]) == [0, 1, 2]


def test_both_models_are_registered_with_the_alias_best(store: Store) -> None:
    runs = {run.tags["model"]: run.id for run in store.runs(stage="retrain")}
    for model, run_id in runs.items():
        assert store.client.get_model_version_by_alias(f"digits-{model}", "best").run_id == run_id


def test_the_report_is_an_artifact_of_the_run_it_shows(digits: Reproduced, store: Store) -> None:
    (run,) = store.runs(stage="retrain", model="cnn")
    kept = {Path(path).name for path in store.artifacts(run.id, "report")}
    files = {path.name for path in only_page(digits.home).parent.iterdir() if path.is_file()}
    assert kept == {name for name in files if not name.startswith(".")}
    assert {analysis.tags["retrain_run"] for analysis in store.runs(stage="analysis")} == {run.id}


@dataclass(frozen=True)
class Again:
    before: set[str]
    after: set[str]
    ended: Ended


@pytest.fixture(scope="module")
def again(digits: Reproduced, store: Store) -> Again:
    before = {run.id for run in store.runs()}
    ended = study_cold(*REPRODUCE, home=digits.home, command=digits.command)
    return Again(before, {run.id for run in store.runs()}, ended)


def test_the_same_command_again_trains_and_draws_nothing(again: Again) -> None:
    assert again.ended.code == 0, again.ended.err
    assert again.after == again.before
    assert "Nothing has changed since this report was made" in again.ended.out
    assert again.ended.out.count("has 3 finished trials already") == 2
    assert again.ended.out.count("is retrained already") == 2


IMAGES = os.environ.get("STUDY_TEST_IMAGES", "")


def few_of(images: Path, folder: Path, counts: dict[str, int]) -> Path:
    """A folder of links to the first so many images of each class and part."""
    for part, count in counts.items():
        for source in sorted((images / part).iterdir()):
            kept = folder / part / source.name
            kept.mkdir(parents=True)
            for file in sorted(source.iterdir())[:count]:
                (kept / file.name).symlink_to(file.resolve())
    return folder


@pytest.mark.skipif(not IMAGES, reason="STUDY_TEST_IMAGES names no folder of CIFAR-10's images")
def test_on_real_images_both_models_beat_chance_and_the_reports_numbers_stand_beside_ours(tmp_path: Path) -> None:
    folder = few_of(Path(IMAGES), tmp_path / "few", {"train": 300, "test": 40})
    home = tmp_path / "home"
    sizes = ("--trials", "2", "--epochs", "2", "--retrain-epochs", "4")
    ended = study("reproduce", "--dataset", str(folder), *sizes, home=home)
    assert ended.code == 0, ended.err
    assert "3,000 training images (300 of them for validation) and 400 test images of 10 classes" in ended.out
    table = pd.read_csv(only_page(home).parent / "table2.csv")
    table = table[table["minus"].isna()].set_index(["split", "model", "measure"]).sort_index()
    chance = 0.1
    assert (table.loc["test"]["value"] > 2 * chance).all()
    assert table.loc[("test", "cnn", "accuracy"), "report"] == 0.710
    assert table.loc[("train", "ffnn", "f1"), "report"] == 0.587
    html = only_page(home).read_text()
    assert "0.710" in html
    assert "train image 600 (bird)" in html
