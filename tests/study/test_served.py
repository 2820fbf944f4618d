"""The model that MLflow serves: every form of an image gets the answer of the network that was trained."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

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
