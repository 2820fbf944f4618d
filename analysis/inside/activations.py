"""Feature maps of one image: one filter's over the epochs (the report's Figures 10–12), and all filters' at one."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style, tiles
from analysis.drawing.epoch_strips import ByEpoch, common_scale, epoch_numbers, without_empty_end
from analysis.drawing.filter_rows import MOST_DRAWN, cut, fitting, named
from analysis.drawing.maps import faint_label, flat_label
from analysis.drawing.screens import is_narrow
from analysis.drawing.style import scale
from analysis.drawing.tiles import BAR, GAP, LINE, MARGIN
from analysis.drawing.wording import are, layer_name, listed, measured, minus_signs
from analysis.exhibit import Exhibit

Maps = Mapping[str, ByEpoch]
"""One filter's maps (H, W), by layer and epoch."""
COLUMNS, NARROW_COLUMNS = 8, 3
"""Epochs side by side: two rows for the report's 0, 2, …, 30; and on a narrow screen."""
SIDE, NARROW_SIDE = 0.94, 0.85
"""Side in inches of the tile of a map over the epochs."""
LARGEST, LOWEST = 1.4, 1.3
"""Inches from map to map in a grid, at most; and the least height of a grid, for the label of its scale."""
ROW, HEADING = LINE + 0.06, 0.25
"""Height in inches of a row of tiles with their titles, without the tiles, and of the heading over a block of them."""
REPORT = {"conv1": "Figure 10", "relu1": "Figure 11", "pool1": "Figure 12"}
"""The report's figures, by layer."""


def show_evolution(
    maps: Maps, layer: str, filter: int, *, image: np.ndarray, description: str, followed: str = ""
) -> Iterator[Exhibit]:
    """The maps of one filter of the convolution `layer` over the epochs: a figure of each kind of map.

    The kinds of which nothing can be seen after the first epoch share one line.

    Args:
        maps: the filter's feature map, and what ReLU and pooling make of it.
        layer: the convolution's name.
        filter: the filter's number.
        image: (H, W, 3), bytes.
        description: which image it is.
        followed: a sentence on why this filter is followed.
    """
    empty: dict[str, pd.DataFrame] = {}
    for name, by_epoch in maps.items():
        table = activation_evolution({name: by_epoch})
        title = f"Filter {filter} of {layer} on {description}: {layer_name(name)}"
        figure = draw_activation_evolution(table, image=image, title=title)
        if figure is None:
            empty[name] = table
            continue
        heading = f"Filter {filter} of {layer}: {layer_name(name)}" + (f", as {REPORT[name]}" if name in REPORT else "")
        about = " ".join(text for text in (followed if name == layer else "", _faint_note(by_epoch, name)) if text)
        yield Exhibit(f"maps_{name}_filter{filter}", heading, caption(table), table, figure, note=about)
    if empty:
        kinds = listed([layer_name(name) for name in empty])
        heading = f"Filter {filter} of {layer}: {kinds}"
        yield Exhibit(
            f"maps_{next(iter(empty))}_filter{filter}",
            heading,
            empty_caption(empty, description),
            tables={f"maps_{name}_filter{filter}": table for name, table in empty.items()},
        )


def _faint_note(by_epoch: ByEpoch, layer: str) -> str:
    """What the number over a faint map is; empty where no map is faint."""
    limits = _limits(layer, by_epoch)
    drawn, _ = without_empty_end(by_epoch, limits)
    seen = [by_epoch[epoch] for epoch in drawn if not flat_label(by_epoch[epoch], limits)]
    faint = next(filter(None, (faint_label(values, limits) for values in seen)), "")
    if not faint:
        return ""
    return f"A number over a map, as {faint}, is a bound of values too faint to see on the common scale."


def show_grid(maps: np.ndarray, layer: str, epoch: int, *, description: str, per_map: bool = False) -> Exhibit:
    """The maps (filters, H, W) of all filters of a layer at one epoch, for the image described."""
    table, name = activation_grid(maps[:MOST_DRAWN]), f"grid_{layer}"
    left_out = cut(len(maps))
    title = f"{'Maps' if left_out else 'All maps'}, {layer_name(layer)}, on {description}, epoch {epoch}"
    heading, text = f"All maps: {layer_name(layer)}", grid_caption(table, layer, epoch, per_map=per_map)
    if left_out:
        heading = f"The first {MOST_DRAWN} of {len(maps)} maps: {layer_name(layer)}"
    figure = draw_activation_grid(table, layer=layer, title=title, per_map=per_map)
    if figure is None:
        return Exhibit(name, heading, text, tables={name: table}, note=left_out)
    return Exhibit(name, heading, text, table, figure, note=left_out)


def activation_evolution(maps: Maps) -> pd.DataFrame:
    """One filter's maps as a tidy table: layer, epoch, row, column, value.

    The layers keep their order, the epochs are sorted.
    """
    parts = [_tidy(by_epoch[epoch]).assign(layer=layer, epoch=epoch) for layer, by_epoch in maps.items()
             for epoch in sorted(by_epoch)]  # fmt: skip
    return pd.concat(parts, ignore_index=True)[["layer", "epoch", "row", "column", "value"]]


def activation_grid(maps: np.ndarray) -> pd.DataFrame:
    """The maps (filters, H, W) of one layer as a tidy table: filter, row, column, value."""
    places = np.indices(maps.shape).reshape(3, -1)
    return pd.DataFrame({**dict(zip(("filter", "row", "column"), places, strict=True)), "value": maps.ravel()})


def _tidy(values: np.ndarray) -> pd.DataFrame:
    rows, columns = np.indices(values.shape)
    return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), "value": values.ravel()})


def maps_by(table: pd.DataFrame, key: str) -> dict[int, np.ndarray]:
    """The maps (H, W) by epoch or filter, from a table of one layer in the order of its rows and columns."""
    height, width = (int(table[name].max()) + 1 for name in ("row", "column"))
    groups = table.groupby(key, sort=False)["value"]
    return {int(str(number)): part.to_numpy(float).reshape(height, width) for number, part in groups}


def caption(table: pd.DataFrame) -> str:
    """One sentence: the range of each layer's map at its last epoch, and how much of it is zero, or why it has none."""
    phrases = [_range_phrase(str(layer), maps_by(part, "epoch")) for layer, part in table.groupby("layer", sort=False)]
    return f"At epoch {table['epoch'].max()} {listed(phrases)}."


def _range_phrase(layer: str, by_epoch: ByEpoch) -> str:
    last = by_epoch[max(by_epoch)]
    label = flat_label(last, _limits(layer, by_epoch)).partition("\n")[0]
    is_rectified = layer.startswith(("relu", "pool"))
    name = f"map after {layer_name(layer)}" if is_rectified else layer_name(layer)
    if label:
        return f"the {name} is {FLAT[label]}"
    zero = f" ({(last == 0).mean():.0%} zero)" if is_rectified else ""
    low, high = (minus_signs(f"{value:.2g}") for value in (last.min(), last.max()))
    return f"the {name} goes from {low} to {high}{zero}"


def empty_caption(tables: Mapping[str, pd.DataFrame], description: str) -> str:
    """One sentence: since when nothing can be seen in the maps, which are not drawn therefore."""
    maps = {layer: maps_by(table, "epoch") for layer, table in tables.items()}
    since = max(without_empty_end(by_epoch, _limits(layer, by_epoch))[1] or 0 for layer, by_epoch in maps.items())
    last = max(max(by_epoch) for by_epoch in maps.values())
    when = f"from epoch {since} to epoch {last}" if since < last else f"at epoch {last}"
    why = "they are zero, constant or not finite"
    return f"On {description} nothing can be seen {when}, so these maps are not drawn: {why}."


def _limits(layer: str, by_epoch: ByEpoch) -> style.Limits:
    return common_scale(layer, by_epoch)[0][0]


@style.styled
def draw_activation_evolution(table: pd.DataFrame, *, image: np.ndarray, title: str) -> Figure | None:
    """One filter's maps of one layer, beside the image (H, W, 3) of bytes: on one scale, and each on its own.

    The common scale shows a map fade, and the others the structure of faint maps. Epochs at the end of which nothing
    can be seen share a tile; None if that is so from the second epoch on.
    """
    [layer] = table["layer"].unique()
    by_epoch = maps_by(table, "epoch")
    common, exceeds = common_scale(layer, by_epoch)
    epochs, empty_from = without_empty_end(by_epoch, common[0])
    if not epochs:
        return None
    first, *others = epoch_numbers(epochs, empty_from, max(by_epoch))
    titles = [f"epoch {first}", *others]
    columns, narrow = _columns(len(epochs)), is_narrow()
    side = _side(columns)
    step, row = side + GAP, side + ROW
    left, above = (MARGIN, row) if narrow else (MARGIN + side + 0.2, 0.0)
    height = math.ceil(len(epochs) / columns) * row + HEADING + 0.08
    figure, ax = tiles.sheet(left + columns * step + BAR + MARGIN * (not narrow), above + 2 * height + MARGIN, title)
    tiles.draw_picture(ax, image, MARGIN, LINE if narrow else HEADING + LINE, side, "image")
    own = {epoch: _normalised(values, common[0]) for epoch, values in by_epoch.items()}
    blocks = (
        ("One scale for all epochs", by_epoch, common, measured(layer)),
        ("Each map on its own scale", own, _normalised_scale(common), "share of max"),
    )
    for place, (name, maps, kind, label) in enumerate(blocks):
        top = above + place * height
        ax.text(left, top, name, va="top", fontsize=9, weight="bold", color=style.INK)
        drawn = _draw_block(ax, [maps[epoch] for epoch in epochs], titles, kind, (left, top + HEADING, columns))
        extend = "neither"
        if exceeds and place == 0:
            largest = float(np.abs(by_epoch[epochs[0]]).max())
            tiles.mark(drawn[0], f"beyond the\nscale: {minus_signs(f'{largest:.2g}')}")
            extend = "both" if kind[0][0] < 0 else "max"
        upper, lower = top + HEADING + LINE, top + height - 0.08 - (ROW - LINE)
        tiles.draw_bar(ax, left + columns * step + 0.03, upper, lower - upper, kind, label, extend)
    return figure


def _draw_block(
    ax: Axes, maps: list[np.ndarray], titles: list[str], kind: style.Scale, corner: tuple[float, float, int]
) -> list[tiles.Tile]:
    left, top, columns = corner
    side, drawn = _side(columns), []
    for place, (values, title) in enumerate(zip(maps, titles, strict=True)):
        down, across = divmod(place, columns)
        where = left + across * (side + GAP), top + LINE + down * (side + ROW)
        drawn.append(tiles.draw_tile(ax, values, *where, side, kind, title))
    return drawn


def _columns(epochs: int) -> int:
    """How many epochs are side by side, in the fewest rows of about equal length."""
    rows = math.ceil(epochs / (NARROW_COLUMNS if is_narrow() else COLUMNS))
    return math.ceil(epochs / rows)


def _side(columns: int) -> float:
    """Side of a tile in inches: few columns, and on a wide screen the image beside them, share the width of a row."""
    least, most = (NARROW_SIDE, NARROW_COLUMNS) if is_narrow() else (SIDE, COLUMNS)
    if columns >= most:
        return least
    room = style.page_width() - BAR - 4 * MARGIN
    return min(LARGEST, room / (columns + (not is_narrow())) - GAP)


def _normalised(values: np.ndarray, limits: style.Limits) -> np.ndarray:
    """The map divided by its largest absolute value."""
    # A map that is flat on the shared scale holds only rounding errors: it is not stretched.
    flat = flat_label(values, limits) != ""
    return values / (limits[1] if flat else np.abs(values).max())


def _normalised_scale(kind: style.Scale) -> style.Scale:
    limits, cmap = kind
    return (-1.0 if limits[0] < 0 else 0.0, 1.0), cmap


FLAT = {"all 0": "zero throughout", "≈ 0": "near zero", "constant": "constant", "not": "not finite"}
"""What the maps with these labels are called, see `maps.flat_label`."""
FAINT = "too faint to see"


def unseen_maps(maps: Mapping[int, np.ndarray], layer: str, per_map: bool) -> dict[str, list[int]]:
    """The filters in whose maps there is nothing to see, by what they are called: for picture and sentence alike.

    On a scale of its own a faint map is seen.
    """
    limits, _ = scale(layer, np.stack(list(maps.values())))
    kinds: dict[str, list[int]] = {kind: [] for kind in (*FLAT.values(), FAINT)}
    for number, values in maps.items():
        label = flat_label(values, limits).partition("\n")[0]
        if label:
            kinds[FLAT[label]].append(number)
        elif not per_map and faint_label(values, limits):
            kinds[FAINT].append(number)
    return {kind: filters for kind, filters in kinds.items() if filters}


def grid_caption(table: pd.DataFrame, layer: str, epoch: int, *, per_map: bool = False) -> str:
    """One sentence: how many of a layer's maps are drawn, and how many are zero, near zero, constant or faint."""
    maps = maps_by(table, "filter")
    unseen = unseen_maps(maps, layer, per_map)
    drawn = len(maps) - sum(map(len, unseen.values()))
    counts = [f"{drawn} of {len(maps)} maps {are(drawn)} drawn", *(f"{len(unseen[kind])} {kind}" for kind in unseen)]
    return f"At epoch {epoch}, {', '.join(counts)}."


@style.styled
def draw_activation_grid(table: pd.DataFrame, *, layer: str, title: str, per_map: bool = False) -> Figure | None:
    """The maps of a layer in which there is something to see, numbered, on one scale; the others are named.

    With `per_map` each map is scaled to its own largest value instead. None if there is no such map.
    """
    maps = maps_by(table, "filter")
    unseen = unseen_maps(maps, layer, per_map)
    limits, cmap = scale(layer, table["value"].to_numpy(float))
    left_out = {number for numbers in unseen.values() for number in numbers}
    shown = {number: values for number, values in maps.items() if number not in left_out}
    if not shown:
        return None
    kind, label = (limits, cmap), measured(layer)
    if per_map:
        shown = {number: _normalised(values, limits) for number, values in shown.items()}
        kind, title, label = _normalised_scale(kind), f"{title}; each map on its own scale", "share of max"
    most = fitting(2 * COLUMNS) if is_narrow() or len(shown) > 4 * COLUMNS else COLUMNS
    rows = math.ceil(len(shown) / most)
    columns = math.ceil(len(shown) / rows)
    margins = (3 if is_narrow() else 2) * MARGIN
    step = min(LARGEST, (style.page_width() - margins - BAR) / columns)
    below = max(rows * (step + LINE) + MARGIN, LOWEST if is_narrow() else 0.0)
    lines = "\n".join(named(numbers, what) for what, numbers in unseen.items())
    height = below + (LINE * (lines.count("\n") + 1) if lines else 0)
    width = style.page_width() if lines else margins + columns * step + BAR
    figure, ax = tiles.sheet(width, height, title)
    for place, (number, values) in enumerate(shown.items()):
        down, across = divmod(place, columns)
        where = MARGIN + across * step, LINE + down * (step + LINE)
        tiles.draw_tile(ax, values, *where, step - GAP, kind, str(number))
    tiles.draw_bar(ax, MARGIN + columns * step + 0.03, LINE, min(below - LINE - MARGIN, 2.5), kind, label)
    ax.text(MARGIN, below, lines, va="top", fontsize=8, color="#444444")
    return figure
