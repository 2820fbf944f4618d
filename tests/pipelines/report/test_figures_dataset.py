from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.report import figures
from pipelines.report.exhibits import Report
from pipelines.report.material import Material
from pipelines.report.network import Network, pull
from study.architectures import CNNConfig
from study.data import Dataset, normalise
from study.errors import StudyError
from study.models import build_model
from study.selection import SelectedImage, select_image
from tests.support.material import written

FIRST, DATA = {"architecture"}, {"samples", "covariance", "correlation"}
CONCEPTS = {f"concept_{name}" for name in ("convolution", "padding", "dilation", "stride", "pooling")}
INSIDE = {"worked_conv1_filter2", "kernels_conv1", "kernels_conv2"}
HERE = FIRST | DATA | CONCEPTS | {"image", "worked_conv1", "kernels_conv1", "kernels_conv2"}


@pytest.fixture(scope="module")
def networks(finished_study) -> dict[str, Network]:
    store = finished_study.context.store
    return {name: pull(store, store.get(run_id)) for name, run_id in finished_study.retrained.items()}


@pytest.fixture(scope="module")
def image(finished_study) -> SelectedImage:
    return select_image(finished_study.dataset, "train:6")


@pytest.fixture(scope="module")
def report(networks, finished_study, image, tmp_path_factory: pytest.TempPathFactory) -> Report:
    material = Material(networks["cnn"], networks, {"conv1": 2, "conv2": 2}, finished_study.dataset, image)
    return written(material, tmp_path_factory.mktemp("report"), HERE)


def names(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.csv")}


def test_every_figure_is_written_with_its_numbers(report: Report):
    assert names(report.folder) == FIRST | DATA | {"image"} | CONCEPTS | INSIDE
    assert {file.stem for file in report.folder.glob("*.png")} == names(report.folder) - FIRST
    assert len(report.sections) == len(names(report.folder))
    assert all(section.text.endswith(".") for section in report.sections)


def test_the_table_of_layers_has_both_networks(report: Report, networks):
    table = pd.read_csv(report.folder / "architecture.csv")
    assert table.groupby("model")["parameters"].sum().to_dict() == {
        name: sum(tensor.numel() for tensor in network.weights(0).values()) for name, network in networks.items()
    }


def test_the_value_worked_out_is_the_networks_own(report: Report, networks, image):
    table = pd.read_csv(report.folder / "worked_conv1_filter2.csv")
    network = networks["cnn"]
    assert isinstance(network.config.model, CNNConfig)
    model = build_model(network.config.model, classes=10, seed=0)
    model.load_state_dict(network.weights(max(network.files)))
    expected = model.activations(normalise(image.image[None]))["conv1"][0, 2].detach().numpy()
    shown = table[table["panel"] == "map"].pivot(index="row", columns="column", values="value")
    np.testing.assert_allclose(shown, expected, atol=1e-5)
    summed = table[table["panel"].str.startswith("products")]["value"].sum()
    edge = network.config.model.padding  # whose windows extend beyond the image
    within = expected[edge:-edge, edge:-edge]
    assert summed + float(model.conv1.bias[2].detach()) == pytest.approx(within.max(), abs=1e-5)


def test_the_covariance_is_not_kept_pair_by_pair(report: Report):
    assert len(pd.read_csv(report.folder / "covariance.csv")) < 1000


def refusal(figure: figures.Figure, material: Material) -> str:
    """Why a figure cannot be made; empty where it can."""
    try:
        figures.exhibits(figure, material)
    except StudyError as error:
        return str(error)
    return ""


def test_what_is_missing_is_left_out(networks, finished_study, image, tmp_path: Path):
    def named(model: str, filters: dict[str, int], data: Dataset | None, image: SelectedImage | None) -> set[str]:
        material = Material(networks[model], networks, filters, data, image, "There are no images.")
        reasons = {row.name: refusal(row, material) for row in figures.available(material) if row.name in HERE}
        assert set(reasons.values()) <= {"", "There are no images."}
        return {name for name, reason in reasons.items() if not reason}

    assert named("ffnn", {}, None, image) == {"architecture"}
    assert named("cnn", {"conv2": 0}, None, image) == {"architecture", "kernels_conv2", "image"} | CONCEPTS
    assert named("cnn", {"conv2": 0}, None, None) == {"architecture", "kernels_conv2"}
    assert named("ffnn", {}, finished_study.dataset, None) == {"architecture", "samples", "covariance"}


def test_a_black_image_is_worked_through(networks, image, tmp_path: Path):
    black = replace(image, image=image.image * 0)
    worked = ("concept_convolution", "concept_padding", "concept_pooling", "worked_conv1")
    written(Material(networks["cnn"], networks, {"conv1": 0}, selected=black), tmp_path, worked)
    assert names(tmp_path) == {"concept_convolution", "concept_padding", "concept_pooling", "worked_conv1_filter0"}
