from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.config import AnalysisConfig
from pipelines.report import figures
from pipelines.report.exhibits import Report
from pipelines.report.material import Material
from pipelines.report.network import Network, pull
from study.data import Dataset, Labelled
from study.errors import StudyError
from study.selection import SelectedImage, select_image
from tests.support.material import written

FIGURES = [
    "ablation_auc_lost",
    "ablation_accuracy_lost",
    "ablation_image",
    "selectivity",
    "patches_conv1",
    "patches_conv2",
]


@pytest.fixture(scope="module")
def network(finished_study) -> Network:
    return pull(finished_study.context.store, finished_study.context.store.get(finished_study.retrained["cnn"]))


OF_FILTERS = ("ablation", "ablation_image", "selectivity", "patches_conv1", "patches_conv2")


def material(network: Network, dataset: Dataset, image: SelectedImage | None = None, by: str = "mean") -> Material:
    filters, config = {"conv1": 0, "conv2": 0}, AnalysisConfig(ablation=by)
    return Material(network, {}, filters, dataset, image or select_image(dataset, ""), config=config)


def made(network: Network, test: Labelled, dataset: Dataset, folder: Path, by: str = "mean") -> Report:
    return written(material(network, replace(dataset, test=test), by=by), folder, OF_FILTERS)


def test_every_figure_is_written_with_its_numbers(network: Network, finished_study, tmp_path: Path):
    dataset = finished_study.dataset
    report = made(network, dataset.test, dataset, tmp_path)
    assert [section.csv for section in report.sections] == [f"{name}.csv" for name in FIGURES]
    assert all(section.png and section.text.endswith(".") for section in report.sections)
    table = pd.read_csv(tmp_path / "ablation_auc_lost.csv")
    assert len(table) == (4 + 6) * 10
    labels = dataset.test.labels.numpy()
    logits, _ = network.predictions["test"]
    whole = table[(table["layer"] == "conv1") & (table["filter"] == 0)]["accuracy"]
    expected = [(logits[labels == label].argmax(1) == label).mean() for label in range(10)]
    np.testing.assert_allclose(whole, expected)
    image = pd.read_csv(tmp_path / "ablation_image.csv", dtype={"class": str})
    assert set(image["class"]) == {"0"}


def test_figures_can_be_made_one_by_one(network: Network, finished_study, tmp_path: Path):
    dataset = finished_study.dataset
    at_hand = material(network, dataset, by="zero")
    assert set(OF_FILTERS) <= {figure.name for figure in figures.available(at_hand)}
    report = written(at_hand, tmp_path, ["ablation"])
    assert set(pd.read_csv(tmp_path / "ablation_auc_lost.csv")["replaced_by"]) == {"zero"}
    assert " replaced by zero" in report.sections[0].text
    report = written(at_hand, tmp_path, ["selectivity"])
    assert [section.csv for section in report.sections] == ["selectivity.csv"]


def test_an_image_of_no_known_class_is_judged_by_what_it_is_taken_for(network: Network, finished_study, tmp_path: Path):
    dataset = finished_study.dataset
    image = replace(select_image(dataset, ""), label=None)
    written(material(network, dataset, image), tmp_path, ["ablation_image"])
    table = pd.read_csv(tmp_path / "ablation_image.csv")
    assert (table["class"] == table["predicted"]).all()


def dead(network: Network) -> Network:
    last = max(network.files)
    weights = {name: torch.zeros_like(tensor) for name, tensor in network.weights(last).items()}
    for layer in ("conv1", "conv2"):
        weights[f"{layer}.bias"] -= 1
    return replace(network, _pulled={last: weights})


@pytest.mark.parametrize("by", ["mean", "zero"])
def test_a_network_with_every_filter_dead_is_shown_as_such(network: Network, finished_study, tmp_path: Path, by: str):
    dataset = finished_study.dataset
    report = made(dead(network), dataset.test, dataset, tmp_path, by)
    texts_by_csv = {section.csv: section.text for section in report.sections}
    assert "6 of the 6 filters of conv2 change nothing." in report.sections[0].points
    # It has no figure, so that its section names no file.
    assert "and no filter speaks for " in texts_by_csv[None]
    assert "Of 4 filters, 4 are silent" in texts_by_csv["patches_conv1.csv"]


def test_a_test_set_of_one_class_and_long_class_names(network: Network, finished_study, tmp_path: Path):
    dataset = finished_study.dataset
    one_class = dataset.test.subset(dataset.test.labels == 3)
    named = replace(network, classes=tuple(f"a class with a very long name, {'number ' * 9}{n}" for n in range(10)))
    texts_by_csv = {section.csv: section.text for section in made(named, one_class, dataset, tmp_path).sections}
    assert "undefined" in texts_by_csv["ablation_auc_lost.csv"]
    assert pd.read_csv(tmp_path / "ablation_auc_lost.csv")["auc_lost"].isna().all()
    assert pd.read_csv(tmp_path / "selectivity.csv")["selectivity"].isna().all()


def test_an_unknown_replacement_is_refused(network: Network, finished_study, tmp_path: Path):
    dataset = finished_study.dataset
    with pytest.raises(StudyError, match="'median'"):
        made(network, dataset.test, dataset, tmp_path, "median")
