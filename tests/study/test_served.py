"""The model that MLflow serves: every form of an image gets the answer of the network that was trained."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from study import served
from study.config import model_config
from study.images import normalise
from study.models import build_model
from study.tracking.artifacts import weights_path
from tests.conftest import Finished
from tests.support.photos import FORMS, PIXELS, as_trained


@pytest.fixture(scope="module", params=["cnn", "ffnn"])
def model(request: pytest.FixtureRequest, finished_study: Finished) -> Iterator[tuple[str, Any]]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(finished_study.context.store.uri)
    yield request.param, mlflow.pyfunc.load_model(f"models:/digits-{request.param}@best")
    mlflow.set_tracking_uri(before)


@torch.no_grad()
def expected(finished: Finished, name: str, images: torch.Tensor) -> np.ndarray:
    """The probabilities of the run's last weights."""
    network = build_model(finished.searches[name].model, classes=10, seed=9)
    weights, _ = finished.context.store.load_tensors(finished.retrained[name], weights_path(2))
    network.load_state_dict(weights)
    return network(normalise(images)).softmax(1).numpy()


def test_each_form_of_a_photo_gets_the_right_answer(model: Any, finished_study: Finished, tmp_path: Path):
    name, served = model
    [probabilities] = expected(finished_study, name, as_trained())
    for form, make in FORMS.items():
        answer = served.predict(make(tmp_path))
        columns = [f"p_{name}" for name in finished_study.dataset.classes]
        assert list(answer) == ["class", "probability", *columns], form
        assert np.allclose(answer[columns], probabilities, atol=1e-6), form
        assert answer["class"].tolist() == [finished_study.dataset.classes[probabilities.argmax()]], form
        assert answer["probability"].item() == answer[columns].to_numpy().max(), form


def test_a_table_keeps_its_index_and_a_long_batch_its_order(model: Any, finished_study: Finished):
    name, served = model
    images = finished_study.dataset.test.images[:40].repeat(8, 1, 1, 1)
    answer = served.predict(images.numpy())
    assert np.allclose(answer.filter(like="p_"), expected(finished_study, name, images), atol=1e-6)
    table = pd.DataFrame({"image": [PIXELS, PIXELS[:9]]}, index=["b", "a"])
    assert list(served.predict(table).index) == ["b", "a"]
    assert served.predict([]).shape == (0, 12)


def test_a_refusal_is_a_sentence_and_the_example_is_an_input(model: Any):
    _, served = model
    with pytest.raises(MlflowException, match=r"^INVALID.*Floats are 0–1|^Floats are 0–1"):
        served.predict(np.full((4, 4, 3), 200.0))
    assert len(served.predict(served.input_example)) == 1


def test_it_loads_and_answers_where_study_is_not_installed(finished_study: Finished, tmp_path: Path):
    client = finished_study.context.store.client
    [version] = client.search_model_versions(f"run_id = '{finished_study.retrained['cnn']}'")
    folder = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    script = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("study", "pipelines", "analysis", "pickle5", "cloudpickle5"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import mlflow
import numpy as np
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(np.zeros((9, 9, 3), np.uint8))
assert "study" not in sys.modules
print(json.dumps(answer.to_dict("records")))
"""
    ended = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    [answer] = json.loads(ended.stdout)
    assert answer["class"] in finished_study.dataset.classes


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was run",)


def own_network(folder: Path, build: str = "three_layers") -> tuple[Any, str]:
    """An exported network of another kind than the report's, and what `save` says."""
    config = model_config(build)
    model = build_model(config, classes=3, seed=0, side=48).eval()
    return model, served.save(folder, model, config, ["a", "b", "c"], 48)


def test_any_network_answers_as_its_operations_alone(tmp_path: Path):
    model, message = own_network(tmp_path)
    assert message == ""
    assert not (tmp_path / served.WEIGHTS).exists()
    loaded = served._load_pyfunc(str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 48, 48), dtype=np.uint8)
    expected = torch.softmax(model(normalise(torch.from_numpy(pixels))), 1).detach().numpy()
    assert np.allclose(loaded.probabilities(pixels), expected, atol=1e-6)
    assert loaded.side == 48


def test_an_exported_network_with_a_foreign_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    own_network(tmp_path)
    file, altered = tmp_path / served.GRAPH, tmp_path / "altered"
    with ZipFile(file) as before, ZipFile(altered, "w") as after:
        for name in before.namelist():
            content = pickle.dumps(Evil(), protocol=2) if name.endswith(".pt") else before.read(name)
            after.writestr(name, content)
    altered.replace(file)
    with pytest.raises(pickle.UnpicklingError):
        served._load_pyfunc(str(tmp_path))
    assert not (tmp_path / "was run").exists()


def test_a_network_that_torch_cannot_export_is_built_by_its_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object, **more: object) -> None:
        raise RuntimeError("Data-dependent branch.\nSee the log.")

    monkeypatch.setattr(torch.export, "export", fail)
    model, message = own_network(tmp_path)
    assert "study.examples:three_layers (RuntimeError: Data-dependent branch)" in message
    assert message.endswith(".")
    loaded = served._load_pyfunc(str(tmp_path)).model
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), loaded.parameters(), strict=True))
    assert not loaded.training
