from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.report.exhibits import Report
from pipelines.report.material import Material
from pipelines.report.network import Network, pull
from study.data import normalise
from study.models import build_model
from study.selection import select_image
from tests.support.material import written


def network(finished_study, model: str) -> Network:
    store = finished_study.context.store
    return pull(store, store.get(finished_study.retrained[model]))


def analysed(network: Network, finished_study, folder: Path) -> Report:
    dataset = finished_study.dataset
    filters = {"conv1": 3, "conv2": 3} if network.name == "cnn" else {}
    material = Material(network, {network.name: network}, filters, dataset, select_image(dataset, "train:6"))
    return written(material, folder, ("kernel_convergence", "filter_health"))


@pytest.mark.parametrize(("model", "rectified", "all_layers"), [
    ("cnn", {"conv1": 4, "conv2": 6}, {"conv1": 4, "conv2": 6, "fc": 10, "relu1": 4, "relu2": 6}),
    ("ffnn", {"fc1": 8}, {"fc1": 8, "fc2": 10}),
])  # fmt: skip
def test_every_filter_of_every_kept_epoch_is_on_the_page(
    model: str, rectified: dict[str, int], all_layers: dict[str, int], finished_study, tmp_path: Path
):
    report = analysed(network(finished_study, model), finished_study, tmp_path)
    health, kernels = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("filter_health", "kernel_convergence"))
    assert health.groupby("layer", sort=False)["filter"].nunique().to_dict() == rectified
    assert kernels.groupby("layer", sort=False)["filter"].nunique().to_dict() == all_layers
    assert health["epoch"].unique().tolist() == kernels["epoch"].unique().tolist() == [0, 1, 2]
    assert [section.csv for section in report.sections] == ["kernel_convergence.csv", "filter_health.csv"]
    assert "of 40 test images" in report.sections[1].text


def test_silence_is_that_of_plain_inference_at_every_epoch(finished_study, tmp_path: Path):
    cnn = network(finished_study, "cnn")
    analysed(cnn, finished_study, tmp_path)
    table = pd.read_csv(tmp_path / "filter_health.csv").set_index(["layer", "epoch"])
    for epoch in cnn.epochs(1):
        model = build_model(cnn.config.model, classes=10, seed=0)
        model.load_state_dict(cnn.weights(epoch))
        with torch.no_grad():
            maps = model.activations(normalise(finished_study.dataset.test.images))
        for layer in ("conv1", "conv2"):
            fires = maps[f"relu{layer[-1]}"].amax((0, 2, 3)) > 0
            assert table.loc[(layer, epoch), "silent"].tolist() == (~fires).tolist()
            largest = np.abs(cnn.weights(epoch)[f"{layer}.weight"].numpy()).max((1, 2, 3))
            assert table.loc[(layer, epoch), "largest_weight"].to_numpy() == pytest.approx(largest)


def test_a_network_whose_every_filter_is_dead_is_analysed(finished_study, tmp_path: Path):
    cnn = network(finished_study, "cnn")
    for epoch in cnn.epochs(1):
        weights = cnn.weights(epoch)  # what was pulled is kept, so this is what the steps see
        for name in weights:
            if name.startswith("conv"):
                weights[name].zero_()
    report = analysed(cnn, finished_study, tmp_path)
    assert "6 of conv2's 6 filters are silent" in report.sections[1].text
    assert "all 10 dead" in report.sections[1].points[0]
    assert "10 of " in report.sections[1].points[0]
    assert pd.read_csv(tmp_path / "kernel_convergence.csv").query("layer != 'fc'")["to_final"].isna().all()
