"""A network of the user's own from the search to the page, by the command and in the folder that holds its module."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch

import study
from pipelines.analyse import analyse
from pipelines.config import AnalysisConfig
from pipelines.report import figures
from pipelines.reproduce import search_and_retrain
from study.architectures import CustomConfig
from study.config import DataConfig, SearchConfig, model_config
from study.custom import RESERVED
from study.data import load_dataset
from study.device import Machine
from study.home import Home
from study.ranges import Range
from study.tracking.artifacts import weights_path
from study.tracking.best import choose_retrained
from study.tracking.store import Store
from tests.conftest import copy_of, first_of_each_class, surroundings
from tests.support.photos import PIXELS, png
from tests.support.process import Ended, study_here

pytestmark = pytest.mark.slow
SOURCE = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.deep = nn.ModuleList([nn.Conv2d(6, 8, 3), nn.Conv2d(8, 9, 1)])
        self.fc = nn.Linear(9, classes)

    def forward(self, images):
        maps = functional.relu(self.norm(self.stem(images)))
        maps = functional.max_pool2d(torch.relu(self.deep[0](self.drop(maps))), 2)
        return self.fc(functional.gelu(self.deep[1](maps)).mean((2, 3)))

def build(classes):
    return Net(classes)

def sized(classes, width=4, kernel=3):
    pool = nn.AdaptiveAvgPool2d(4)
    return nn.Sequential(nn.Conv2d(3, width, kernel), nn.ReLU(), pool, nn.Flatten(), nn.Linear(16 * width, classes))
"""
TUNE = ("tune", "--model", "my_network:build", "--dataset", "digits", "--trials", "2", "--lr", "3e-3", "--epochs", "1")
NOT_APPLICABLE = "explorer, ablation, ablation_image, selectivity, patches_conv1, patches_conv2, circuit, "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the module of the network."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_network.py").write_text(SOURCE)
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as the current folder, whose module is not imported yet."""
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    return folder


@pytest.fixture(scope="module")
def tuned(folder: Path, migrated: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Ended]:
    home = copy_of(migrated, tmp_path_factory.mktemp("tuned") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return home, study_here(*TUNE, "--workers", "2", "--retrain-epochs", "2", home=home.root)


def test_it_is_searched_and_retrained_with_all_its_weights(tuned: tuple[Home, Ended]):
    home, ended = tuned
    assert ended.code == 0, ended.err
    assert "Best: trial" in ended.out
    store = Store(home)
    run = choose_retrained(store, "best:my_network")
    assert (run.model, run.search, run.model_option) == ("my_network", "digits-my_network", "my_network:build")
    assert store.client.get_registered_model("digits-my_network").aliases == {"best": 1}
    before, after = (store.load_tensors(run.id, weights_path(epoch))[0] for epoch in (0, 2))
    assert {"stem.weight", "norm.running_mean", "norm.num_batches_tracked", "deep.1.bias"} <= set(after)
    # Each of two epochs takes eight steps of 200 images.
    assert (before["norm.num_batches_tracked"], after["norm.num_batches_tracked"]) == (0, 16)
    assert not torch.equal(before["norm.running_mean"], after["norm.running_mean"])


@pytest.mark.usefixtures("here")
def test_the_page_shows_its_convolutions_and_names_what_cannot_be(tuned: tuple[Home, Ended]):
    home, _ = tuned
    ended = study_here("analyse", "--run", "best:my_network", "--dataset", "digits", home=home.root)
    assert ended.code == 0, ended.err
    assert (
        "Of the 3 convolutions of my_network, numbered in the order in which they run, conv1 (stem) and conv2 (deep.0) "
        "are shown" in ended.out
    )
    assert f"Not applicable: {NOT_APPLICABLE}" in ended.out
    [page] = home.reports.glob("digits-my_network-*/index.html")
    html, drawn = page.read_text(), {file.stem for file in page.parent.glob("*.png")}
    assert NOT_APPLICABLE in html
    assert "my_network on scikit-learn&#39;s digits" in html
    assert {"kernels_conv1", "kernels_conv2", "grid_conv1", "grid_relu1", "grid_pool2", "filter_health"} <= drawn
    assert {"kernel_convergence", "confusion", "roc", "convergence", "sensitivity"} <= drawn
    assert not {name for name in drawn if "conv3" in name or name == "grid_pool1"}
    # Only what no figure of this network is called is left out.
    left_out = html.partition("Not applicable: ")[2].partition(".")[0].split(", ")
    assert set(left_out) <= set(figures.names())
    assert not set(left_out) & drawn


@pytest.mark.usefixtures("here")
def test_another_layer_is_shown_by_the_name_of_its_module(tuned: tuple[Home, Ended]):
    home, _ = tuned
    asked = ("--layer", "deep.1", "--filter", "8")
    ended = study_here("analyse", "--run", "best:my_network", "--only", "kernels_conv3", *asked, home=home.root)
    assert ended.code == 0, ended.err
    [page] = home.reports.glob("digits-my_network-*/only/index.html")
    assert "All kernels of conv3" in page.read_text()
    ended = study_here("analyse", "--run", "best:my_network", "--only", "filter_health", *asked, home=home.root)
    assert "has no filter_health (No ReLU follows conv3 alone" in ended.err
    ended = study_here("analyse", "--run", "best:my_network", "--only", "circuit", home=home.root)
    assert ended.code == 2
    assert "This run has no circuit (Computed for the report's CNN alone" in ended.err


@pytest.mark.usefixtures("here")
def test_its_predictions_are_those_of_the_model_that_anyone_can_serve(tuned: tuple[Home, Ended], tmp_path: Path):
    home, _ = tuned
    photo = tmp_path / "photo.png"
    photo.write_bytes(png())
    ended = study_here("predict", str(photo), "--run", "best:my_network", "--json", home=home.root)
    assert ended.code == 0, ended.err
    [ours] = json.loads(ended.out)["predictions"]
    sys.modules.pop("my_network", None)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(Store(home).uri)
    with pytest.MonkeyPatch.context() as patch:
        # Here is no such module.
        patch.chdir(tmp_path)
        served = mlflow.pyfunc.load_model("models:/digits-my_network@best")
        table = served.predict([PIXELS] * 3)
    mlflow.set_tracking_uri(before)
    assert "my_network" not in sys.modules
    assert table["class"].tolist() == [ours["class"]] * 3
    assert table["probability"].tolist() == pytest.approx([ours["probability"]] * 3, abs=1e-5)


def test_elsewhere_it_is_asked_for_the_folder_of_the_module(
    tuned: tuple[Home, Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home, _ = tuned
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    for command in (("analyse",), ("predict", "photo.png")):
        ended = study_here(*command, "--run", "best:my_network", home=home.root)
        assert ended.code == 2
        [line] = ended.err.strip().splitlines()
        assert line.startswith(f"study: There is no module 'my_network' in the current folder {tmp_path}")


@pytest.mark.usefixtures("here")
def test_what_explains_the_reports_networks_refuses_it(tuned: tuple[Home, Ended]):
    home, _ = tuned
    ended = study_here("explain", "--run", "best:my_network", home=home.root)
    assert ended.code == 2
    assert "not of my_network" in ended.err


def test_a_changed_module_is_told_and_continues_no_search(tuned: tuple[Home, Ended], here: Path):
    home, _ = tuned
    (here / "my_network.py").write_text(SOURCE + "\n# A remark.\n")
    try:
        ended = study_here(*TUNE, home=home.root)
        assert ended.code == 2
        assert "The file of my_network:build has changed since the search 'digits-my_network' began" in ended.err
        ended = study_here("analyse", "--run", "best:my_network", "--only", "kernels_conv1", home=home.root)
        assert "The file of my_network:build has changed since the training" in ended.out
        ended = study_here("retrain", "--run", "best:my_network", "--epochs", "1", home=home.root)
        assert ended.code == 0, ended.err
        assert "Its settings were searched with the earlier one." in ended.out
        sources = {run.params["model_source"] for run in Store(home).runs(stage="retrain")}
        assert len(sources) == 2
    finally:
        (here / "my_network.py").write_text(SOURCE)


@pytest.mark.usefixtures("here")
def test_its_arguments_are_searched_and_those_that_do_not_fit_are_avoided(migrated: Home, tmp_path: Path):
    home = copy_of(migrated, tmp_path / "home")
    search = (*TUNE[:2], "my_network:sized", "--dataset", "digits", "--trials", "6", "--epochs", "1")
    search = (*search, "--argument", "width=4:9", "--argument", "kernel=3,99", "--retrain-epochs", "1")
    ended = study_here(*search, home=home.root)
    assert ended.code == 0, ended.err
    store = Store(home)
    pruned, complete = [], []
    for run in store.runs(stage="trial"):
        model = run.train_config.model
        assert isinstance(model, CustomConfig)
        assert {name: int(run.params[name]) for name in ("width", "kernel")} == model.arguments
        assert 4 <= model.arguments["width"] <= 9
        if model.arguments["kernel"] == 99:
            pruned.append(run.reason)
            assert math.isnan(run.parameters)
        else:
            complete.append(run.reason)
            width = model.arguments["width"]
            assert run.parameters == 28 * width + 10 * (16 * width + 1)
    assert (set(pruned), set(complete)) == ({"pruned"}, {"complete"})
    assert "no finite result, pruned (The model my_network:sized fails on images" in ended.out
    best = choose_retrained(store, "best:sized")
    width = best.train_config.model.arguments["width"]  # type: ignore[union-attr]
    assert store.load_tensors(best.id, weights_path(1))[0]["0.weight"].shape == (width, 3, 3, 3)
    [above] = store.runs(stage="search")
    assert "--argument width=4:9 --argument kernel=3,99" in above.tags["mlflow.note.content"]
    # No argument may have the name of a param of every trial.
    params = {name for run in store.runs(stage="trial") for name in run.params}
    assert {name for name in params - {"width", "kernel"} if not name.startswith(("version_", "log10_"))} <= RESERVED
    again = study_here(*search, home=home.root)
    assert "has 6 finished trials already" in again.out
    checked = study_here("doctor", home=home.root)
    assert "No problems found" in checked.out
    ended = study_here("analyse", "--run", "best:sized", "--only", "search_pareto", home=home.root)
    assert ended.code == 0, ended.err
    [page] = home.reports.glob("digits-sized-*/only/index.html")
    assert "The front has " in page.read_text()
    assert "the report's" not in page.read_text().partition("The front has ")[2].partition("</")[0]
    assert study.best("sized", home=home.root).run.id == best.id


def test_a_network_that_cannot_be_built_leaves_nothing(here: Path, tmp_path: Path):
    (here / "wrong.py").write_text(SOURCE.replace("Linear(9, classes)", "Linear(9, 3)"))
    ended = study_here(*TUNE[:2], "wrong:build", *TUNE[3:], home=tmp_path)
    assert ended.code == 2
    assert "The model wrong:build returns (2, 3) for images (2, 3, 32, 32): it must return logits (2, 10)" in ended.err
    assert [run for run in Store(Home(root=tmp_path)).runs() if run.stage] == []


def test_resnet18_from_the_search_to_the_page_on_digits(migrated: Home, machine: Machine, tmp_path: Path):
    context = surroundings(copy_of(migrated, tmp_path / "home"), machine)
    # Smaller images, of which it takes a quarter of the time.
    whole = load_dataset(DataConfig(dataset="digits", image_size=16), context.home)
    train, test = first_of_each_class(whole.train, 11), first_of_each_class(whole.test, 1)
    digits = replace(whole, train=train, test=test)
    search = SearchConfig(
        name="digits-resnet18",
        model=model_config("resnet18"),
        trials=1,
        epochs=1,
        batch_size=20,
        learning_rate=Range(low=1e-3, high=1e-3),
    )
    search_and_retrain(search, digits, context, epochs=1)
    analysis = analyse("best:resnet18", AnalysisConfig(), context, digits)
    assert analysis.missing == ()
    html, drawn = analysis.page.read_text(), {file.stem for file in analysis.page.parent.glob("*.png")}
    assert "Of the 20 convolutions of resnet18" in html
    assert "conv1 (conv1) and conv19 (layer4.1.conv1) are shown" in html
    assert {"kernels_conv1", "kernels_conv19", "grid_relu19", "filter_health", "kernel_convergence"} <= drawn
    assert "the first 128 of the 512 filters and the first 128 of the 512 input channels of each" in html
    assert "layer4.1.conv2: 512 kernels 512 × 3 × 3, padding 1, stride 1" in html
    assert f"Not applicable: {NOT_APPLICABLE}" in html
