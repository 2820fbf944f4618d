"""The part of the analysis that follows a filter's kernel and maps over the epochs, and shows all maps of the last."""

from collections.abc import Iterable, Iterator

import pandas as pd

from analysis.drawing.wording import layer_name
from analysis.exhibit import Exhibit
from analysis.explorer.page import MAPS
from analysis.inside import activations, kernels
from pipelines.report.network import Network
from study.data import SelectedImage


def kernel_table(network: Network, layer: str, number: int, epochs: Iterable[int]) -> pd.DataFrame:
    """The kernel of a filter at these epochs, see `analysis.inside.kernels`."""
    weights = {epoch: network.weights(epoch)[f"{layer}.weight"].numpy() for epoch in epochs}
    return kernels.kernel_evolution(weights, number)


def map_table(network: Network, layer: str, number: int, epochs: Iterable[int], image: SelectedImage) -> pd.DataFrame:
    """What a filter made of `image` at these epochs, see `analysis.inside.activations`."""
    maps = {epoch: network.maps(epoch, image) for epoch in epochs}
    return activations.activation_evolution(
        {name: {epoch: made[name][number] for epoch, made in maps.items()} for name in MAPS[layer]}
    )


def show_kernel(network: Network, layer: str, number: int, epochs: Iterable[int]) -> Iterator[Exhibit]:
    """How the kernel of a filter forms over the epochs."""
    table = kernel_table(network, layer, number, epochs)
    figure = kernels.draw_kernel_evolution(table, layer=layer, filter=number)
    heading = f"How a kernel of {layer} forms" + (" (Figure 9)" if layer == "conv1" else "")
    text, note = kernels.caption(table, layer, number), kernels.note(table, _inputs(network, layer))
    yield Exhibit(f"kernel_{layer}_filter{number}", heading, text, table, figure, note=note)


def _inputs(network: Network, layer: str) -> int:
    return network.weights(max(network.files))[f"{layer}.weight"].shape[1]


def show_maps(
    network: Network, layer: str, number: int, epochs: Iterable[int], image: SelectedImage, per_map: bool
) -> Iterator[Exhibit]:
    """What a filter makes of the image over the epochs."""
    table = map_table(network, layer, number, epochs, image)
    title = f"Filter {number} of {layer} on {image.description}"
    figure = activations.draw_activation_evolution(table, image=image.pixels, title=title, per_map=per_map)
    heading = f"Feature map, ReLU and max pooling of {layer}" + (" (Figures 10–12)" if layer == "conv1" else "")
    yield Exhibit(f"maps_{layer}_filter{number}", heading, activations.caption(table), table, figure)


def show_grid(network: Network, name: str, image: SelectedImage, per_map: bool) -> Iterator[Exhibit]:
    """All maps of the layer `name` at the last epoch."""
    epoch = max(network.files)
    table = activations.activation_grid(network.maps(epoch, image)[name])
    title = f"All maps, {layer_name(name)}, on {image.description}, epoch {epoch}"
    figure = activations.draw_activation_grid(table, layer=name, title=title, per_map=per_map)
    text = activations.grid_caption(table, name, epoch)
    yield Exhibit(f"grid_{name}", f"All maps: {layer_name(name)}", text, table, figure)
