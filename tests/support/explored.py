"""Small networks trained for a few epochs, and the values that the explorer's page should show of them."""

from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from analysis.drawing import style
from analysis.drawing.style import scale
from pipelines.report.network import Network
from study.architectures import CNNConfig
from study.config import TrainConfig
from study.data import normalise
from study.images import Labelled
from study.models import build_model
from study.selection import SelectedImage
from study.tracking.runs import Run

DEAD = {"conv1": 3, "conv2": 5}
"""The filters that die before the last epoch."""


def trained(config: CNNConfig, images: Labelled, classes: tuple[str, ...], epochs: int) -> Network:
    """A network with the weights of each epoch; its `DEAD` filters are silent and collapsed at the last one."""
    side = images.images.shape[-1]
    model = build_model(config, classes=len(classes), seed=0, side=side)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    weights = [{name: values.clone() for name, values in model.state_dict().items()}]
    for _ in range(epochs):
        for _ in range(4):
            optimiser.zero_grad()
            functional.cross_entropy(model(normalise(images.images)), images.labels % len(classes)).backward()
            optimiser.step()
        weights.append({name: values.clone() for name, values in model.state_dict().items()})
    if epochs:
        for layer, number in DEAD.items():
            weights[-1][f"{layer}.weight"][number] *= 1e-30
            weights[-1][f"{layer}.bias"][number] = -0.01
    run = Run("0" * 32, "a run", "FINISHED", "0", 0, {"dataset": "digits"}, {"image_size": str(side)}, {})
    return Network(
        run=run,
        store=None,  # type: ignore[arg-type]
        config=TrainConfig(model=config, learning_rate=3e-3, weight_decay=0.0, epochs=max(epochs, 1)),
        classes=classes,
        history=pd.DataFrame({"epoch": range(epochs + 1), "test_accuracy": np.linspace(0.1, 0.7, epochs + 1)}),
        predictions={},
        files=dict.fromkeys(range(epochs + 1), ""),
        _pulled=dict(enumerate(weights)),
    )


def chosen(images: Labelled, count: int, classes: tuple[str, ...]) -> list[SelectedImage]:
    """Every third image, `count` of them."""
    labels = [int(label) % len(classes) for label in images.labels]
    return [
        SelectedImage(images.images[place], labels[place], f"{classes[labels[place]]}, test:{place}")
        for place in range(0, count * 3, 3)
    ]


@dataclass(frozen=True)
class Expected:
    """Expected colours of maps and kernels, by torch and matplotlib; all epochs and images share the colour limits."""

    network: Network
    images: list[SelectedImage]
    activations: dict[int, dict[str, np.ndarray]]
    """By epoch and name of the map."""

    @classmethod
    def of(cls, network: Network, images: list[SelectedImage]) -> "Expected":
        pixels = torch.stack([image.image for image in images])
        return cls(network, images, {epoch: network.activations(epoch, pixels) for epoch in network.files})

    def map(self, name: str, filter: int, epoch: int, image: int) -> np.ndarray:
        everywhere = np.stack([maps[name][:, filter] for maps in self.activations.values()])
        limits, cmap = scale(name, everywhere)
        return _colours(self.activations[epoch][name][image, filter], limits, cmap)

    def kernel(self, layer: str, filter: int, epoch: int) -> np.ndarray:
        """(C, k, k, 3)."""
        everywhere = np.stack([self.network.weights(e)[f"{layer}.weight"][filter].numpy() for e in self.network.files])
        kernel = self.network.weights(epoch)[f"{layer}.weight"][filter].numpy()
        return _colours(kernel, style.limits_around_zero(everywhere), style.DIVERGING)


def _colours(values: np.ndarray, limits: style.Limits, cmap: str) -> np.ndarray:
    return matplotlib.colormaps[cmap](matplotlib.colors.Normalize(*limits)(values), bytes=True)[..., :3]
