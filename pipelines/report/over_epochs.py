"""Compares the epochs of a CNN: its layers' maps, its answers, and the reasons for that to one image; cached."""

import numpy as np
import torch

from analysis.exhibit import Exhibit
from analysis.explanations import over_epochs
from pipelines.report.cache import Cache, fingerprint
from pipelines.report.explanations import cnn
from pipelines.report.measurements import FORWARD
from pipelines.report.network import Network
from study.data import Dataset
from study.probes import activity, attributions, circuit, margins, similarity, twin
from study.selection import SelectedImage

SAMPLED = 500
"""Test images, as many of each class, whose maps are compared."""
BACKGROUND = 20
"""Background images of the reasons; 31 epochs take about 20 s of one core's time (Intel Xeon)."""
CODE = (similarity, circuit, attributions, margins, twin, *FORWARD)


def show(network: Network, dataset: Dataset, image: SelectedImage, pair: tuple[int, int], cache: Cache) -> Exhibit:
    """When the layers settle, and when the reasons do for the margin that `image` has of one class over another."""
    sample = dataset.test.subset(activity.stratified_rows(dataset.test.labels, SAMPLED)).images
    background, epochs = circuit.background(dataset.train, BACKGROUND), network.epochs(1)
    weights = [tensor for epoch in epochs for tensor in network.weights(epoch).values()]
    settings = [str(network.config.model), epochs]
    similar = cache.table(
        "similarity",
        [fingerprint(*weights, sample), *settings],
        CODE,
        lambda: similarity.layer_similarity(
            {epoch: similarity.layers(cnn(network, epoch), sample) for epoch in epochs}
        ),
    )
    a, b = pair
    reasons = cache.arrays(
        "reasons",
        [fingerprint(*weights, image.image, background), *settings, a, b],
        CODE,
        lambda: _reasons(network, epochs, image, (a, b), background),
    )
    return over_epochs.show(
        similar,
        reasons["margins"].tolist(),
        reasons["shares"],
        reasons["pixels"],
        description=image.description,
        classes=(network.classes[a], network.classes[b]),
    )


def _reasons(
    network: Network, epochs: list[int], image: SelectedImage, pair: tuple[int, int], background: torch.Tensor
) -> dict[str, np.ndarray]:
    rows = [similarity.reasons(cnn(network, epoch), image.image, *pair, background) for epoch in epochs]
    margins, shares, pixels = (np.stack(values) for values in zip(*rows, strict=True))
    return {"margins": margins, "shares": shares, "pixels": pixels}
