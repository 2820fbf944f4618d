"""When do kernels and maps stop changing? Measured over the epochs for every filter, instead of judged by eye for one.

Wik (2023) judged by eye: the accuracy was stable after epoch `STABLE`, the kernels "continued to change slightly", and
the maps changed until epoch `MAPS_CHANGED`.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, label_first, panels
from analysis.drawing.wording import counted, listed, minus_signs
from analysis.exhibit import Exhibit
from analysis.filters.cosine_distance import SETTLED, WITHIN, kernel_convergence, settled_epochs, spread
from analysis.filters.health import ByEpoch, noun

SLIGHTLY = WITHIN[-1]
"""Largest cosine distance by which a kernel changes slightly."""
STABLE, MAPS_CHANGED = 5, 16
BANDED = "four fifths of the living"
COLOUR, ENDS_DEAD = style.MODEL_COLOURS["cnn"], style.MODEL_COLOURS["ffnn"]
MEASURES = {
    "to_final": "Cosine distance to the end",
    "step": "Cosine distance per epoch",
    "norm": "Norm",
}


def show(weights: ByEpoch, health: pd.DataFrame, maps: ByEpoch, description: str) -> Exhibit:
    """When kernels and maps settle.

    Args:
        weights: see `kernel_convergence`, as is `health`.
        maps: the filters' ReLU maps (filters, …) of one image, by layer and epoch; empty for a network without maps.
        description: which image it is.
    """
    table = kernel_convergence({**weights, **maps}, health)
    heading = "When kernels and maps settle" if maps else "When the weights settle"
    figure, about = draw_kernel_convergence(table), note(description if maps else "")
    text, further = caption(table), points(table)
    return Exhibit("kernel_convergence", heading, text, table, figure, points=further, note=about)


def caption(table: pd.DataFrame) -> str:
    """One sentence: how far the median living filter still turns after the epoch from which Wik (2023) saw little."""
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    kernels = {layer: part for layer, part in layers.items() if layer.startswith("conv")}
    last = int(table["epoch"].max())
    if last <= STABLE or STABLE not in set(table["epoch"]):
        return f"How far the weights turn after epoch {STABLE} cannot be told from epochs up to {last}."
    turns = listed([_turn(layer, part) for layer, part in (kernels or layers).items()])
    one = "kernel" if kernels else "unit"
    text = f"from epoch {STABLE} to {last} the median {one} that lives at both turns by {turns}."
    if not kernels:
        return f"{text[0].upper()}{text[1:]}"
    claim = f"Wik (2023) saw the accuracy stable after epoch {STABLE}, while kernels “continued to change slightly”"
    return f"{claim}: here {text}"


def _turn(layer: str, table: pd.DataFrame) -> str:
    """How far the filters of a layer that live at epoch `STABLE` and at the end turn in between."""
    distances = table.loc[table["epoch"] == STABLE, "to_final"].dropna()
    if distances.empty:
        return f"an unknown distance in {layer}, where none lives at both"
    median = distances.median()
    answer = "slightly" if 0 < median <= SLIGHTLY else "more than slightly" if median else "not at all"
    return f"{median:.3g} in {layer} ({answer})"


def points(table: pd.DataFrame) -> list[str]:
    """One sentence each: how many have settled by the report's epochs, and how far they still turn per epoch."""
    epochs = [epoch for epoch in (STABLE, MAPS_CHANGED) if epoch < table["epoch"].max()]
    phrases = {epoch: _settled_by(table, epoch) for epoch in epochs}
    sentences = [
        f"Settled within {WITHIN[0]:g} by epoch {epoch}: {listed(of_layers)}." for epoch, of_layers in phrases.items()
    ]
    return [*sentences, *_last_steps(table)]


def note(description: str) -> str:
    """What settled means, and what the maps are of; without an image (an empty description) there are none."""
    text = (
        "Turns are cosine distances; slightly is up to "
        f"{SLIGHTLY:g}, an angle of 26°. Settled: the distance to the end stays within {WITHIN[0]:g}, or where "
        f"that is said within {WITHIN[1]:g}; it is 0 at the end by construction, so that rest shows in the distance "
        "per epoch. Living: at the end neither silent nor collapsed."
    )
    if not description:
        return text
    return (
        f"{text} In Wik (2023) the maps changed until epoch {MAPS_CHANGED}; those here are the ReLU maps of "
        f"{description}, and a map that is zero throughout counts as dead."
    )


def _is_map(layer: str) -> bool:
    return layer.startswith("relu")


def _singular(layer: str) -> str:
    return "map" if _is_map(layer) else noun(layer).removesuffix("s")


def _settled_by(table: pd.DataFrame, epoch: int) -> list[str]:
    """For each layer, how many of its living filters have settled by `epoch`, by both thresholds."""
    phrases = []
    for layer, part in table.groupby("layer", sort=False):
        strict, loose = ((settled_epochs(part, name) <= epoch) for name in SETTLED)
        living = counted(len(strict), f"living {_singular(str(layer))}")
        phrases.append(f"{strict.sum()} of {layer}'s {living} (within {WITHIN[1]:g}: {loose.sum()})")
    return phrases


def _last_steps(table: pd.DataFrame) -> list[str]:
    last = int(table["epoch"].max())
    layers = table.groupby("layer", sort=False)
    steps = {str(layer): spread(part, "step").set_index("epoch")["median"] for layer, part in layers}
    turns = [
        f"{_written(step[last])} in {layer}{f' (in epoch {STABLE} by {_written(step[STABLE])})' * (last > STABLE)}"
        for layer, step in steps.items()
        if {STABLE, last} <= set(step.index)
    ]
    return [f"In epoch {last} the median living one turns by {listed(turns)}."] if turns else []


def _written(distance: float) -> str:
    return minus_signs(f"{distance:.2g}")


@style.styled
def draw_kernel_convergence(table: pd.DataFrame) -> Figure:
    """A row for each layer: distances, norm, and share settled; the median, its band, and a line for every filter.

    Filters dead at the end have no distance to it, and another colour. Distances to the end and norms have a scale for
    each layer, since the layers differ by orders of magnitude.
    """
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    figure, axes = panels(style.WIDTH, 0.8 + 1.9 * len(layers), len(layers), len(MEASURES) + 1, sharex=True)
    for row, (layer, part) in zip(axes, layers.items(), strict=True):
        for ax, measure in zip(row, MEASURES, strict=False):
            _draw_measure(ax, part, measure)
        _draw_settled(row[-1], part)
        name = f"maps {layer}" if _is_map(layer) else layer
        label_first(row, f"{name}\n{len(settled_epochs(part))} of {part['filter'].nunique()} alive")
    for ax, title in zip(axes[0], [*MEASURES.values(), "Share settled"], strict=True):
        ax.set_title(title, fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    for ax in axes[:, 0]:
        ax.set_ylim(bottom=0)
    for ax in (*axes[:, 0], *axes[:, 2]):
        ax.yaxis.set_major_locator(MaxNLocator(5))
        # Without a factor above the axis.
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.4g}".replace("e-0", "e-")))
    for ax in axes[:, 1]:
        _set_decades(ax, table["step"])
    style.tick_epochs(axes[0, 0], table["epoch"].unique().tolist())
    labelled = [ax.get_legend_handles_labels() for ax in axes.flat]
    legend = {label: artist for artists, labels in labelled for artist, label in zip(artists, labels, strict=True)}
    key = figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=entries_in_row(4))
    for line in key.get_lines():
        # Thin and pale lines tell something only as many.
        line.set(alpha=1, linewidth=max(1.0, line.get_linewidth()))
    return figure


def _draw_measure(ax: Axes, table: pd.DataFrame, measure: str) -> None:
    cells = table.pivot(index="epoch", columns="filter", values=measure)
    ends_dead = cells.columns.difference(settled_epochs(table).index)
    _draw_lines(ax, cells[ends_dead], ENDS_DEAD, "one that ends dead")
    _draw_lines(ax, cells.drop(columns=ends_dead), COLOUR, "one of the living")
    middle = spread(table, measure)
    ax.fill_between(middle["epoch"], middle["low"], middle["high"], color=COLOUR, alpha=0.25, linewidth=0, label=BANDED)
    ax.plot(middle["epoch"], middle["median"], color=COLOUR, linewidth=2, marker=_marker(middle), markersize=5,
            label="median of the living")  # fmt: skip
    _mark_claim(ax, table)


def _draw_lines(ax: Axes, cells: pd.DataFrame, colour: str, label: str) -> None:
    cells = cells.dropna(axis="columns", how="all")
    for place, (_, values) in enumerate(cells.items()):
        ax.plot(values, color=colour, linewidth=0.6, alpha=0.5, marker=_marker(cells), markersize=3,
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
    for name, within, dashes in zip(SETTLED, WITHIN, ("solid", (0, (3, 1.5))), strict=True):
        shares = [100 * (settled_epochs(table, name) <= epoch).mean() for epoch in epochs]
        look: dict[str, Any] = {"color": COLOUR, "drawstyle": "steps-post", "linestyle": dashes}
        ax.plot(epochs, shares, label=f"settled within {within:g}", **look)
    ax.set_ylim(0, 104)
    ax.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    _mark_claim(ax, table)


def _mark_claim(ax: Axes, table: pd.DataFrame) -> None:
    """Marks the epochs after which Wik (2023) saw the accuracy stable, and the maps change no longer."""
    epochs = [epoch for epoch in (STABLE, MAPS_CHANGED) if table["epoch"].max() > epoch]
    for epoch in epochs:
        label = f"epoch{'s' if len(epochs) > 1 else ''} {' and '.join(map(str, epochs))} (Wik, 2023)"
        ax.axvline(epoch, color=style.INK, linewidth=0.8, linestyle=":", label=label)
    ax.grid(True)


def _set_decades(ax: Axes, values: pd.Series) -> None:
    """Sets a logarithmic scale between powers of ten that enclose all positive values."""
    powers = np.log10(values[values > 0])
    if len(powers):
        low, high = np.floor(powers.min()), np.ceil(powers.max())
        ax.set_yscale("log", nonpositive="mask")
        ax.set_ylim(10**low, 10 ** max(high, low + 1))
        style.plain_logarithms(ax.yaxis)
