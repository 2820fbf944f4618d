"""The picture of the filters' health: their states, the decay of their weights, and the test accuracy."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

from analysis.drawing import style
from analysis.drawing.screens import break_if_narrow, entries_in_row, is_narrow
from analysis.drawing.style import COLLAPSED
from analysis.drawing.tiles import beside, sheet
from analysis.drawing.wording import minus_signs

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
SMALLEST, ZERO = float(np.finfo(np.float32).tiny), 1e-40
"""The smallest normal number of float32, and where a smaller one is drawn: it counts as zero."""
ROW, LOW, HIGH, SPACE, NARROW_SPACE = 0.105, 1.6, 3.4, 0.75, 0.9
"""Heights in inches of a filter's row, of the lowest and the highest panel, and of the space below a panel, on a wide
and on a narrow screen."""
NUMBER = 0.14
"""Inches from one number of a row to the next at least."""
NEAR_COLLAPSE = 10 * COLLAPSED
"""A layer with a filter whose largest weight is below this has a logarithmic axis, which tells how fast it decays."""

CLOSE = 1 / 12
"""Share of a panel's height within which the ends of two lines share a label."""


def note(table: pd.DataFrame, followed: Mapping[str, Collection[int]]) -> str:
    """How to read the picture; `table` is from `health.filter_health`."""
    one = noun(table["layer"].iloc[0]).removesuffix("s")
    star = "; a star marks those followed above, whose weights are drawn black" if any(followed.values()) else ""
    rows = f"In the panels of states a row is a {one}{star}."
    if not _is_logarithmic(table):
        return rows
    return (
        f"{rows} Where weights come near zero, their scale is logarithmic, on which an exponential "
        "decay is a straight line, and a curve that bends down falls faster: where the weight decay is part of Adam's "
        f"gradient, Adam rescales its pull on a silent {one} to full steps. "
        f"Weights below {SMALLEST:.1g}, the smallest normal number of float32, count as zero."
    )


def _is_logarithmic(table: pd.DataFrame) -> bool:
    """Whether weights are drawn on a logarithmic axis."""
    return bool(table["largest_weight"].min() < NEAR_COLLAPSE)


@style.styled
def draw_filter_health(
    table: pd.DataFrame, accuracy: Mapping[int, float], followed: Mapping[str, Collection[int]]
) -> Figure:
    """A row of panels for each layer: the filters' states over the epochs, their largest weights, and the counts.

    Filters are sorted by the epoch at which they died, living ones on top.

    Args:
        table: see `health.filter_health`.
        accuracy: test accuracy (0..1) by epoch.
        followed: the filters to mark, by layer.
    """
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    healthy = {layer for layer, part in layers.items() if (part["state"] == "active").all()}
    heights = [LOW if layer in healthy else _height(part["filter"].nunique()) for layer, part in layers.items()]
    there = set(table["state"]) if len(healthy) < len(layers) else set()
    key = [Patch(color=colour, label=MEANINGS[state]) for state, colour in STATES.items() if state in there]
    legend = (0.2 + 0.15 * len(key) if is_narrow() else 0.4) if key else 0.0
    # The accuracy stands beside the weights of a layer that has no panels of states, or else in a row of its own.
    host = next((layer for layer in reversed(layers) if layer in healthy), None)
    panels = [1 + (layer == host) if layer in healthy else 3 for layer in layers]
    below = [sum(_panel_heights(height, count)) for height, count in zip(heights, panels, strict=True)]
    last = 0.0 if host else LOW + _space()
    figure, ax = sheet(
        style.page_width(),
        sum(below) + last + legend + 0.15 * is_narrow(),
        f"{noun(next(iter(layers))).capitalize()} over the epochs",
    )
    top = 0.4 if is_narrow() else 0.25
    for (layer, part), height, deep in zip(layers.items(), heights, below, strict=True):
        marked = set(followed.get(layer, ()))
        if layer in healthy:
            _draw_healthy(ax, top, height, part, marked, accuracy if layer == host else None)
        else:
            _draw_layer(ax, top, height, part, marked)
        top += deep
    if not host:
        [over] = _places(ax, top, LOW, ((0.6, 8.7),))
        _draw_accuracy(over, accuracy)
        _tick_epochs(table, over)
    if key:
        figure.legend(handles=key, loc="lower center", ncols=entries_in_row(len(key)))
    return figure


def _panel_heights(height: float, panels: int) -> list[float]:
    """Heights of the rows of a layer's panels: one row, or on a narrow screen one for each panel."""
    return [height + _space(), *([LOW + _space()] * (panels - 1) if is_narrow() else [])]


def _space() -> float:
    """Height below a panel, in inches: titles take two lines on a narrow screen."""
    return NARROW_SPACE if is_narrow() else SPACE


def _places(sheet: Axes, top: float, height: float, across: Sequence[tuple[float, float]]) -> list[Axes]:
    """Axes for a layer's panels: side by side at these left edges and widths, or stacked on a narrow screen."""
    if not is_narrow():
        return [beside(sheet, left, top, width, height) for left, width in across]
    rows = _panel_heights(height, len(across))
    tops = np.cumsum([top, *rows[:-1]])
    return [beside(sheet, 0.6, down, 2.3, row - _space()) for down, row in zip(tops, rows, strict=True)]


def _draw_layer(sheet: Axes, top: float, height: float, table: pd.DataFrame, marked: set[int]) -> None:
    """A row of panels: states, weights, and counts."""
    layer, count = str(table["layer"].iloc[0]), table["filter"].nunique()
    states, weights, counts = _places(sheet, top, height, ((0.6, 2.9), (4.15, 2.45), (7.4, 1.9)))
    _draw_states(states, table, marked, max(1, round(NUMBER * count / height)))
    states.set(title=f"{layer}: state of {count} {noun(layer)}", ylabel=noun(layer).removesuffix("s"))
    _draw_weights(weights, table, marked)
    weights.set_title("Largest weight, max |w|")
    _draw_counts(counts, table)
    counts.set_title(f"{noun(layer).capitalize()} in each state")
    _tick_epochs(table, states, weights, counts)


def _draw_healthy(
    sheet: Axes, top: float, height: float, table: pd.DataFrame, marked: set[int], accuracy: Mapping[int, float] | None
) -> None:
    """The weights of a layer whose filters are all active, as the states would be one colour; beside, the accuracy."""
    layer, count = str(table["layer"].iloc[0]), table["filter"].nunique()
    across = ((0.6, 8.7),) if accuracy is None else ((0.6, 6.0), (7.4, 1.9))
    weights, *over = _places(sheet, top, height, across)
    _draw_weights(weights, table, marked)
    break_line = break_if_narrow()
    weights.set_title(
        f"{layer}: largest weight, max |w|;{break_line}all {count} {noun(layer)} are active at every epoch"
    )
    for ax in over:
        _draw_accuracy(ax, accuracy or {})
    _tick_epochs(table, weights, *over)


def _tick_epochs(table: pd.DataFrame, *axes: Axes) -> None:
    for ax in axes:
        style.tick_epochs(ax, sorted(table["epoch"].unique().tolist()))
        ax.set_xlabel("epoch")


def noun(layer: str) -> str:
    """The noun for a layer's outputs."""
    return "filters" if layer.startswith("conv") else "units"


def state_counts(table: pd.DataFrame) -> pd.DataFrame:
    """The number of filters in each state: a row per layer and epoch, a column per state."""
    counts = pd.crosstab([table["layer"], table["epoch"]], table["state"])
    counts = counts.reindex(columns=list(STATES), fill_value=0)
    return counts.loc[list(dict.fromkeys(table["layer"]))].reset_index()


def _height(filters: int) -> float:
    """Height of a panel in inches."""
    return min(HIGH, max(ROW * filters, LOW))


def _order(table: pd.DataFrame) -> list[int]:
    """The filters in drawing order, from the living ones to the first that died."""
    groups = table.groupby("filter")
    keys = pd.DataFrame({"died": groups["died"].first().astype(float).fillna(np.inf), "silent": groups["silent"].sum()})
    return keys.sort_values(["died", "silent"], ascending=[False, True], kind="stable").index.tolist()


def _cells(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row for each filter in drawing order, a column for each epoch, including missing ones."""
    cells = table.pivot(index="filter", columns="epoch", values=column).loc[_order(table)]
    return cells.reindex(columns=np.arange(table["epoch"].min(), table["epoch"].max() + 1))


def _numbered(cells: pd.DataFrame, marked: Collection[int], apart: int) -> list[int]:
    """The rows of `cells` that have their numbers: all that are followed, and others, each `apart` from the next."""
    chosen = np.flatnonzero(cells.index.isin(marked)).tolist()
    # From the first that died, as those matter most.
    for row in reversed(range(len(cells))):
        if all(abs(row - other) >= apart for other in chosen):
            chosen.append(int(row))
    return sorted(chosen)


def _draw_states(ax: Axes, table: pd.DataFrame, marked: set[int], apart: int) -> None:
    names = list(STATES)
    cells = _cells(table.assign(place=table["state"].map(names.index)), "place")
    extent = (table["epoch"].min() - 0.5, table["epoch"].max() + 0.5, len(cells) - 0.5, -0.5)
    ax.imshow(
        np.ma.masked_invalid(cells.to_numpy(float)),
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap(list(STATES.values())),
        vmin=-0.5,
        vmax=len(names) - 0.5,
        extent=extent,
    )
    ax.set_facecolor("#dddddd")
    rows = _numbered(cells, marked, apart)
    labels = [f"{'★ ' if number in marked else ''}{number}" for number in cells.index[rows]]
    ax.set_yticks(rows, labels, fontsize=8)
    ax.tick_params(axis="y", length=0, pad=1)


def _draw_weights(ax: Axes, table: pd.DataFrame, marked: set[int]) -> None:
    # Zero has no logarithm, and float32 may take `ZERO` for it.
    cells = _cells(table, "largest_weight").astype(np.float64)
    values = cells.mask(cells < SMALLEST, ZERO)
    ends = table[table["epoch"] == table["epoch"].max()].set_index("filter")["state"]
    lines = [np.column_stack([row.index, row.to_numpy(float)]) for _, row in values.iterrows()]
    colours = [STATES[ends[number]] for number in values.index]
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=0.7, alpha=0.8))
    first, last = table["epoch"].min(), table["epoch"].max()
    ax.set_xlim(first, max(last, first + 1))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if _is_logarithmic(table):
        ax.set(yscale="log", ylim=(min(low, 1e-4) / 3, max(1.0, high) * 3))
        _tick_powers(ax, low)
        ax.axhline(COLLAPSED, color="#666666", linewidth=0.8, linestyle="dashed")
    else:
        margin = 0.08 * (high - low) or 0.1 * high
        ax.set_ylim(low - margin, high + margin)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.grid(True, axis="y")
    followed = values.loc[sorted(marked & set(values.index))]
    for _, row in followed.iterrows():
        ax.plot(row.dropna().index, row.dropna(), color=style.INK, linewidth=1.8)
    _name_ends(ax, followed[last])


def _name_ends(ax: Axes, ends: pd.Series) -> None:
    """Writes the numbers of the filters at the ends of their lines; one label for ends that are close together."""
    scale = np.log10 if ax.get_yscale() == "log" else np.asarray
    low, high = scale(ax.get_ylim())
    places = pd.Series((scale(ends) - low) / (high - low), ends.index).sort_values()
    names: dict[float, list[str]] = {}
    for number, place in places.items():
        if not names or place - max(names) > CLOSE:
            names[place] = []
        names[max(names)].append(str(number))
    for place, numbers in names.items():
        text = ", ".join(sorted(numbers, key=int))
        ax.text(1.02, place, text, transform=ax.transAxes, va="center", fontsize=8)


def _tick_powers(ax: Axes, low: float) -> None:
    """Ticks at powers of ten, at the limit of collapse, and at zero if a weight is drawn there."""
    step = 10 if low < 1e-20 else 5 if low < 1e-8 else 1
    # Where ten powers lie between two ticks, 1 is too close to the limit.
    powers = [float(f"1e{power}") for power in range(-step if step == 10 else 0, -36, -step)]
    ticks = [tick for tick in powers if tick >= max(min(low, 1e-4), SMALLEST) / 3 and tick != COLLAPSED]
    ticks += [COLLAPSED] + ([ZERO] if low <= ZERO else [])
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_yticklabels(["0" if tick == ZERO else minus_signs(f"{tick:g}") for tick in ticks])


def _draw_counts(ax: Axes, table: pd.DataFrame) -> None:
    counts = state_counts(table)
    below = np.zeros(len(counts))
    for state, colour in STATES.items():
        height = counts[state].to_numpy(float)
        ax.bar(counts["epoch"], height, width=1.0, bottom=below, color=colour)
        below += height
    ax.set(xlim=(counts["epoch"].min() - 0.5, counts["epoch"].max() + 0.5), ylim=(0, below.max()))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_accuracy(ax: Axes, accuracy: Mapping[int, float]) -> None:
    marker = "." if len(accuracy) == 1 else ""
    ax.plot(list(accuracy), list(accuracy.values()), color=style.INK, marker=marker)
    ax.set(ylim=(0, 1), title="Test accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(True, axis="y")
