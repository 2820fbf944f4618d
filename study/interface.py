"""The study from Python: load images, build, train and ask a network, and take a recorded one back.

`study` imports these names at their first use: ``import study; study.best("cnn")``.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from study import TRACKING_URI, data, models, training
from study.architectures import CustomConfig
from study.config import IMAGE_SIZE, DataConfig, TrainConfig, model_config
from study.custom import network_settings
from study.data import Dataset
from study.device import prepare
from study.errors import StudyError, first_line
from study.home import Home, default_home
from study.state import TrainingState
from study.tracking.artifacts import epoch_of, predictions_path, weights_path
from study.tracking.best import choose_retrained_on, is_model
from study.tracking.runs import Run
from study.tracking.store import Store
from study.training import Epoch

__all__ = ["Recorded", "Trained", "best", "build_model", "load_dataset", "predict", "train"]


def load_dataset(dataset: str = "cifar10", *, home: str | Path | None = None, **settings: Any) -> Dataset:
    """Images with labels, split into training, validation and test images.

    Args:
        dataset: ``"cifar10"`` (downloaded if needed), ``"digits"`` (scikit-learn's), or the path of an image folder.
        home: the folder that holds `data/`; by default that of the command.
        **settings: further fields of `DataConfig`.

    Raises:
        StudyError: for an unknown name, a failed download, or a folder without the required contents.
    """
    return data.load_dataset(DataConfig(dataset=dataset, **settings), _home(home))


def build_model(
    name: str = "cnn", *, classes: int = 10, seed: int = 0, side: int = IMAGE_SIZE, **settings: Any
) -> nn.Module:
    """A network with initial weights drawn from `seed`.

    Args:
        name: what `study tune --model` takes: ``"cnn"`` or ``"ffnn"``, the report's, ``"resnet18"``, …, or
            ``"package.module:function"``.
        classes: the number of classes.
        seed: the seed of the weights.
        side: side of the images in pixels, `dataset.side`.
        **settings: fields of `CNNConfig` or `FFNNConfig`, e.g. ``filters=(8, 16)``, by default the report's; or further
            arguments of the function.

    Raises:
        StudyError: for an unknown name, layers that do not fit, or a function that returns no network.
    """
    config = model_config(name)
    if isinstance(config, CustomConfig):
        config = network_settings(name, settings)
    else:
        try:
            config = replace(config, **settings)
        except TypeError as error:
            known = ", ".join(item.name for item in fields(config))
            raise StudyError(f"The {name} cannot have {settings}: {first_line(error)}; it takes {known}.") from None
    return models.build_model(config, classes=classes, seed=seed, side=side)


@dataclass(frozen=True)
class Trained:
    """What `train` returns."""

    model: nn.Module
    """The network after the last epoch, on the device that it was trained on."""
    history: pd.DataFrame
    """A row per epoch, 0 before training: `epoch`, `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`."""
    weights: list[dict[str, Tensor]]
    """The weights after each epoch by name, on the CPU; the first are those before training."""


def train(
    model: nn.Module,
    dataset: Dataset,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    **settings: Any,
) -> Trained:
    """Trains `model`, in place, on the training images of `dataset`; nothing is recorded in the stores.

    Args:
        model: from `build_model`, or any module that takes normalised images (N, 3, side, side) to logits (N, classes).
        dataset: from `load_dataset`.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision: ``"auto"`` (bf16 if the hardware has units for it), ``"float32"`` or ``"bf16"``.
        threads: CPU threads; 0 keeps torch's default.
        on_epoch: called with the result of each epoch.
        **settings: fields of `TrainConfig`, e.g. ``learning_rate=2e-3, epochs=10``; `seed` orders the images.

    Raises:
        Diverged: when a loss is NaN or infinite.
        StudyError: for a setting that cannot work.
    """
    machine, config = prepare(device, precision, threads), TrainConfig(**settings)
    state = TrainingState(model, config, machine)
    history, weights = [], []

    def keep(epoch: Epoch) -> None:
        history.append({"epoch": epoch.number, **epoch.metrics})
        weights.append(state.weights())
        on_epoch(epoch)

    splits = dataset.splits
    training.fit(
        state,
        splits.images,
        config,
        machine,
        rows=splits.train_rows,
        evaluate={"val": splits.validation},
        on_epoch=keep,
        from_start=True,
    )
    return Trained(state.model, pd.DataFrame(history), weights)


def predict(model: nn.Module, images: Tensor | np.ndarray) -> np.ndarray:
    """Logits (N, classes), float32, as the functions of `analysis` take them; their softmax is the probabilities.

    Args:
        model: a trained network.
        images: pixel values as bytes: uint8, (N, 3, side, side).

    Raises:
        StudyError: for images of another type or shape.
    """
    batch = torch.as_tensor(images)
    if batch.dtype != torch.uint8 or batch.dim() != 4 or batch.shape[1] != 3:
        raise StudyError(
            f"The images are {str(batch.dtype).removeprefix('torch.')} of shape {tuple(batch.shape)}: predict takes "
            "uint8 of shape (N, 3, height, width), e.g. `dataset.test.images`."
        )
    return training.predict(model, batch).cpu().numpy()


@dataclass(frozen=True)
class Recorded:
    """A retrained network from the tracking store; weights and predictions are loaded when they are asked for."""

    run: Run
    """Its run: params, metrics and tags."""
    store: Store
    classes: tuple[str, ...]
    """The class names, by label."""

    @property
    def config(self) -> TrainConfig:
        """The settings that it was trained with."""
        return self.run.train_config

    @property
    def epochs(self) -> list[int]:
        """The epochs whose weights were kept; 0 is before training."""
        numbers = map(epoch_of, self.store.artifacts(self.run.id, "weights"))
        return sorted(number for number in numbers if number is not None)

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: `epoch` and a column per metric."""
        return self.store.history(self.run.id)

    def weights(self, epoch: int | None = None) -> dict[str, Tensor]:
        """The weights after `epoch`, by default the last, by name.

        Raises:
            StudyError: where these were not kept.
        """
        kept = self.epochs
        number = kept[-1] if epoch is None and kept else epoch
        if number not in kept:
            raise StudyError(
                f"Run {self.run.name} has no weights of epoch {number}: "
                + (f"choose one of {kept[0]} to {kept[-1]}." if kept else "none were kept.")
            )
        return self.store.load_tensors(self.run.id, weights_path(number))[0]

    def model(self, epoch: int | None = None) -> nn.Module:
        """The network with its weights after `epoch`, by default the last; on the CPU, in evaluation mode."""
        weights, side = self.weights(epoch), self.run.image_size
        return models.trained_model(self.config.model, weights, classes=len(self.classes), side=side)

    def predictions(self, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, classes) and labels (N,) of the last epoch on the ``"train"`` or ``"test"`` images."""
        arrays = self.store.load_arrays(self.run.id, predictions_path(split))
        return arrays["logits"], arrays["labels"]


def best(
    run: str = "cnn", *, dataset: str | None = None, home: str | Path | None = None, tracking_uri: str | None = None
) -> Recorded:
    """The retrained network that `run` names, from the tracking store.

    Args:
        run: a model's name for its best trial retrained (``"cnn"``, ``"ffnn"``, that of a network of your own), or what
            `study analyse --run` takes: ``"best:parameters:0.70"``, a run's id, a unique prefix of it, or its name.
        dataset: ``"digits"``, ``"cifar10"``, the path of an image folder, or the key that `study runs` shows; by
            default that of the latest retrained run.
        home: the folder that holds `mlruns/`; by default that of the command.
        tracking_uri: an MLflow tracking server, or another store; by default `MLFLOW_TRACKING_URI`, or the one in
            `home`.

    Raises:
        StudyError: where there is none, or several.
    """
    store = Store(_home(home), tracking_uri or TRACKING_URI)
    chosen = choose_retrained_on(store, f"best:{run}" if is_model(store, run) else run, dataset or "")
    return Recorded(chosen, store, store.classes(chosen.id))


def _home(folder: str | Path | None) -> Home:
    chosen = folder or os.environ.get("STUDY_HOME")
    return Home(root=Path(chosen).expanduser().resolve()) if chosen else default_home()
