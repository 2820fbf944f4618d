"""The steps of `study analyse` about all filters at once: which are alive, and when their weights settled.

Activity takes nearly all the time: 44 s of one core's for 19 epochs of a CNN on 10,000 images (AMD EPYC, float32).
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict

import pandas as pd
import torch

from analysis.exhibit import Exhibit
from analysis.filters import health as filters
from analysis.filters import kernel_convergence
from pipelines.report.network import Network
from study.images import Labelled
from study.models import Model
from study.probes import activity as health
from study.training import evaluate

SAMPLED = 1000
"""Test images on which activity is measured; silence is tested on all of them."""


def _model(network: Network, epoch: int, device: torch.device) -> Model:
    return network.model(epoch).to(device).to(memory_format=torch.channels_last)


def _weights(network: Network) -> filters.ByEpoch:
    """The weights of every layer, (filters, …), by epoch."""
    epochs = network.epochs(1)
    layers = [name.removesuffix(".weight") for name in network.weights(epochs[0]) if name.endswith(".weight")]
    return {layer: {epoch: network.weights(epoch)[f"{layer}.weight"].numpy() for epoch in epochs} for layer in layers}


def activity_table(network: Network, test: Labelled, device: torch.device) -> pd.DataFrame:
    """How active each filter is at every epoch, and how large its weights are."""
    rows = health.stratified_rows(test.labels, SAMPLED)
    images = test.channels_last().images
    activity = {epoch: health.activity(_model(network, epoch, device), images, rows) for epoch in network.epochs(1)}
    layers = activity[max(activity)]
    weights = {layer: by_epoch for layer, by_epoch in _weights(network).items() if layer in layers}
    found = {layer: {epoch: asdict(activity[epoch][layer]) for epoch in activity} for layer in layers}
    return filters.filter_health(weights, found)


def show_health(
    network: Network, test: Labelled, device: torch.device, table: Callable[[], pd.DataFrame]
) -> Iterator[Exhibit]:
    """Which filters are alive."""
    found = table()
    dead = filters.dead_filters(found)
    model = _model(network, max(network.files), device)
    removed = filters.removal_caption(
        filters=sum(map(len, dead.values())),
        accuracy=evaluate(model, test)[1],
        accuracy_without=evaluate(health.without(model, dead), test)[1],
        parameters=health.parameters_without(model, {}),
        parameters_without=health.parameters_without(model, dead),
    )
    text, figure = filters.caption(found, len(test)), filters.draw_filter_health(found)
    yield Exhibit("filter_health", "Which filters are alive", text, found, figure, points=[removed])


def show_kernel_convergence(network: Network, table: Callable[[], pd.DataFrame]) -> Iterator[Exhibit]:
    """When the kernels settle."""
    found = kernel_convergence.kernel_convergence(_weights(network), table())
    figure = kernel_convergence.draw_kernel_convergence(found)
    text, points = kernel_convergence.caption(found), kernel_convergence.points(found)
    yield Exhibit("kernel_convergence", "When the kernels settle", text, found, figure, points=points)
