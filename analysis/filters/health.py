"""The health of every filter by epoch: active, silent (its ReLU is always zero), or collapsed (tiny weights)."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.drawing import style
from analysis.drawing.style import COLLAPSED
from analysis.exhibit import Exhibit

FAINTEST = 1e-12
"""Lower limit of the weights' colour scale; smaller weights look the same."""
STATES = {
    "active": "#4393c3",
    "collapsed": "#8a8a8a",
    "silent": "#fdb863",
    "silent and collapsed": "#b2182b",
}
"""The states of a filter, with their colours."""
MEANINGS = {
    "active": "active",
    "collapsed": f"not silent, but max |w| < {COLLAPSED:g}",
    "silent": "silent on all test images",
    "silent and collapsed": f"silent, and max |w| < {COLLAPSED:g}",
}

MOST_LABELLED, EVERY = 16, 4
"""Most filters for which every row is numbered; with more, only every fourth is."""

ByEpoch = Mapping[str, Mapping[int, np.ndarray]]
"""Weights (filters, …) by layer and epoch."""


def show(table: pd.DataFrame, images: int, removal: Mapping[str, Any]) -> Exhibit:
    """Which filters are alive.

    Args:
        table: see `filter_health`.
        images: number of images on which silence was tested.
        removal: the arguments of `removal_caption`.
    """
    text, without = caption(table, images), removal_caption(**removal)
    return Exhibit("filter_health", "Which filters are alive", text, table, draw_filter_health(table), points=[without])


def filter_health(weights: ByEpoch, activity: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]]) -> pd.DataFrame:
    """The state of every filter at every epoch.

    Args:
        weights: (filters, …) by layer and epoch, without the bias.
        activity: by layer and epoch, each (filters,): `active_images` and `active_positions`, the shares of images and
            positions with a positive ReLU output, and `silent`, whether there is none on the whole test set.

    Returns:
        layer, filter, epoch, largest_weight (max |w|), active_images, active_positions, silent, collapsed, state (see
        `STATES`), died: the first epoch from which the filter is silent to the end, missing if it is not.
    """
    parts = [
        pd.DataFrame(
            {
                "layer": layer,
                "filter": np.arange(len(values)),
                "epoch": epoch,
                "largest_weight": np.abs(values).reshape(len(values), -1).max(1),
                **activity[layer][epoch],
            }
        )
        for layer, by_epoch in weights.items()
        for epoch, values in sorted(by_epoch.items())
    ]
    table = pd.concat(parts, ignore_index=True)
    table["collapsed"] = table["largest_weight"] < COLLAPSED
    silent, collapsed = table["silent"], table["collapsed"]
    table["state"] = np.select(
        [silent & collapsed, silent, collapsed], ["silent and collapsed", "silent", "collapsed"], "active"
    )
    died = [_died(str(layer), part) for layer, part in table.groupby("layer", sort=False)]
    return table.merge(pd.concat(died), on=["layer", "filter"])


def _died(layer: str, table: pd.DataFrame) -> pd.DataFrame:
    silent = table.pivot(index="filter", columns="epoch", values="silent")
    died = from_then_on(silent.to_numpy(bool), silent.columns.to_numpy())
    return pd.DataFrame({"layer": layer, "filter": silent.index, "died": died})


def from_then_on(holds: np.ndarray, epochs: np.ndarray) -> pd.Series:
    """For each row, the first epoch from which a condition holds until the last epoch.

    Args:
        holds: bool, (rows, epochs).
        epochs: the numbers of the epochs, ascending.

    Returns:
        (rows,), Int64; missing if it does not hold at the last epoch.
    """
    lengths = np.logical_and.accumulate(holds[:, ::-1], axis=1).sum(1)
    return pd.Series([epochs[-length] if length else pd.NA for length in lengths], dtype="Int64")


def dead_filters(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The numbers of each layer's filters that are silent or collapsed at the last epoch."""
    last = table[table["epoch"] == table["epoch"].max()]
    return {
        str(layer): part.loc[part["state"] != "active", "filter"].to_numpy()
        for layer, part in last.groupby("layer", sort=False)
    }


def state_counts(table: pd.DataFrame) -> pd.DataFrame:
    """The number of filters in each state: a row per layer and epoch, a column per state."""
    counts = pd.crosstab([table["layer"], table["epoch"]], table["state"])
    counts = counts.reindex(columns=list(STATES), fill_value=0)
    return counts.loc[list(dict.fromkeys(table["layer"]))].reset_index()


def caption(table: pd.DataFrame, images: int) -> str:
    """One sentence: how many filters of each layer are dead at the last epoch, since when, and what came back.

    Args:
        table: see `filter_health`.
        images: number of images on which silence was tested.
    """
    last = table["epoch"].max()
    phrases = [_layer_phrase(str(layer), part) for layer, part in table.groupby("layer", sort=False)]
    return f"At epoch {last}, of {images:,} test images: {'; '.join(phrases)}."


def removal_caption(
    *, filters: int, accuracy: float, accuracy_without: float, parameters: int, parameters_without: int
) -> str:
    """One sentence: accuracy (0..1) and number of parameters with and without the dead filters."""
    if not filters:
        return f"None is dead; the test accuracy is {accuracy:.2%}."
    return (
        f"With the maps of all {filters} dead (silent or collapsed) filters set to zero, as a silent one's are anyway, "
        f"the test accuracy is {accuracy_without:.2%}, against {accuracy:.2%} with them; {parameters_without:,} of "
        f"{parameters:,} parameters are then in use."
    )


def _layer_phrase(layer: str, table: pd.DataFrame) -> str:
    last = table[table["epoch"] == table["epoch"].max()]
    silent = last[last["silent"]]
    text = f"{len(silent)} of {layer}'s {len(last)} {noun(layer)} are silent on every one"
    if len(silent):
        text += f" ({silent['collapsed'].sum()} of them collapsed, max |w| < {COLLAPSED:g}), {_since(silent['died'])}"
    only = int((last["state"] == "collapsed").sum())
    if only:
        text += f", {only} more collapsed without being silent"
    return text + _reactivated(table) + _regrown(table)


def noun(layer: str) -> str:
    """The noun for a layer's outputs."""
    return "filters" if layer.startswith("conv") else "units"


def _since(died: pd.Series) -> str:
    first, median, last = died.min(), died.astype(float).median(), died.max()
    return f"since epoch {first}" if first == last else f"since epochs {first} to {last} (median {median:g})"


def _reactivated(table: pd.DataFrame) -> str:
    """A clause: how many filters were active again after they had been silent, and how many of those at the end."""
    silent = _by_epoch(table, "silent")
    back = (silent[:, :-1] & ~silent[:, 1:]).any(axis=1)
    if not back.any():
        return ""
    verb, lasting = "was" if back.sum() == 1 else "were", int((back & ~silent[:, -1]).sum())
    return f", {back.sum()} {verb} active again for some epochs after being silent ({lasting} of them at the end)"


def _regrown(table: pd.DataFrame) -> str:
    """A clause: how many filters collapsed at any epoch, and how many of those grew weights again while silent."""
    silent, collapsed = _by_epoch(table, "silent"), _by_epoch(table, "collapsed")
    if not collapsed.any():
        return ""
    grown = collapsed[:, :-1] & ~collapsed[:, 1:]
    text = f", {collapsed.any(axis=1).sum()} collapsed at some epoch"
    if not grown.any():
        return text
    quiet = (grown & silent[:, 1:]).any(axis=1).sum()
    return f"{text} ({grown.any(axis=1).sum()} of them grew weights again, {quiet} while silent)"


def _by_epoch(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column of one layer's table as an array, bool (filters, epochs)."""
    return table.pivot(index="filter", columns="epoch", values=column).to_numpy(bool)


@style.styled
def draw_filter_health(table: pd.DataFrame) -> Figure:
    """A row of panels for each layer: largest weight and activity of each filter over the epochs, and the state counts.

    Filters are sorted by the epoch at which they died, living ones on top.
    """
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    heights = [_height(part["filter"].nunique()) for part in layers.values()]
    figure = style.figure(style.WIDTH, 1.3 + sum(heights) + 0.4 * len(heights))
    grid = figure.add_gridspec(len(layers) + 1, 3, height_ratios=[*heights, 0.12], width_ratios=[1, 1, 0.8])
    limits = FAINTEST, max(1.0, float(table["largest_weight"].max()))
    weights = LogNorm(*limits), weight_colours(limits)
    shares = Normalize(0, 1), matplotlib.colormaps[style.SEQUENTIAL]
    for row, (layer, part) in enumerate(layers.items()):
        axes = [figure.add_subplot(grid[row, column]) for column in range(3)]
        _raster(axes[0], part, "largest_weight", *weights)
        _mark_silent(axes[0], part)
        _raster(axes[1], part.assign(active=part["active_positions"].mask(part["silent"])), "active", *shares)
        _counts(axes[2], part)
        axes[0].set_ylabel(f"{layer}: {noun(layer).removesuffix('s')}")
        for ax, title in zip(axes, ("Largest weight", "Activity", f"Number of {noun(layer)}"), strict=True):
            ax.set(title=title if row == 0 else "", xlabel="epoch" if row == len(layers) - 1 else "")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    scales: list[tuple[Any, str, Any]] = [
        (weights, "max |w|; a dot: silent on all test images", {"extend": "min", "format": "%g"}),
        (shares, "share of positions with a positive output; grey: silent", {"format": PercentFormatter(1)}),
    ]
    for column, (scale, label, options) in enumerate(scales):
        bar = figure.add_subplot(grid[-1, column])
        figure.colorbar(ScalarMappable(*scale), cax=bar, orientation="horizontal", label=label, **options)
    key = [Patch(color=colour, label=MEANINGS[state]) for state, colour in STATES.items()]
    figure.legend(handles=key, loc="outside lower center", ncols=len(key))
    return figure


def _height(filters: int) -> float:
    """Height of a panel in inches, with a row for each filter, within the bounds of a page."""
    return float(np.clip(0.075 * filters, 1.2, 6.5))


def weight_colours(limits: style.Limits) -> Colormap:
    """Colour map of weights on a logarithmic scale between `limits`: blue, and red below `COLLAPSED`."""
    low, threshold, high = np.log([limits[0], COLLAPSED, limits[1]])
    split = (threshold - low) / (high - low)
    reds, blues = matplotlib.colormaps["Reds_r"], matplotlib.colormaps["Blues"]
    stops = [(split * share, reds(0.2 + 0.6 * share)) for share in np.linspace(0, 1, 9)]
    stops += [(split + (1 - split) * share, blues(0.15 + 0.75 * share)) for share in np.linspace(0, 1, 9)]
    return LinearSegmentedColormap.from_list("weights", stops, N=512)


def _order(table: pd.DataFrame) -> list[int]:
    """The filters in drawing order, from the living ones to the first that died."""
    groups = table.groupby("filter")
    keys = pd.DataFrame({"died": groups["died"].first().astype(float).fillna(np.inf), "silent": groups["silent"].sum()})
    return keys.sort_values(["died", "silent"], ascending=[False, True], kind="stable").index.tolist()


def _cells(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row for each filter in drawing order, a column for each epoch, including missing ones."""
    cells = table.pivot(index="filter", columns="epoch", values=column).loc[_order(table)]
    return cells.reindex(columns=np.arange(table["epoch"].min(), table["epoch"].max() + 1))


def _raster(ax: Axes, table: pd.DataFrame, column: str, norm: Normalize, cmap: Colormap) -> None:
    cells = _cells(table, column)
    # Zero has no logarithm on the scale of the weights.
    values = cells.clip(lower=norm.vmin).to_numpy(float)
    extent = (table["epoch"].min() - 0.5, table["epoch"].max() + 0.5, len(cells) - 0.5, -0.5)
    ax.imshow(values, aspect="auto", interpolation="nearest", norm=norm, cmap=cmap, extent=extent)
    ax.set_facecolor("#dddddd")
    every = 1 if len(cells) <= MOST_LABELLED else EVERY
    ax.set_yticks(range(0, len(cells), every), [str(number) for number in cells.index[::every]], fontsize=7)
    ax.tick_params(axis="y", length=0, pad=1)


def _mark_silent(ax: Axes, table: pd.DataFrame) -> None:
    cells = _cells(table, "silent")
    rows, columns = np.nonzero(cells.to_numpy() == True)  # noqa: E712  a missing epoch is NaN
    ax.plot(cells.columns[columns], rows, "o", color=style.INK, markersize=1.6, markeredgewidth=0)


def _counts(ax: Axes, table: pd.DataFrame) -> None:
    counts = state_counts(table)
    below = np.zeros(len(counts))
    for state, colour in STATES.items():
        height = counts[state].to_numpy(float)
        ax.bar(counts["epoch"], height, width=1.0, bottom=below, color=colour)
        below += height
    ax.set(xlim=(counts["epoch"].min() - 0.5, counts["epoch"].max() + 0.5), ylim=(0, below.max()))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
