"""A retrained run as a network: settings, curves, predictions, and the weights of each epoch, loaded on demand."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath, PurePosixPath

import numpy as np
import pandas as pd
import torch
from torch import nn

from analysis.drawing.names import printable
from analysis.drawing.wording import sentence
from study.architectures import CustomConfig
from study.config import TrainConfig
from study.convolutions import layered, maps_of
from study.data import normalise
from study.errors import StudyError
from study.models import Layered, Model, build_model, trained_model
from study.selection import SelectedImage
from study.system.debugging import show_if_debugging
from study.tracking.artifacts import DESCRIPTION, SPLITS, epoch_of, predictions_path, weights_path
from study.tracking.hints import retraining
from study.tracking.runs import Run
from study.tracking.store import Store

BUNDLED_NAMES = {"cifar10": "CIFAR-10", "digits": "scikit-learn's digits"}
KEPT = 256 * 2**20
"""Bytes of weights that are kept in memory: all epochs of a small network, one epoch of a large one."""
MOST_NAMED = 3
"""Maximum number of missing files that are named."""


@dataclass(frozen=True)
class Network:
    """A retrained run with its settings, curves and predictions; weights are loaded epoch by epoch."""

    run: Run
    store: Store
    config: TrainConfig
    classes: tuple[str, ...]
    history: pd.DataFrame
    """A row per epoch: `epoch` and a column per metric."""
    predictions: dict[str, tuple[np.ndarray, np.ndarray]]
    """Logits (N, classes) and labels (N,), by split; without a split whose predictions are missing."""
    files: dict[int, str]
    """The artifact of the weights after each epoch; 0 is before training."""
    missing: tuple[str, ...] = ()
    """What the retraining kept and is now missing, a sentence each."""
    _pulled: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)
    _of_layers: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`cnn`, `ffnn`, or the name of another network."""
        return self.config.model.name

    @property
    def images(self) -> str:
        """Its data set, as a reader knows it."""
        folder = printable(PurePath(self.run.dataset).name) or self.run.dataset_key
        return BUNDLED_NAMES.get(self.run.dataset, f"the image folder “{folder}”")

    @property
    def side(self) -> int:
        """Side of the images that it takes, in pixels."""
        return self.run.image_size

    @property
    def is_own(self) -> bool:
        """Whether it is another network than the report's two."""
        return isinstance(self.config.model, CustomConfig)

    @cached_property
    def structure(self) -> Layered:
        """The layers, and which of the weights are theirs."""
        model = build_model(self.config.model, classes=len(self.classes), seed=0, side=self.side)
        return layered(model, self.side)

    @cached_property
    def convolutions(self) -> dict[str, tuple[str, ...]]:
        """The names of the maps of each convolution, see `maps_of`."""
        return maps_of(self.structure.layers)

    @property
    def last(self) -> int:
        """The last epoch that has weights."""
        return max(self.files)

    def epochs(self, every: int) -> list[int]:
        """Every `every`-th epoch that has weights, and the last."""
        return sorted({epoch for epoch in self.files if epoch % every == 0} | {self.last})

    def weights(self, epoch: int) -> dict[str, torch.Tensor]:
        """The weights after `epoch`, by name; the latest ones are kept, as far as `KEPT` allows."""
        if epoch not in self._pulled:
            weights, _ = self.store.load_tensors(self.run.id, self.files[epoch])
            if (len(self._pulled) + 1) * sum(tensor.nbytes for tensor in weights.values()) > KEPT:
                self._pulled.clear()
            self._pulled[epoch] = weights
        return self._pulled[epoch]

    def layer_weights(self, layer: str, epochs: Iterable[int] | None = None) -> dict[int, np.ndarray]:
        """The weights (filters, …) of a layer after each of these epochs, by default of all; without the bias."""
        return {epoch: self._of_layer(layer, epoch) for epoch in epochs or sorted(self.files)}

    def _of_layer(self, layer: str, epoch: int) -> np.ndarray:
        if (layer, epoch) not in self._of_layers:
            self._of_layers[layer, epoch] = self.weights(epoch)[self.structure.weights[layer]].numpy()
        return self._of_layers[layer, epoch]

    @property
    def accuracy(self) -> dict[int, float]:
        """The accuracy on the test images by epoch, as far as it was measured."""
        measured = self.history.dropna(subset="test_accuracy")
        return dict(zip(measured["epoch"].astype(int), measured["test_accuracy"].astype(float), strict=True))

    def model(self, epoch: int) -> nn.Module:
        """The network with its weights after `epoch`, on the CPU and in evaluation mode."""
        return trained_model(self.config.model, self.weights(epoch), classes=len(self.classes), side=self.side)

    def report_model(self, epoch: int) -> Model:
        """Like `model`, for one of the report's two networks."""
        model = self.model(epoch)
        assert isinstance(model, Model)
        return model

    def maps(self, epoch: int, image: SelectedImage) -> dict[str, np.ndarray]:
        """The output of each layer for `image` after `epoch`, (filters, H, W) by layer; float32."""
        return {name: values[0] for name, values in self.activations(epoch, image.image[None]).items()}

    @torch.no_grad()
    def activations(self, epoch: int, images: torch.Tensor) -> dict[str, np.ndarray]:
        """The output of each layer for `images` (N, 3, side, side; uint8) after `epoch`, by layer.

        (N, filters, H, W), for `fc` of the CNN (N, classes); float32.
        """
        network = layered(self.model(epoch), self.side)
        return {name: values.numpy() for name, values in network.activations(normalise(images)).items()}


def pull(store: Store, run: Run, classes: tuple[str, ...] = ()) -> Network:
    """Loads what the retraining `run` kept; the network lists what is missing.

    Args:
        store: where the run is recorded.
        run: the retraining.
        classes: the class names, where the data set is at hand; by default those that the run recorded.

    Raises:
        StudyError: for a run whose retraining was not finished, one whose classes are unknown, or one of which
            nothing is left.
    """
    by_epoch = {epoch_of(path): path for path in store.artifacts(run.id, "weights")}
    # Other files in the folder belong to no epoch.
    files = {epoch: path for epoch, path in by_epoch.items() if epoch is not None}
    if run.status != "FINISHED":
        raise StudyError(
            f"Run {run.name} ({run.id}) is not finished ({run.status.lower()}, {len(files)} epochs' weights): "
            f"`{retraining(store, run)}` continues it."
        )
    config = run.train_config
    missing = _missing_weights(run, set(range(config.epochs + 1)) - set(files)) if files else [no_weights(run)]
    history, predictions = store.history(run.id), {}
    for split in SPLITS:
        try:
            predictions[split] = _predictions(store, run, split)
        except StudyError as error:
            show_if_debugging(error)
            consequence = "what is measured on these predictions is left out"
            missing.append(_unreadable(store, run, predictions_path(split), error, consequence))
    if not (files or predictions or len(history)):
        raise StudyError(
            f"Run {run.name} ({run.id}) has no weights, no predictions and no curves: "
            "name another run, or run `study retrain` again."
        )
    try:
        classes = store.classes(run.id)
    except StudyError as error:
        show_if_debugging(error)
        consequence = "the classes are the data set's" if classes else "without the data set its classes are unknown"
        message = _unreadable(store, run, DESCRIPTION, error, consequence)
        if not classes:
            raise StudyError(message) from None
        missing.append(message)
    return Network(run, store, config, classes, history, predictions, files, tuple(missing))


def no_weights(run: Run) -> str:
    """The message for a run without any weights."""
    return f"Run {run.name} ({run.id}) has no weights: name another run, or run `study retrain` again."


def _unreadable(store: Store, run: Run, path: str, error: StudyError, consequence: str) -> str:
    """The message for an artifact that is missing or cannot be read, and the consequence."""
    folder = str(PurePosixPath(path).parent)
    if path not in store.artifacts(run.id, "" if folder == "." else folder):
        return f"Run {run.id} has no artifact {path}: {consequence}."
    return f"{str(error).removesuffix('.')}. {sentence(consequence)}"


def _missing_weights(run: Run, epochs: set[int]) -> list[str]:
    if not epochs:
        return []
    named = ", ".join(weights_path(epoch) for epoch in sorted(epochs)[:MOST_NAMED])
    more = f" and {len(epochs) - MOST_NAMED} more" if len(epochs) > MOST_NAMED else ""
    return [f"Run {run.id} has no artifact {named}{more}: its figures go without these epochs."]


def _predictions(store: Store, run: Run, split: str) -> tuple[np.ndarray, np.ndarray]:
    tensors, _ = store.load_tensors(run.id, predictions_path(split))
    return tensors["logits"].numpy(), tensors["labels"].numpy()
