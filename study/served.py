"""The model that MLflow serves: it takes images as people send them, and returns class names with probabilities.

A logged model carries a copy of it, see `study.tracking.packaging`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow import MlflowException
from safetensors.torch import load_file, save_file

from study.config import ModelConfig, model_kind
from study.images import normalise
from study.models import Model, build_model
from study.pictures.decoding import resized
from study.pictures.inputs import as_images

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
BATCH = 256
"""Maximum number of images that the network classifies at once."""
SERVER = "__pyfunc_model_path__"
"""Environment variable that MLflow's scoring server sets for the process that answers."""


class Served:
    """A trained network that classifies images of any size."""

    def __init__(self, model: Model, classes: Sequence[str]):
        self.model, self.classes = model.eval(), list(classes)

    def predict(self, data: Any) -> pd.DataFrame:
        """The class of each image, its probability, and the probability of every class as column ``p_<class>``.

        Args:
            data: one or several images, see `study.pictures.inputs.as_images`. Where a server answers, a text is never
                a path: a client must not learn which files there are.

        Raises:
            MlflowException: for what cannot be read as images; a server answers with its message and the status 400.
        """
        try:
            images = as_images(data, files=SERVER not in os.environ)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        table = self.classify([resized(image, self.model.side) for image in images])
        return table.set_index(data.index) if isinstance(data, pd.DataFrame | pd.Series) else table

    def classify(self, pixels: Sequence[np.ndarray]) -> pd.DataFrame:
        """What `predict` returns, for images (3, side, side; uint8)."""
        parts = [self.probabilities(np.stack(pixels[at : at + BATCH])) for at in range(0, len(pixels), BATCH)]
        return as_table(np.concatenate([*parts, np.empty((0, len(self.classes)))]), self.classes)

    @torch.no_grad()
    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """The probabilities (N, classes) of images (N, 3, side, side; uint8)."""
        return torch.softmax(self.model(normalise(torch.from_numpy(pixels))), 1).double().numpy()


def as_table(probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """A row for each image: its class, the probability of it, and a column ``p_<class>`` for each class."""
    columns = [f"p_{name}" for name in classes]
    table = pd.DataFrame(probabilities, columns=columns)
    table.insert(0, "class", [classes[place] for place in probabilities.argmax(1)])
    table.insert(1, "probability", probabilities.max(1, initial=0))
    return table


def save(folder: Path, model: Model, config: ModelConfig, classes: Sequence[str]) -> None:
    """Writes the network to `folder`, for `_load_pyfunc`."""
    save_file({name: weights.contiguous() for name, weights in model.state_dict().items()}, folder / WEIGHTS)
    described = {"model": config.name, "settings": asdict(config), "side": model.side, "classes": list(classes)}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2), encoding="utf-8")


def _load_pyfunc(path: str) -> Served:
    """The model whose data is in the folder `path`; MLflow calls it."""
    described = json.loads(Path(path, DESCRIPTION).read_text(encoding="utf-8"))
    config = model_kind(described["model"])(**described["settings"])
    model = build_model(config, classes=len(described["classes"]), seed=0, side=described["side"])
    model.load_state_dict(load_file(Path(path, WEIGHTS)))
    return Served(model, described["classes"])
