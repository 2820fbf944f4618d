"""A retrained run as the analysis sees it: what the retraining kept, pulled through MLflow when it is asked for."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import torch

from study.config import TrainConfig
from study.data import SelectedImage, normalise
from study.errors import StudyError
from study.models import CNN, build_model
from study.tracking import Run, Store

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Network:
    """A retrained run with its settings, its curves and its predictions; its weights come epoch by epoch."""

    run: Run
    store: Store
    config: TrainConfig
    classes: tuple[str, ...]
    history: pd.DataFrame
    """A row per epoch: `epoch` and a column per metric."""
    predictions: dict[str, tuple[np.ndarray, np.ndarray]]
    """Logits (N, classes) and labels (N,), by split."""
    files: dict[int, str]
    """The artifact of the weights after each epoch; 0 is before training."""
    _pulled: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`cnn` or `ffnn`."""
        return self.config.model.name

    def epochs(self, every: int) -> list[int]:
        """Every so many epochs from the first, and the last."""
        return sorted({epoch for epoch in self.files if epoch % every == 0} | {max(self.files)})

    def weights(self, epoch: int) -> dict[str, torch.Tensor]:
        """The weights after `epoch`, by name."""
        if epoch not in self._pulled:
            self._pulled[epoch], _ = self.store.load_tensors(self.run.id, self.files[epoch])
        return self._pulled[epoch]

    def maps(self, epoch: int, image: SelectedImage) -> dict[str, np.ndarray]:
        """What each layer of the CNN made of `image` after `epoch`, (filters, H, W) by the layer's name; float32."""
        return {name: values[0] for name, values in self.activations(epoch, image.image[None]).items()}

    @torch.no_grad()
    def activations(self, epoch: int, images: torch.Tensor) -> dict[str, np.ndarray]:
        """What each layer of the CNN made of `images` (N, 3, 32, 32; uint8) after `epoch`, by the layer's name.

        (N, filters, H, W), for `fc` (N, classes); float32.
        """
        model = build_model(self.config.model, classes=len(self.classes), seed=0)
        assert isinstance(model, CNN)
        model.load_state_dict(self.weights(epoch))
        return {name: values.numpy() for name, values in model.activations(normalise(images)).items()}


def pull(store: Store, run: Run) -> Network:
    """Fetches what the retraining `run` kept.

    Raises:
        StudyError: for a run without weights, or one whose retraining was not finished.
    """
    files = {int(PurePosixPath(path).stem.removeprefix("epoch_")): path for path in store.artifacts(run.id, "weights")}
    if not files:
        raise StudyError(f"Run {run.name} ({run.id}) has no weights: name another run, or `study retrain` anew.")
    if run.status != "FINISHED":
        raise StudyError(
            f"Run {run.name} ({run.id}) is not finished ({run.status.lower()}, {len(files)} epochs' weights): "
            "`study retrain` continues it."
        )
    return Network(
        run=run,
        store=store,
        config=TrainConfig.from_params(run.params),
        classes=tuple(store.load_json(run.id, "dataset.json")["classes"]),
        history=store.history(run.id),
        predictions={split: _predictions(store, run, split) for split in SPLITS},
        files=files,
    )


def _predictions(store: Store, run: Run, split: str) -> tuple[np.ndarray, np.ndarray]:
    tensors, _ = store.load_tensors(run.id, f"predictions/{split}.safetensors")
    return tensors["logits"].numpy(), tensors["labels"].numpy()
