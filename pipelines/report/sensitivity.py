"""Measures how the networks' answers bear changes of the test images; the results are cached."""

from collections.abc import Callable, Mapping

import pandas as pd
import torch

from analysis.exhibit import Exhibit, joined
from analysis.explanations import sensitivity
from pipelines.report.cache import Cache, fingerprint
from pipelines.report.measurements import FORWARD
from pipelines.report.network import Network
from study.config import CNNConfig
from study.images import Labelled
from study.models import CNN, Model
from study.probes import activity, influence
from study.probes import sensitivity as probe

SAMPLED = 500
"""Test images, as many of each class, that are changed; 15 s of one core for a CNN (AMD EPYC), a second for an FFNN."""
COMPARED = 200
"""Of these, the images whose maps are compared."""


def show(networks: Mapping[str, Network], test: Labelled, device: torch.device, cache: Cache) -> Exhibit:
    """How the answers of the networks, by model, bear changes of the test images."""
    images = test.subset(activity.stratified_rows(test.labels, SAMPLED))
    with_weights = {name: network for name, network in networks.items() if network.files}
    changes, epochs = {}, {}
    for name, network in with_weights.items():
        changes[name] = _measured(probe.sensitivity, network, network.last, images, device, cache)
        epochs[name] = pd.concat(
            [
                _measured(probe.reference_sensitivity, network, epoch, images, device, cache).assign(epoch=epoch)
                for epoch in influence.checkpoint_epochs(network.epochs(1))
            ]
        )
    maps = _maps(with_weights["cnn"], images, device, cache) if "cnn" in with_weights else pd.DataFrame()
    return sensitivity.show(joined(changes), joined(epochs), maps)


def _measured(
    measure: Callable[[Model, Labelled], pd.DataFrame],
    network: Network,
    epoch: int,
    images: Labelled,
    device: torch.device,
    cache: Cache,
) -> pd.DataFrame:
    inputs = [measure.__name__, fingerprint(*network.weights(epoch).values(), images.images, images.labels)]
    settings = [str(network.config.model), str(device)]
    model = network.model(epoch).to(device)
    return cache.table("sensitivity", [*inputs, *settings], [probe, *FORWARD], lambda: measure(model, images))


def _maps(network: Network, images: Labelled, device: torch.device, cache: Cache) -> pd.DataFrame:
    def measure(model: Model, chosen: Labelled) -> pd.DataFrame:
        config = network.config.model
        assert isinstance(model, CNN)
        assert isinstance(config, CNNConfig)
        return probe.map_shifts(model, config, chosen)

    fewer = images.subset(activity.stratified_rows(images.labels, COMPARED))
    return _measured(measure, network, network.last, fewer, device, cache)
