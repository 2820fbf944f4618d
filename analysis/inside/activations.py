"""Feature maps of one image: one filter's over the epochs (the report's Figures 10–12), and all filters' at one."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.epoch_strips import draw_strips
from analysis.drawing.style import scale
from analysis.drawing.wording import layer_name, measured, with_minus
from analysis.exhibit import Exhibit

Maps = dict[str, dict[int, np.ndarray]]
"""One filter's maps (H, W), by layer and epoch."""


def show_evolution(
    maps: Maps, layer: str, filter: int, *, image: np.ndarray, description: str, per_map: bool = False
) -> Exhibit:
    """The maps of one filter of the convolution `layer` over the epochs, for an image (H, W, 3) of bytes."""
    table = activation_evolution(maps)
    title = f"Filter {filter} of {layer} on {description}"
    figure = draw_activation_evolution(table, image=image, title=title, per_map=per_map)
    heading = f"Feature map, ReLU and max pooling of {layer}" + (" (Figures 10–12)" if layer == "conv1" else "")
    return Exhibit(f"maps_{layer}_filter{filter}", heading, caption(table), table, figure)


def show_grid(maps: np.ndarray, layer: str, epoch: int, *, description: str, per_map: bool = False) -> Exhibit:
    """The maps (filters, H, W) of all filters of a layer at one epoch, for the image described."""
    table = activation_grid(maps)
    title = f"All maps, {layer_name(layer)}, on {description}, epoch {epoch}"
    figure, text = (
        draw_activation_grid(table, layer=layer, title=title, per_map=per_map),
        grid_caption(table, layer, epoch),
    )
    return Exhibit(f"grid_{layer}", f"All maps: {layer_name(layer)}", text, table, figure)


def activation_evolution(maps: Maps) -> pd.DataFrame:
    """One filter's maps as a tidy table: layer, epoch, row, column, value.

    The layers keep their order, the epochs are sorted.
    """
    parts = [_tidy(by_epoch[epoch]).assign(layer=layer, epoch=epoch) for layer, by_epoch in maps.items()
             for epoch in sorted(by_epoch)]  # fmt: skip
    return pd.concat(parts, ignore_index=True)[["layer", "epoch", "row", "column", "value"]]


def activation_grid(maps: np.ndarray) -> pd.DataFrame:
    """The maps (filters, H, W) of one layer as a tidy table: filter, row, column, value."""
    parts = [_tidy(values).assign(filter=number) for number, values in enumerate(maps)]
    return pd.concat(parts, ignore_index=True)[["filter", "row", "column", "value"]]


def _tidy(values: np.ndarray) -> pd.DataFrame:
    rows, columns = np.indices(values.shape)
    return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), "value": values.ravel()})


def _map(part: pd.DataFrame) -> np.ndarray:
    return part.pivot(index="row", columns="column", values="value").to_numpy(float)


def caption(table: pd.DataFrame) -> str:
    """One sentence: the range of each layer's map at its last epoch, and how much of it is zero."""
    phrases = []
    for layer, part in table.groupby("layer", sort=False):
        last = part.loc[part["epoch"] == part["epoch"].max(), "value"]
        zero = f" ({(last == 0).mean():.0%} zero)" if str(layer).startswith(("relu", "pool")) else ""
        low, high = (with_minus(f"{value:.2g}") for value in (last.min(), last.max()))
        phrases.append(f"{layer_name(str(layer))} from {low} to {high}{zero}")
    return f"At epoch {table['epoch'].max()} the values span: {', '.join(phrases)}."


def draw_activation_evolution(
    table: pd.DataFrame, *, image: np.ndarray | None, title: str, per_map: bool = False
) -> Figure:
    """A row for each layer and a column for each epoch, beside the image (H, W, 3) of bytes.

    Each row has one scale for all epochs, which shows a map fade. With `per_map` each map is scaled to its own largest
    value instead, which shows the structure of faint maps.
    """
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    scales = {layer: scale(layer, part["value"].to_numpy(float)) for layer, part in layers.items()}
    maps = {
        (layer, epoch): _map(part[part["epoch"] == epoch])
        for layer, part in layers.items()
        for epoch in part["epoch"].unique().tolist()
    }
    labels = {layer: measured(layer) for layer in layers}
    if per_map:
        maps = {(layer, epoch): _normalised(values, scales[layer][0]) for (layer, epoch), values in maps.items()}
        scales = {layer: _normalised_scale(kind) for layer, kind in scales.items()}
        labels, title = dict.fromkeys(layers, "share of the largest"), f"{title}; {_EACH}"
    return draw_strips(
        {(layer_name(layer), epoch): values for (layer, epoch), values in maps.items()},
        {layer_name(layer): kind for layer, kind in scales.items()},
        labels={layer_name(layer): label for layer, label in labels.items()},
        title=title,
        image=image,
    )


_EACH = "each map on its own scale"


def _normalised(values: np.ndarray, limits: style.Limits) -> np.ndarray:
    """The map divided by its largest absolute value."""
    # A map that is flat on the shared scale holds only rounding errors: it is not stretched.
    flat = style.flat_label(values, limits) != ""
    return values / (limits[1] if flat else np.abs(values).max())


def _normalised_scale(kind: style.Scale) -> style.Scale:
    limits, cmap = kind
    return (-1.0 if limits[0] < 0 else 0.0, 1.0), cmap


def grid_caption(table: pd.DataFrame, layer: str, epoch: int) -> str:
    """One sentence: how many of a layer's maps are zero or constant."""
    flat = _flat(table, layer)
    silent = sum(label == "all 0" for label in flat.values())
    constant = sum(label != "" for label in flat.values()) - silent
    return f"{len(flat)} maps, {layer_name(layer)}, at epoch {epoch}: {silent} zero throughout, {constant} constant."


def _flat(table: pd.DataFrame, layer: str) -> dict[int, str]:
    limits, _ = scale(layer, table["value"].to_numpy(float))
    groups = table.groupby("filter")["value"]
    return {int(str(number)): style.flat_label(values.to_numpy(float), limits) for number, values in groups}


@style.styled
def draw_activation_grid(table: pd.DataFrame, *, layer: str, title: str, per_map: bool = False) -> Figure:
    """The maps of all filters of a layer, numbered, on one scale; constant maps are labelled.

    With `per_map` each map is scaled to its own largest value instead.
    """
    numbers = sorted(table["filter"].unique())
    columns = min(len(numbers), 8 if len(numbers) <= 32 else 16)
    rows = math.ceil(len(numbers) / columns)
    side = min(1.1, (style.WIDTH - 1) / columns)
    figure = style.figure(max(4.5, 1 + columns * side), 0.3 + rows * (side + 0.17), compress=True)
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[*[1.0] * columns, 0.16])
    limits, cmap = scale(layer, table["value"].to_numpy(float))
    maps = {number: _map(table[table["filter"] == number]) for number in numbers}
    label = measured(layer)
    if per_map:
        maps = {number: _normalised(values, limits) for number, values in maps.items()}
        (limits, cmap), title, label = _normalised_scale((limits, cmap)), f"{title}; {_EACH}", "share of the largest"
    axes = [figure.add_subplot(grid[divmod(place, columns)]) for place in range(len(numbers))]
    for ax, number in zip(axes, numbers, strict=True):
        style.panel(ax, maps[number], limits, cmap)
        ax.set_title(str(number), fontsize=7, loc="left", pad=2)
    bar = figure.add_subplot(grid[:, -1])
    style.fill_colour_bar(bar, limits, cmap, label, cax=bar)
    style.head(figure, title)
    return figure
