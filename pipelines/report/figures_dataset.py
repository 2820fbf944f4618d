"""The part of the analysis about what goes in: the data, the image under study, the layers, and what they do."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch

from analysis.drawing.wording import listed
from analysis.exhibit import Exhibit
from analysis.images import covariance, samples
from analysis.inside import kernels
from analysis.layers import operations, worked_example
from pipelines.report.network import Network
from study.config import CNNConfig
from study.data import Dataset, SelectedImage, normalise
from study.probes.convolution import EDGES, convolve, liveliest, rectify_and_pool
from study.probes.layer_table import architecture

PATCH = 8
"""Pixels: the side of the patch whose numbers are written out."""
GREEN = 1
"""The channel that the patch is of: the one that brightness depends on most."""
SETTINGS = (1, 2, 3)
"""The dilations and the strides that are compared."""
POOL = 2
ARCHITECTURE_COLUMNS = {"what": "what it does", "equation_2": "side by equation 2"}
"""Of the table of layers, as they are read."""
PLACES = [(0, 0), (0, 1), (5, 5)]
"""Of the patch's map: the first, its neighbour, the last."""


def _patch(image: SelectedImage) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """The channel (1, H, W), the patch of it (1, h, w), and the patch's first row and column."""
    channel = image.image[GREEN]
    top, left = liveliest(channel, PATCH)
    return channel[None], channel[None, top : top + PATCH, left : left + PATCH], (top, left)


def show_convolution(image: SelectedImage) -> Iterator[Exhibit]:
    """What a convolution does, on a patch of the image."""
    channel, patch, corner = _patch(image)
    made = convolve(patch, EDGES[None])
    panels = {"patch": patch[0].numpy(), "kernel": EDGES.numpy(), "map": made.map}
    for count, place in enumerate(PLACES, start=1):
        panels |= {f"window {count}": made.windows[place][0], f"products {count}": made.products[place][0]}
    table = operations.tabulate(panels | {"whole map": convolve(channel, EDGES[None]).map})
    figure = operations.draw_convolution(table, image=image.pixels, corner=corner, places=PLACES)
    text = operations.convolution_caption(table, corner)
    yield Exhibit("concept_convolution", "What a convolution does (Figure 1)", text, table, figure)


def show_padding(image: SelectedImage) -> Iterator[Exhibit]:
    """What padding does."""
    _, patch, _ = _patch(image)
    panels = {"kernel": EDGES.numpy()}
    for padding in (0, 1):
        made = convolve(patch, EDGES[None], padding=padding)
        panels |= {f"input, padding {padding}": made.padded[0], f"map, padding {padding}": made.map}
    table = operations.tabulate(panels)
    figure = operations.draw_padding(table)
    text = operations.padding_caption(table)
    heading = "What padding does (Figure 2)"
    yield Exhibit("concept_padding", heading, text, table, figure, note=operations.PADDING_NOTE)


def show_setting(image: SelectedImage, what: str) -> Iterator[Exhibit]:
    """The figure about dilation or stride."""
    channel, patch, _ = _patch(image)
    panels = {"patch": patch[0].numpy(), "kernel": EDGES.numpy()}
    for setting in SETTINGS:
        shape = {what: setting}
        panels[f"map, {what} {setting}"] = convolve(patch, EDGES[None], **shape).map
        panels[f"whole map, {what} {setting}"] = convolve(channel, EDGES[None], **shape).map
    table = operations.tabulate(panels)
    figure = operations.draw_dilation(table) if what == "dilation" else operations.draw_stride(table)
    heading = f"What {what} does" + (" (Figure 3)" if what == "dilation" else "")
    yield Exhibit(f"concept_{what}", heading, operations.sizes_caption(table, what), table, figure)


def show_pooling(image: SelectedImage) -> Iterator[Exhibit]:
    """What max pooling does."""
    whole = convolve(image.image[GREEN][None], EDGES[None]).map
    rectified, pooled, _ = rectify_and_pool(whole, POOL)
    panels = {"whole map": whole, "whole ReLU": rectified, "whole pooled": pooled}
    # Another patch than before: the one with the most to be seen in it after ReLU.
    top, left = liveliest(torch.from_numpy(rectified), PATCH)
    piece = whole[top : top + PATCH, left : left + PATCH].copy()
    rectified, pooled, places = rectify_and_pool(piece, POOL)
    kept = np.zeros(piece.shape)
    kept[*places.reshape(-1, 2).T] = pooled.ravel() > 0
    panels |= {"map": piece, "ReLU": rectified, "pooled": pooled, "kept": kept}
    table = operations.tabulate(panels)
    figure = operations.draw_pooling(table, size=POOL)
    text = operations.pooling_caption(table)
    yield Exhibit("concept_pooling", "What max pooling does (Figure 4)", text, table, figure)


def show_samples(data: Dataset) -> Iterator[Exhibit]:
    """Images of each class."""
    labels = data.train.labels.numpy()
    table = samples.class_samples(labels, data.classes)
    images = [data.train.images[index].permute(1, 2, 0).numpy() for index in table["index"]]
    text = samples.samples_caption(table, labels, data.classes)
    yield Exhibit("samples", "Images of each class (Figure 5)", text, table, samples.draw_samples(table, images))


def show_covariance(data: Dataset) -> Iterator[Exhibit]:
    """Two figures of one computation, which takes the longest here."""
    rows = torch.from_numpy(covariance.choose(len(data.train)))
    images = data.train.subset(rows).images.contiguous().numpy()
    matrix, shape = covariance.covariance(images), images.shape[1:]
    table = covariance.by_distance(matrix, shape)
    text, figure = covariance.covariance_caption(matrix, table, len(images)), covariance.draw_covariance(matrix, shape)
    heading = "The covariance of all pixels (Figure 6)"
    yield Exhibit("covariance", heading, text, table, figure, note=covariance.COVARIANCE_NOTE)
    text, figure = covariance.distance_caption(table), covariance.draw_distance(table)
    heading, points = "Correlation against distance and between channels", covariance.distance_points(table)
    yield Exhibit("correlation", heading, text, table, figure, points=points)


def show_image(image: SelectedImage) -> Iterator[Exhibit]:
    """The image under study, by channel."""
    table = samples.image_table(image.pixels)
    text = samples.image_caption(table, image.description)
    yield Exhibit("image", "The image under study (Figure 8)", text, table, samples.draw_image(image.pixels))


def show_sheet(network: Network) -> Iterator[Exhibit]:
    """All kernels of the first convolution, in colour."""
    epoch = max(network.files)
    table = kernels.layer_weights(network.weights(epoch)["conv1.weight"].numpy())
    figure = kernels.draw_kernel_sheet(table, title=f"All kernels of conv1 at epoch {epoch}")
    text = kernels.sheet_caption(table, "conv1", epoch)
    heading = "All kernels of conv1 in colour"
    yield Exhibit("kernels_conv1", heading, text, table, figure, note=kernels.SHEET_NOTE)


def show_architecture(networks: Mapping[str, Network]) -> Iterator[Exhibit]:
    """The layers of each network, as a table."""
    tables = [architecture(network.config.model, classes=len(network.classes)) for network in networks.values()]
    totals = [f"the {name.upper()} has {one['parameters'].sum():,}" for name, one in zip(networks, tables, strict=True)]
    text, note = f"Of parameters {listed(totals)}.", "Sizes are of one image, channels × height × width."
    table = pd.concat(tables, ignore_index=True)
    shown = table.assign(model=table["model"].str.upper()).rename(columns=ARCHITECTURE_COLUMNS)
    yield Exhibit("architecture", "The layers (Table 1)", text, table, shown=shown, note=note)


def show_worked(network: Network, number: int, image: SelectedImage) -> Iterator[Exhibit]:
    """One value of a feature map, worked out."""
    config, weights = network.config.model, network.weights(max(network.files))
    assert isinstance(config, CNNConfig)
    kernel, bias = weights["conv1.weight"][number], float(weights["conv1.bias"][number])
    shape = {"padding": config.padding, "stride": config.stride, "dilation": config.dilation}
    made = convolve(normalise(image.image), kernel, bias, **shape)
    row, column = divmod(int(made.map.argmax()), made.map.shape[1])
    place = row, column
    reach = config.dilation * (config.kernel - 1) + 1
    box = [row * config.stride - config.padding, column * config.stride - config.padding, reach, reach]
    panels = worked_example.panels(made.windows[place], kernel.numpy(), made.products[place], made.map)
    table = operations.tabulate(panels)
    title = f"Filter {number} of conv1"
    figure = worked_example.draw_worked(table, image=image.pixels, box=box, place=place, bias=bias, title=title)
    text = worked_example.caption(table, filter=number, place=place, bias=bias)
    yield Exhibit(f"worked_conv1_filter{number}", "One value of a feature map, worked out", text, table, figure)


def show_mosaic(network: Network) -> Iterator[Exhibit]:
    """All kernels of the second convolution."""
    epoch = max(network.files)
    table = kernels.layer_weights(network.weights(epoch)["conv2.weight"].numpy())
    figure = kernels.draw_kernel_mosaic(table, title=f"All kernels of conv2 at epoch {epoch}")
    text = kernels.mosaic_caption(table, "conv2", epoch)
    yield Exhibit("kernels_conv2", "All kernels of conv2", text, table, figure, note=kernels.MOSAIC_NOTE)
