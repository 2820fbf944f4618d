"""The whole way, from the search to explanations, with images of another size than 32 × 32."""

from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.analyse import analyse
from pipelines.config import AnalysisConfig
from pipelines.explain import explain
from pipelines.predict import load, predict
from pipelines.report import exhibits
from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.tune import tune
from study.architectures import CNNConfig
from study.config import DataConfig, SearchConfig
from study.data import Dataset
from study.errors import StudyError
from study.home import Home
from study.tracking import best
from study.tracking.registry import model_name
from study.tracking.runs import Run
from tests.conftest import copy_of, surroundings
from tests.support.legibility import watched
from tests.support.photos import PIXELS, path_of

SIDE = 44
"""No multiple of 32, nor of 8."""


def folder_of_images(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("cat", "dog", "frog"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                size = (int(rng.integers(30, 90)), int(rng.integers(30, 90)), 3)
                Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def retrained(migrated: Home, machine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Dataset, Run]:
    folder = tmp_path_factory.mktemp("sized")
    context = surroundings(copy_of(migrated, folder / "home"), machine)
    data = DataConfig(dataset=str(folder_of_images(folder / "images")), image_size=SIDE)
    dataset = context.load(data)
    config = SearchConfig(name="sized", model=CNNConfig(filters=(3, 4)), trials=1, epochs=1, batch_size=12)
    tune(config, dataset, context)
    run_id = retrain(best.best_trial(context.store, dataset.key, "cnn"), dataset, context, epochs=2)
    return context, dataset, context.store.get(run_id)


def test_the_run_records_the_size_and_its_data_set_is_loaded_with_it(retrained: tuple[Context, Dataset, Run]):
    context, dataset, run = retrained
    assert run.params["image_size"] == str(SIDE)
    assert dataset.key.endswith(f"-{SIDE}px")
    assert context.load(run.data_config).digest == dataset.digest


def test_the_whole_report_is_drawn_legibly_without_anything_missing(
    retrained: tuple[Context, Dataset, Run], monkeypatch: pytest.MonkeyPatch
):
    context, _, run = retrained
    # On narrow screens the long numbers of images of noise do not fit, whatever the size.
    monkeypatch.setattr(exhibits, "narrow_png", lambda figure: None)
    with watched() as problems:
        analysis = analyse(run.id, AnalysisConfig(), context)
    assert analysis.missing == ()
    assert len(problems) > 20
    assert {name: found for name, found in problems.items() if found} == {}
    table = (context.home.reports / f"{run.dataset_key}-cnn-{run.id[:8]}" / "architecture.md").read_text()
    assert f"3 × {SIDE} × {SIDE}" in table


def test_an_answer_is_explained_and_the_photo_stretched_to_the_size(
    retrained: tuple[Context, Dataset, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    context, _, run = retrained
    explain(run.id, str(path_of(tmp_path)), "", context)
    assert f"was stretched to {SIDE} × {SIDE}, as for training" in capsys.readouterr().out


@torch.no_grad()
def test_predictions_in_the_terminal_and_by_the_served_model_resize_as_training_did(
    retrained: tuple[Context, Dataset, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    context, dataset, run = retrained
    model = load(context.store, run).model
    resized = Image.fromarray(PIXELS).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None]
    expected = model(image / 127.5 - 1).softmax(1)[0].numpy()

    assert predict([str(path_of(tmp_path))], run.id, context.store, context.display)

    shown = capsys.readouterr().out
    assert f"1 resized to {SIDE} × {SIDE} pixels, as for training" in shown
    assert f"{expected.max():.1%}" in shown
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(context.store.uri)
    answer = mlflow.pyfunc.load_model(f"models:/{model_name(run)}@best").predict(PIXELS)
    mlflow.set_tracking_uri(before)
    assert np.allclose(answer[[f"p_{name}" for name in dataset.classes]], expected, atol=1e-6)


def test_layers_that_do_not_fit_are_an_error_before_anything_is_recorded(
    retrained: tuple[Context, Dataset, Run],
):
    context, dataset, _ = retrained
    config = SearchConfig(name="too deep", model=CNNConfig(pool=8), trials=1)
    with pytest.raises(StudyError, match="pool2 leaves nothing of a 5 × 5 input"):
        tune(config, dataset, context)
    assert context.store.runs(search="too deep") == []
