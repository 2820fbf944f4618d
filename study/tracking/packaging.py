"""Logs a trained network as an MLflow model: its weights, and the code that makes predictions with them.

The model carries a copy of `CARRIED` under the name `PACKAGE`, so that neither its environment nor a process that loads
it needs `study`, or gets another version of it. It holds no pickle.
"""

import base64
import io
import re
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModel
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema
from PIL import Image
from torch import nn

from study import served
from study.architectures import ModelConfig

PACKAGE = "study_model"
PACKED = "network"
"""Folder of the weights and their description, in a model's `data/`."""
CARRIED = (
    "errors.py",
    "ranges.py",
    "names.py",
    "params.py",
    "architectures.py",
    "config.py",
    "custom.py",
    "geometry.py",
    "images.py",
    "models.py",
    "served.py",
    "pictures/__init__.py",
    "pictures/transparency.py",
    "pictures/decoding.py",
    "pictures/inputs.py",
)
"""`study.served`, and what it imports of `study`."""
REQUIREMENTS = ("torch", "numpy", "pandas", "pillow", "safetensors")
"""The packages that it needs beside MLflow."""


def log(
    client: MlflowClient,
    run_id: str,
    model: nn.Module,
    config: ModelConfig,
    classes: Sequence[str],
    example: np.ndarray,
    say: Callable[[str], None],
) -> LoggedModel:
    """Logs `model` as the model of a run; for the arguments see `study.tracking.registry.log_model`."""
    run = client.get_run(run_id)
    # Created here: `log_model` would create it in the default experiment, or end the run.
    logged = client.create_logged_model(
        run.info.experiment_id, name="model", source_run_id=run_id, params=dict(run.data.params)
    )
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        data = Path(folder, PACKED)
        data.mkdir()
        if message := served.save(data, model, config, classes, example.shape[0]):
            say(message)
        # `mlflow.pyfunc.log_model` takes no run, and loads the model to try the example, which a test does.
        flavor = SimpleNamespace(save_model=lambda validate_serving_input, **how: mlflow.pyfunc.save_model(**how))
        Model.log(
            None,
            flavor,
            name="model",
            model_id=logged.model_id,
            run_id=run_id,
            loader_module=f"{PACKAGE}.served",
            data_path=str(data),
            code_paths=[str(_copy_code(Path(folder)))],
            signature=_signature(classes),
            input_example=[_base64(example)],
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
            validate_serving_input=False,
        )
    return logged


def _copy_code(folder: Path) -> Path:
    """Writes the package that a model carries to `folder`."""
    package, origin = folder / PACKAGE, Path(served.__file__).parent
    for name in CARRIED:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        text = (origin / name).read_text(encoding="utf-8")
        renamed = re.sub(r"^from study\b", f"from {PACKAGE}", text, flags=re.MULTILINE)
        (package / name).write_text(renamed, encoding="utf-8")
    (package / "__init__.py").write_text('"""What the model beside it needs of `study`."""\n', encoding="utf-8")
    return package


def _signature(classes: Sequence[str]) -> ModelSignature:
    """What the model returns. What it takes has many forms, of which a schema would refuse all but one."""
    probabilities = [ColSpec("double", name) for name in ("probability", *(f"p_{name}" for name in classes))]
    return ModelSignature(outputs=Schema([ColSpec("string", "class"), *probabilities]))


def _base64(image: np.ndarray) -> str:
    """The image (H, W, 3; uint8) as a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
