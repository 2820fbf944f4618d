"""The model that MLflow serves: it takes images as people send them, and returns class names with probabilities.

A logged model carries a copy of it, see `study.tracking.packaging`.
"""

import io
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import torch
from mlflow import MlflowException
from safetensors.torch import load_file, save_file
from torch import nn

from study.architectures import CHANNELS, CustomConfig, ModelConfig
from study.config import model_kind
from study.errors import first_line
from study.images import normalise
from study.models import trained_model
from study.pictures.decoding import resized
from study.pictures.inputs import as_images

WEIGHTS, GRAPH, DESCRIPTION = "weights.safetensors", "network.pt2", "model.json"
BATCH = 256
"""Maximum number of images that the network classifies at once."""
SERVER = "__pyfunc_model_path__"
"""Environment variable that MLflow's scoring server sets for the process that answers."""


class Served:
    """A trained network that classifies images of any size."""

    def __init__(self, model: nn.Module, classes: Sequence[str], side: int):
        """Takes a network in evaluation mode, its class names, and the side in pixels of the images that it takes."""
        self.model, self.classes, self.side = model, list(classes), side

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
        table = self.classify([resized(image, self.side) for image in images])
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


def save(folder: Path, model: nn.Module, config: ModelConfig, classes: Sequence[str], side: int) -> str:
    """Writes the network to `folder`, for `_load_pyfunc`: its weights, or of a network of the user's its operations.

    Returns:
        a sentence, where `torch.export` cannot export the operations: the weights are written instead, and whoever
        loads them needs the function that builds the network. Else an empty text.
    """
    described = {"model": config.name, "settings": asdict(config), "side": side, "classes": list(classes)}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2), encoding="utf-8")
    message = ""
    if isinstance(config, CustomConfig):
        try:
            _export(model, folder / GRAPH, side)
            return ""
        except Exception as error:  # it raises errors of many kinds
            message = (
                f"torch cannot export the operations of {config.model_path} ({type(error).__name__}: "
                f"{first_line(error).rstrip('.')}): the registered model is loaded where that function can be imported."
            )
    save_file({name: weights.clone().contiguous() for name, weights in model.state_dict().items()}, folder / WEIGHTS)
    return message


def _export(model: nn.Module, file: Path, side: int) -> None:
    """Writes the operations of the network with its weights, which need neither its code nor the packages behind it."""
    # With one image the size of the batch would be fixed.
    images = torch.zeros(2, CHANNELS, side, side)
    with warnings.catch_warnings():
        # It warns of its own choice among copies of the same weights.
        warnings.simplefilter("ignore")
        program = torch.export.export(model.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("images")},))
        torch.export.save(program, file)


def _exported(file: Path) -> nn.Module:
    """The network that `_export` wrote.

    Raises:
        UnpicklingError: for a file with a pickle of anything but tensors, which `torch.export.load` would run.
    """
    with ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(".pt"):
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    return torch.export.load(file).module()


def _load_pyfunc(path: str) -> Served:
    """The model whose data is in the folder `path`; MLflow calls it."""
    described = json.loads(Path(path, DESCRIPTION).read_text(encoding="utf-8"))
    classes, side = described["classes"], described["side"]
    if Path(path, GRAPH).is_file():
        return Served(_exported(Path(path, GRAPH)), classes, side)
    config = model_kind(described["model"], described["settings"])(**described["settings"])
    model = trained_model(config, load_file(Path(path, WEIGHTS)), classes=len(classes), side=side)
    return Served(model, classes, side)
