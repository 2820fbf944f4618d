"""Measures how the networks' answers bear changes of the test images; the results are cached."""

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import nn

from analysis.exhibit import Exhibit, joined
from analysis.explanations import sensitivity
from pipelines.report.cache import Cache, fingerprint
from pipelines.report.measurements import FORWARD
from pipelines.report.network import Network
from study.architectures import CNNConfig
from study.images import Labelled
from study.models import CNN
from study.probes import activity, influence
from study.probes import sensitivity as probe

SAMPLED = 500
"""Test images, as many of each class, that are changed; 15 s of one core for a CNN (AMD EPYC), a second for an FFNN."""
LARGE, FEW = 1_000_000, 50
"""Number of weights of a network above which a CPU is given this many images: a minute of two cores for a ResNet-18."""
COMPARED = 200
"""Of these, the images whose maps are compared."""


def show(networks: Mapping[str, Network], test: Labelled, device: torch.device, cache: Cache) -> Exhibit:
    """How the answers of the networks, by model, bear changes of the test images."""
    with_weights = {name: network for name, network in networks.items() if network.files}
    changes, epochs = {}, {}
    for name, network in with_weights.items():
        images = _sample(network, test, device)
        changes[name] = _measured(probe.sensitivity, network, network.last, images, device, cache)
        epochs[name] = pd.concat(
            [
                _measured(probe.reference_sensitivity, network, epoch, images, device, cache).assign(epoch=epoch)
                for epoch in influence.checkpoint_epochs(network.epochs(1))
            ]
        )
    cnn = with_weights.get("cnn")
    maps = _maps(cnn, _sample(cnn, test, device), device, cache) if cnn else pd.DataFrame()
    return sensitivity.show(joined(changes), joined(epochs), maps)


def _sample(network: Network, test: Labelled, device: torch.device) -> Labelled:
    weights = sum(tensor.numel() for tensor in network.weights(network.last).values())
    is_slow = weights > LARGE and device.type == "cpu"
    return test.subset(activity.stratified_rows(test.labels, FEW if is_slow else SAMPLED))


def _measured(
    measure: Callable[[nn.Module, Labelled], pd.DataFrame],
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
    def measure(model: nn.Module, chosen: Labelled) -> pd.DataFrame:
        config = network.config.model
        assert isinstance(model, CNN)
        assert isinstance(config, CNNConfig)
        return probe.map_shifts(model, config, chosen)

    fewer = images.subset(activity.stratified_rows(images.labels, COMPARED))
    return _measured(measure, network, network.last, fewer, device, cache)
