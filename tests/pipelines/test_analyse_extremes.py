"""One analysis of all that is extreme: long names, one class in the test folder, one epoch, every filter dead."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.analyse import Analysis, analyse
from pipelines.config import AnalysisConfig
from pipelines.retrain import retrain
from pipelines.tune import tune
from study.architectures import CNNConfig
from study.config import DataConfig, SearchConfig
from study.device import Machine
from study.home import Home
from study.tracking import best
from tests.conftest import copy_of, surroundings
from tests.support.figures import cnn_figures
from tests.support.legibility import watched

CLASSES = (
    "a bird that flew all the way from the far north to be seen here",
    "$_{100%}$ & <others>",
    "Zweibrückener Gewächshaus-Kaltwasserfröschlein",
)


def folder_of_images(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, classes, count in (("train", CLASSES, 12), ("test", CLASSES[:1], 5)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def drawn(
    migrated: Home, machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Analysis, dict[str, list[str]]]:
    """The analysis, and what cannot be read in each of its figures."""
    folder = tmp_path_factory.mktemp("extremes")
    context = surroundings(copy_of(migrated, folder / "home"), machine)
    data = DataConfig(dataset=str(folder_of_images(folder / "images")))
    dataset = context.load(data)
    config = SearchConfig(name="extreme", model=CNNConfig(filters=(3, 2)), trials=1, epochs=1, batch_size=12)
    tune(config, dataset, context)
    run_id = retrain(best.best_trial(context.store, dataset.key, "cnn"), dataset, context, epochs=1)
    for path in context.home.store.glob(f"artifacts/*/{run_id}/artifacts/weights/epoch_001.safetensors"):
        weights = load_file(path)
        for layer in ("conv1", "conv2"):
            weights[f"{layer}.weight"] *= 0
            weights[f"{layer}.bias"] = weights[f"{layer}.bias"].abs() * 0 - 1
        save_file(weights, path)
        # As if they had been trained to that.
        name = "weights/epoch_001.safetensors"
        context.store.log_sums(run_id, {**context.store.sums(run_id), name: context.store.digest(run_id, name)})
    with watched() as problems:
        return analyse(run_id, AnalysisConfig(), context, data=dataset), problems


@pytest.fixture(scope="module")
def analysis(drawn: tuple[Analysis, dict[str, list[str]]]) -> Analysis:
    return drawn[0]


def test_no_text_overlaps_another_or_is_cut_off_however_long_the_names(drawn: tuple[Analysis, dict[str, list[str]]]):
    _, problems = drawn
    assert len(problems) > 20
    assert {name: found for name, found in problems.items() if found} == {}


def test_nothing_is_left_out(analysis: Analysis):
    assert analysis.missing == ()
    empty = re.compile(r"kernels?_conv\d|maps_|grid_|ablation_|search_heatmap")
    figures = {name for name in cnn_figures(filter=2) if not empty.match(name)}
    folder = analysis.page.parent
    assert {path.stem for path in folder.glob("*.png")} == figures
    named = {f"maps_{kind}{layer}_filter{3 - layer}" for kind in ("conv", "relu", "pool") for layer in (1, 2)}
    named |= {"kernel_conv1_filter2", "kernel_conv2_filter1", "kernels_conv1", "grid_relu2"}
    assert named < {path.stem for path in folder.glob("*.csv")}, "what is not drawn is written"
    html = analysis.page.read_text()
    assert "$_{100%}$ &amp; &lt;others&gt;" in html
    assert ">nan" not in html.lower()


def test_roc_and_recall_are_undefined_and_not_zero(analysis: Analysis):
    assert pd.read_csv(analysis.page.parent / "roc.csv")["auc"].isna().all()
    recall = pd.read_csv(analysis.page.parent / "classes.csv").set_index("class")["recall"]
    assert recall.isna().tolist() == [name != CLASSES[0] for name in recall.index]
    assert "undefined" in analysis.page.read_text()


def test_every_filter_is_dead_at_the_end_and_none_has_a_purpose(analysis: Analysis):
    health = pd.read_csv(analysis.page.parent / "filter_health.csv")
    assert health[health["epoch"] == 1]["silent"].all()
    effects = pd.read_csv(analysis.page.parent / "ablation_accuracy_lost.csv")
    assert not effects["logit_change"].any()
    maps = pd.read_csv(analysis.page.parent / "maps_relu1_filter2.csv")
    assert (maps[maps["epoch"] == 1]["value"] == 0).all()
