"""`mlflow models serve` with a registered model, asked over HTTP, and the clients that docs/predict.md shows."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from study.images import normalise
from study.models import build_model
from study.tracking.artifacts import weights_path
from tests.conftest import Finished
from tests.support.photos import PIXELS, as_trained, path_of, text
from tests.support.process import TIMEOUT, environment
from tests.whole.test_ui import free_port

pytestmark = pytest.mark.slow
BLOCKS = re.findall(r"^```python\n(.*?)^```", (Path(__file__).parents[2] / "docs/predict.md").read_text(), re.M | re.S)
MODEL = "models:/digits-cnn@best"
FORMS: dict[str, Callable[[], Any]] = {
    "pixels": lambda: {"inputs": PIXELS.tolist()},
    "several": lambda: {"inputs": [PIXELS.tolist()]},
    "floats": lambda: {"inputs": (PIXELS / 255).round(5).tolist()},
    "several of floats": lambda: {"instances": [(PIXELS / 255).round(5).tolist()]},
    "channels first": lambda: {"inputs": PIXELS.transpose(2, 0, 1)[None].tolist()},
    "base64": lambda: {"inputs": [text()]},
    "instances of base64": lambda: {"instances": [text()]},
    "a data URL": lambda: {"inputs": f"data:image/png;base64,{text()}"},
    "instances by name": lambda: {"instances": [{"image": text()}]},
    "inputs by name": lambda: {"inputs": {"image": [text()]}},
    "a split table": lambda: {"dataframe_split": {"columns": ["image"], "data": [[text()]]}},
    "records": lambda: {"dataframe_records": [{"image": text(), "taken": "today"}]},
    "records of pixels": lambda: {"dataframe_records": [{"image": PIXELS.tolist()}]},
}


@pytest.fixture(scope="module")
def address(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("serve"), free_port()
    log = folder / "log"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", MODEL, "--env-manager", "local"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment(folder, MLFLOW_TRACKING_URI=finished_study.context.store.uri, PATH=path_with_python()),
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/ping", process, log)
        yield f"{url}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(TIMEOUT)


def path_with_python() -> str:
    """MLflow starts its server through a shell, which must find this interpreter."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"The server never answered: {log.read_text()[-3000:]}")


def ask(address: str, body: str, kind: str = "application/json") -> list[dict[str, Any]]:
    request = urllib.request.Request(address, body.encode(), {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        return list(json.load(response)["predictions"])


@pytest.fixture(scope="module")
def expected(finished_study: Finished) -> dict[str, float]:
    """The probability of each class for the photo, by the run's last weights."""
    network = build_model(finished_study.searches["cnn"].model, classes=10, seed=9)
    kept = finished_study.context.store.load_tensors(finished_study.retrained["cnn"], weights_path(2))
    network.load_state_dict(kept[0])
    with torch.no_grad():
        [probabilities] = network(normalise(as_trained())).softmax(1).tolist()
    return dict(zip(finished_study.dataset.classes, probabilities, strict=True))


def assert_right(answer: dict[str, Any], expected: dict[str, float]) -> None:
    assert answer["class"] == max(expected, key=expected.__getitem__)
    assert [answer[f"p_{name}"] for name in expected] == pytest.approx(list(expected.values()), abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_photo_gets_the_right_answer(form: str, address: str, expected: dict[str, float]):
    [answer] = ask(address, json.dumps(FORMS[form]()))
    assert_right(answer, expected)


def test_csv_is_answered_too(address: str, expected: dict[str, float]):
    answers = ask(address, f"image\n{text()}\n{text()}\n", "text/csv")
    assert len(answers) == 2
    assert_right(answers[1], expected)


def test_a_refusal_is_a_sentence_and_a_path_is_not_read(address: str, tmp_path: Path):
    for body, message in {
        json.dumps({"inputs": [str(path_of(tmp_path))]}): "is not an image in base64",
        json.dumps({"inputs": PIXELS.astype(float).tolist()}): "Floats are 0–1, and these go from 0 to 255",
    }.items():
        with pytest.raises(urllib.error.HTTPError) as refusal:
            ask(address, body)
        assert refusal.value.code == 400
        assert message in json.load(refusal.value)["message"]


def test_the_clients_of_the_docs_work(
    address: str, expected: dict[str, float], finished_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    photos = ["photos/8.png", "photos/11.png"]
    Path("photos").mkdir()
    for name in photos:
        Image.fromarray(PIXELS).save(name, "PNG")
    (at_home,) = [block for block in BLOCKS if "pyfunc" in block]
    (over_http,) = [block for block in BLOCKS if "urllib" in block]
    assert MODEL in at_home
    at_home = at_home.replace("sqlite:///mlruns/mlflow.db", finished_study.context.store.uri)
    output, names = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(output):
        exec(over_http.replace("http://127.0.0.1:5001/invocations", address), names)
    assert_right(names["answer"], expected)
    assert output.getvalue().startswith(max(expected, key=expected.__getitem__))
    names = {}
    exec(at_home, names)
    answer = names["model"].predict(names["pd"].DataFrame({"image": photos}))
    assert isinstance(answer, pd.DataFrame)
    assert np.allclose(answer.filter(like="p_"), list(expected.values()), atol=1e-6)
