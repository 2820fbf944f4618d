from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.session.context import Context
from pipelines.tune import tune
from study.architectures import FFNNConfig
from study.config import DataConfig, SearchConfig
from study.device import Machine
from study.home import Home
from study.tracking.runs import dataset_keys
from tests.conftest import surroundings

CONFIG = SearchConfig(name="moved", model=FFNNConfig(hidden=4), trials=1, epochs=1, batch_size=12)


@pytest.fixture
def context(home: Home, machine: Machine) -> Context:
    return surroundings(home, machine)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                pixels.save(tmp_path / "images" / part / name / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_search_goes_on_where_the_folder_of_its_images_is_called_differently(
    context: Context, images: Path, capsys: pytest.CaptureFixture[str], workers: int
):
    before = context.load(DataConfig(dataset=str(images)))
    parent = tune(CONFIG, before, context)
    after = context.load(DataConfig(dataset=str(images.rename(images.with_name("moved")))))
    assert (after.key, after.digest) == (before.key, before.digest)
    assert f"The same images were recorded as {before.key}: they keep this name." in capsys.readouterr().out
    runs = context.store.runs()
    assert dataset_keys(runs, str(images)) == {before.key}
    more = replace(CONFIG, trials=2)
    assert tune(more, after, context, workers=workers) == parent
    assert {run.dataset_key for run in context.store.runs(stage="trial", parent=parent)} == {before.key}
    assert len(context.store.runs(stage="trial")) == 2
    both = [dataset_keys(context.store.runs(), str(images.with_name(name))) for name in ("images", "moved")]
    assert both == [{before.key}, {before.key}]


def test_other_images_in_a_folder_of_the_same_name_are_another_data_set(context: Context, images: Path):
    before = context.load(DataConfig(dataset=str(images)))
    tune(CONFIG, before, context)
    (images / "train" / "cat" / "0.png").unlink()
    assert context.load(DataConfig(dataset=str(images))).key != before.key
