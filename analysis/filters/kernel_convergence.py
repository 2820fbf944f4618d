"""When do the kernels stop changing? Measured over the epochs for every filter, instead of judged by eye for one."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.drawing import style
from analysis.drawing.style import COLLAPSED
from analysis.drawing.wording import counted
from analysis.exhibit import Exhibit
from analysis.filters.health import ByEpoch, from_then_on, noun

WITHIN = 0.05
"""A filter has settled once its cosine distance to its final weights stays within this, an angle of 18°."""
CLAIMED = 5
"""Epochs after which Wik (2023) sees the kernels converged."""
BAND = 0.1, 0.9
"""Quantiles that bound the band around the median: four fifths of the filters."""
BANDED = "four fifths of the living"
COLOUR = style.MODEL_COLOURS["cnn"]
MEASURES = {
    "to_final": "Cosine distance to the end",
    "step": "Cosine distance per epoch",
    "norm": "Norm of the weights",
}
DISTANCES = ("to_final", "step")


def show(weights: ByEpoch, health: pd.DataFrame) -> Exhibit:
    """When the kernels settle; see `kernel_convergence`."""
    table = kernel_convergence(weights, health)
    figure = draw_kernel_convergence(table)
    return Exhibit("kernel_convergence", "When the kernels settle", caption(table), table, figure, points=points(table))


def kernel_convergence(weights: ByEpoch, health: pd.DataFrame) -> pd.DataFrame:
    """The distance of every filter at every epoch to its final weights and to those of the epoch before.

    The cosine distance, 1 - cos of the angle between two filters' weights, is 0 for equal directions and 1 for a right
    angle. That to the final weights ends at 0 by construction; whether a filter has come to rest shows in the step.

    Args:
        weights: (filters, …) of each layer by epoch.
        health: layer, filter, epoch and silent as in `health.filter_health`, without layers that have no ReLU.

    Returns:
        layer, filter, epoch, norm, alive (neither silent nor collapsed), to_final and step (cosine distances; NaN
        if the filter is dead at either epoch, or the epoch before was not kept), settled: the first epoch from which
        `to_final` stays within `WITHIN`, missing for a filter that is dead at the end.
    """
    silent = health.pivot(index=["layer", "filter"], columns="epoch", values="silent")
    parts = []
    for layer, by_epoch in weights.items():
        dead = silent.loc[layer, sorted(by_epoch)].to_numpy(bool) if layer in silent.index else False
        parts.append(_layer_table(by_epoch, dead).assign(layer=layer))
    return pd.concat(parts, ignore_index=True)[["layer", "filter", "epoch", "norm", "alive", *DISTANCES, "settled"]]


def _layer_table(by_epoch: Mapping[int, np.ndarray], silent: np.ndarray | bool) -> pd.DataFrame:
    """The table of one layer; `silent` is (filters, epochs)."""
    epochs = np.array(sorted(by_epoch))
    rows = np.stack([by_epoch[epoch].reshape(len(by_epoch[epoch]), -1) for epoch in epochs], axis=1).astype(float)
    alive = (np.abs(rows).max(2) >= COLLAPSED) & ~np.asarray(silent)
    to_final = np.where(alive & alive[:, -1:], _cosine_distance(rows, rows[:, -1:]), np.nan)
    step = np.full(alive.shape, np.nan)
    known = alive[:, 1:] & alive[:, :-1] & (np.diff(epochs) == 1)
    step[:, 1:] = np.where(known, _cosine_distance(rows[:, 1:], rows[:, :-1]), np.nan)
    return pd.DataFrame(
        {
            "filter": np.repeat(np.arange(len(rows)), len(epochs)),
            "epoch": np.tile(epochs, len(rows)),
            "norm": np.linalg.norm(rows, axis=2).ravel(),
            "alive": alive.ravel(),
            "to_final": to_final.ravel(),
            "step": step.ravel(),
            "settled": from_then_on(to_final <= WITHIN, epochs).repeat(len(epochs)).array,
        }
    )


def _cosine_distance(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """1 - cos of the angle between vectors along the last axis; NaN for a vector of zeros."""
    products = (these * those).sum(-1)
    norms = np.linalg.norm(these, axis=-1) * np.linalg.norm(those, axis=-1)
    cosines = np.divide(products, norms, out=np.full(norms.shape, np.nan), where=norms > 0)
    return np.maximum(1 - cosines, 0)


def settled_epochs(table: pd.DataFrame) -> pd.Series:
    """The epoch from which each filter of one layer has settled, by filter; only filters alive at the end."""
    return table.groupby("filter")["settled"].first().dropna().astype(int)


def spread(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The median and the band of a measure over the filters of one layer that are alive at the end.

    Returns:
        epoch, low, median, high.
    """
    living = table[table["settled"].notna()].dropna(subset=measure)
    groups = living.groupby("epoch")[measure]
    low, high = (groups.quantile(quantile) for quantile in BAND)
    return pd.DataFrame({"low": low, "median": groups.median(), "high": high}).reset_index()


def caption(table: pd.DataFrame) -> str:
    """One sentence: whether at least half of each layer's living kernels have converged by epoch `CLAIMED`."""
    last = int(table["epoch"].max())
    if last <= CLAIMED:
        return f"Whether kernels are converged after about {CLAIMED} epochs (Wik, 2023) cannot be told after {last}."
    phrases = []
    for layer, settled in _settled(table).items():
        early = f"{(settled <= CLAIMED).sum()} of {counted(len(settled), f'living {_singular(layer)}')}"
        phrases.append(
            f"{layer} {_verdict(settled)} ({early})" if len(settled) else f"{layer} has no living {_singular(layer)}"
        )
    return (
        f"Converged after about {CLAIMED} epochs (Wik, 2023), to within a cosine distance of {WITHIN:g} of the final "
        f"weights: {', '.join(phrases)}."
    )


def points(table: pd.DataFrame) -> list[str]:
    """One sentence each: when half of each layer's filters have settled, and how far they still turn per epoch."""
    living = {layer: settled for layer, settled in _settled(table).items() if len(settled)}
    halves = [
        f"from epoch {_half(settled)} of {layer}'s {counted(len(settled), f'living {_singular(layer)}')}"
        for layer, settled in living.items()
    ]
    # At the last epoch all have settled by construction.
    is_later = halves and int(table["epoch"].max()) > CLAIMED
    return [*([f"Half have settled {', '.join(halves)}."] if is_later else []), *_last_steps(table)]


def _singular(layer: str) -> str:
    return noun(layer).removesuffix("s")


def _settled(table: pd.DataFrame) -> dict[str, pd.Series]:
    return {str(layer): settled_epochs(part) for layer, part in table.groupby("layer", sort=False)}


def _half(settled: pd.Series) -> int:
    """The epoch by which at least half of the filters have settled."""
    return int(settled.quantile(0.5, interpolation="lower"))


def _verdict(settled: pd.Series) -> str:
    return "yes" if _half(settled) <= CLAIMED else "no"


def _last_steps(table: pd.DataFrame) -> list[str]:
    last = int(table["epoch"].max())
    layers = table.groupby("layer", sort=False)
    steps = {str(layer): spread(part, "step").set_index("epoch")["median"] for layer, part in layers}
    turns = [
        f"{step[last]:.2g} in {layer} ({step[CLAIMED]:.2g})"
        for layer, step in steps.items()
        if {CLAIMED, last} <= set(step.index)
    ]
    return [f"Epoch {last} (epoch {CLAIMED}) turns the median of the living by {', '.join(turns)}."] if turns else []


@style.styled
def draw_kernel_convergence(table: pd.DataFrame) -> Figure:
    """A row for each layer: distances, norm, and share settled; the median, its band, and a line for every filter.

    Filters dead at the end have no distance to it, and are grey.
    """
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    figure = style.figure(style.WIDTH, 0.8 + 1.9 * len(layers))
    axes = figure.subplots(len(layers), len(MEASURES) + 1, sharex=True, squeeze=False)
    for column in range(len(DISTANCES)):
        for ax in axes[1:, column]:
            ax.sharey(axes[0, column])
    for row, (layer, part) in zip(axes, layers.items(), strict=True):
        for ax, measure in zip(row, MEASURES, strict=False):
            _draw_measure(ax, part, measure)
        _draw_settled(row[-1], part)
        row[0].set_ylabel(f"{layer}\n{len(settled_epochs(part))} of {part['filter'].nunique()} alive")
    for ax, title in zip(axes[0], [*MEASURES.values(), f"Share settled within {WITHIN:g}"], strict=True):
        ax.set_title(title, fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    for ax in (axes[0, 0], *axes[:, 2]):
        ax.set_ylim(bottom=0)
    for ax in axes[:, 1]:
        _set_decades(ax, table["step"])
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    labelled = [ax.get_legend_handles_labels() for ax in axes.flat]
    legend = {label: artist for artists, labels in labelled for artist, label in zip(artists, labels, strict=True)}
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=len(legend))
    return figure


def _draw_measure(ax: Axes, table: pd.DataFrame, measure: str) -> None:
    cells = table.pivot(index="epoch", columns="filter", values=measure)
    ends_dead = cells.columns.difference(settled_epochs(table).index)
    _draw_lines(ax, cells[ends_dead], style.QUIET, "one that ends dead")
    _draw_lines(ax, cells.drop(columns=ends_dead), COLOUR, "one of the living")
    middle = spread(table, measure)
    ax.fill_between(middle["epoch"], middle["low"], middle["high"], color=COLOUR, alpha=0.25, linewidth=0, label=BANDED)
    ax.plot(middle["epoch"], middle["median"], color=COLOUR, linewidth=2, marker=_marker(middle), markersize=5,
            label="median of the living")  # fmt: skip
    _mark_claim(ax, table)


def _draw_lines(ax: Axes, cells: pd.DataFrame, colour: str, label: str) -> None:
    cells = cells.dropna(axis="columns", how="all")
    for place, (_, values) in enumerate(cells.items()):
        ax.plot(values, color=colour, linewidth=0.5, alpha=0.4, marker=_marker(cells), markersize=3,
                label=label if place == 0 else None)  # fmt: skip


def _marker(points: pd.DataFrame) -> str | None:
    """A marker for lines of few points, which would be hard to see without one."""
    return "." if len(points) < 4 else None


def _draw_settled(ax: Axes, table: pd.DataFrame) -> None:
    settled = settled_epochs(table)
    if settled.empty:
        style.placeholder(ax, "no filter is alive\nat the end")
        return
    epochs = np.sort(table["epoch"].unique())
    shares = [100 * (settled <= epoch).mean() for epoch in epochs]
    ax.plot(epochs, shares, color=COLOUR, drawstyle="steps-post")
    ax.set_ylim(0, 104)
    ax.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    _mark_claim(ax, table)


def _mark_claim(ax: Axes, table: pd.DataFrame) -> None:
    if table["epoch"].max() > CLAIMED:
        ax.axvline(CLAIMED, color=style.INK, linewidth=0.8, linestyle=":", label=f"epoch {CLAIMED}")
    ax.grid(True)


def _set_decades(ax: Axes, values: pd.Series) -> None:
    """Sets a logarithmic scale between powers of ten that enclose all positive values."""
    powers = np.log10(values[values > 0])
    if len(powers):
        low, high = np.floor(powers.min()), np.ceil(powers.max())
        ax.set_yscale("log", nonpositive="mask")
        ax.set_ylim(10**low, 10 ** max(high, low + 1))
        style.plain_logarithms(ax.yaxis)
