"""Class selectivity: how much more each filter responds to one class than to the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.drawing import filter_rows, style
from analysis.drawing.class_styles import class_fills
from analysis.drawing.screens import is_narrow
from analysis.drawing.tiles import CHARACTER
from analysis.drawing.wording import are, listed, quoted, width, without_middle
from analysis.exhibit import Exhibit
from analysis.results import leads

LEAST = 0.01
"""Share of the layer's largest mean activation from which on a filter is rated: a fainter one tells little."""
MOST_COLOURS = 10
"""Most classes that are told apart by a legend; more have their names at the bars."""
MOST_BARS = 40
"""Most filters side by side."""
LONGEST, NARROW_LONGEST = 18, 12
"""Most characters of a class name, on a wide and on a narrow screen."""
BARS, BELOW = 1.2, 0.75
"""Heights in inches of the highest bar of a panel, without a name above it, and of the panel's title and labels."""
HANDLE = 6
"""Width of a legend's handle and its margins, in characters."""


def show(table: pd.DataFrame, classes: Sequence[str]) -> Exhibit:
    """The class that each filter responds to most; `table` is from `class_selectivity`."""
    figure, heading = draw_selectivity(table, classes), "Class selectivity of each filter"
    return Exhibit("selectivity", heading, caption(table), table, figure, points=points(table), note=NOTE)


def class_selectivity(means: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """The class selectivity index of every filter, a row each.

    (μ_max - μ_rest) / (μ_max + μ_rest), where μ_max is the largest of the filter's mean activations per class, and
    μ_rest the mean of those of all other classes: 0 for a filter that responds to all classes equally, 1 for one that
    responds to a single class. Morcos, Barrett, Rabinowitz and Botvinick, "On the importance of single directions for
    generalization", ICLR 2018, equation 1.

    Args:
        means: (N, filters) by layer: each filter's mean activation in each image, never negative.
        labels: (N,), indices of `classes`.
        classes: the names.

    Returns:
        layer, filter; class, the one with the largest mean, empty for a filter too weak to be rated; mean_highest,
        mean_rest, and selectivity, NaN if undefined: for such a filter, or if all images are of one class; leads and
        leads_layer, the shares of bootstrap resamples in which it is the largest of all and of its layer, see `leads`.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    names = [classes[labels[rows[0]]] for rows in members]
    by_layer = {
        layer: np.stack([values[rows].mean(axis=0, dtype=np.float64) for rows in members])
        for layer, values in means.items()
    }
    table = pd.concat([_layer_table(values, names).assign(layer=layer) for layer, values in by_layer.items()])
    resampled = _resampled(np.concatenate(list(means.values()), axis=1), labels, members)
    resampled[:, table["selectivity"].isna()] = np.nan
    of_layers = np.split(resampled, np.cumsum([values.shape[1] for values in by_layer.values()])[:-1], axis=1)
    shares = {
        "leads": leads.lead_shares(resampled),
        "leads_layer": np.concatenate([leads.lead_shares(part) for part in of_layers]),
    }
    columns = ["layer", "filter", "class", "mean_highest", "mean_rest", "selectivity"]
    return table[columns].reset_index(drop=True).assign(**shares)


def _resampled(means: np.ndarray, labels: np.ndarray, members: Sequence[np.ndarray]) -> np.ndarray:
    """The selectivity of each filter in each resample of the images, (resamples, filters)."""
    values, parts = means.astype(np.float32), []
    for weights in leads.weights(labels):
        by_class = np.stack([weights[:, rows] @ values[rows] / len(rows) for rows in members])
        parts.append(_selectivity(*_highest_and_rest(by_class)))
    return np.concatenate(parts)


def _highest_and_rest(by_class: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of the classes' means (K, …), and the mean of all others, NaN for a single class."""
    highest, others = by_class.max(axis=0), len(by_class) - 1
    return highest, (by_class.sum(axis=0) - highest) / others if others else np.full(highest.shape, np.nan)


def _selectivity(highest: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return np.divide(highest - rest, highest + rest, out=np.full(highest.shape, np.nan), where=highest > 0)


def _layer_table(by_class: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The table of one layer from its filters' means (K, filters) by class."""
    highest, rest = _highest_and_rest(by_class)
    responds = highest > LEAST * highest.max()
    best = [names[place] if rated else "" for place, rated in zip(by_class.argmax(axis=0), responds, strict=True)]
    return pd.DataFrame(
        {
            "filter": np.arange(len(highest)),
            "class": best,
            "mean_highest": highest,
            "mean_rest": rest,
            "selectivity": np.where(responds, _selectivity(highest, rest), np.nan),
        }
    )


def caption(table: pd.DataFrame) -> str:
    """One sentence: the most selective filter of all, those tied with it, and each layer's median index."""
    defined = table.dropna(subset=["selectivity"])
    if defined.empty:
        return "No filter's selectivity is defined."
    [most] = defined.nlargest(1, "selectivity").to_dict("records")
    also = defined.iloc[_tied(defined, "leads")].to_dict("records")
    ties = leads.tie_clause([f"filter {row['filter']} of {row['layer']}" for row in also])
    medians = [f"{part['selectivity'].median():.2f} in {layer}" for layer, part in defined.groupby("layer", sort=False)]
    return (
        f"Filter {most['filter']} of {most['layer']} is the most selective with {most['selectivity']:.2f}, for "
        f"{quoted(most['class'])}{ties}; the median selectivity is {listed(medians)}."
    )


def _tied(defined: pd.DataFrame, column: str) -> list[int]:
    """The places of the filters that are tied with the most selective one."""
    return leads.tied(defined[column].to_numpy(), [int(defined["selectivity"].argmax())])


def points(table: pd.DataFrame) -> list[str]:
    """A sentence for each layer: its most selective filter, and how many are too weak to be rated."""
    return [_layer_sentence(str(layer), part) for layer, part in table.groupby("layer", sort=False)]


def _layer_sentence(layer: str, table: pd.DataFrame) -> str:
    faint = int((table["class"] == "").sum())
    quiet = f"; {faint} of its {len(table)} filters {are(faint)} too weak to be rated" if faint else ""
    defined = table.dropna(subset=["selectivity"])
    if defined.empty:
        return f"In {layer} no filter's selectivity is defined{quiet}."
    [most] = defined.nlargest(1, "selectivity").to_dict("records")
    ties = leads.tie_clause(defined["filter"].iloc[_tied(defined, "leads_layer")].astype(str).tolist(), "filter")
    return (
        f"In {layer} filter {most['filter']} is the most selective with {most['selectivity']:.2f}{ties}: its mean "
        "activation "
        f"is {most['mean_highest']:.3g} for {quoted(most['class'])} and {most['mean_rest']:.3g} for the rest{quiet}."
    )


NOTE = (
    "Selectivity is the difference between a filter's mean activation for its class and for the rest, over their sum "
    f"(Morcos et al. 2018). A filter whose mean for its class is under {LEAST:.0%} of its layer's largest is unrated. "
    "The index does not tell a filter that a few images of a class activate from one that all do. "
    f"{leads.NOTE}"
)


@style.styled
def draw_selectivity(table: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """A bar for every filter, most selective first, in the colour of the class that it responds to most.

    Of more than `MOST_COLOURS` classes each bar has the name above it.

    Args:
        table: from `class_selectivity`.
        classes: the names of all classes, for the colour and hatch of each.
    """
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    ordered = {
        layer: part.dropna(subset=["selectivity"]).sort_values("selectivity", ascending=False, kind="stable")
        for layer, part in layers.items()
    }
    fills = class_fills(classes)
    panels = filter_rows.of_layers(
        {layer: part["filter"].tolist() for layer, part in ordered.items()}, filter_rows.fitting(MOST_BARS)
    )
    longest = min(max(map(width, fills)), NARROW_LONGEST if is_narrow() else LONGEST)
    shown = [name for name in classes if name in set(table["class"])]
    named = len(shown) > MOST_COLOURS
    angle = 90 if longest > 2 else 0
    names = named * (CHARACTER * (longest if angle else 2) + 0.15)
    figure = style.figure(style.page_width(), (BARS + names + BELOW) * len(panels) + 0.3)
    axes = figure.subplots(len(panels), 1, squeeze=False, sharey=True).ravel()
    ticks = MaxNLocator(4).tick_values(0, float(table["selectivity"].fillna(0).max()) or 1.0)
    widest = max(1, *(len(row.filters) for row in panels))
    for ax, row in zip(axes, panels, strict=True):
        part = ordered[row.layer].set_index("filter").loc[row.filters]
        _draw_bars(ax, part, fills)
        if named:
            _name_bars(ax, part, longest, angle)
        ax.set(
            xlim=(-0.6, widest - 0.4),
            ylim=(0, ticks[-1] * (1 + names / BARS)),
            title=row.title,
            ylabel="class selectivity",
        )
        ax.set_yticks(ticks)
        faint = layers[row.layer].loc[layers[row.layer]["class"] == "", "filter"].tolist() if row.last else []
        ax.set_xlabel(filter_rows.axis_label({"filters too weak to be rated": faint}), fontsize=8)
    if shown and not named:
        _draw_legend(figure, {name: fills[name] for name in shown}, longest)
    return figure


def _draw_legend(figure: Figure, fills: Mapping[str, Mapping[str, str]], longest: int) -> None:
    key = [
        Patch(**dict[str, Any](fill), edgecolor=style.PAPER, linewidth=0, label=without_middle(name, longest))
        for name, fill in fills.items()
    ]
    in_row = min(len(key), filter_rows.fitting(filter_rows.LINE) // (longest + HANDLE))
    figure.legend(handles=key, loc="outside lower center", ncols=in_row)


def _draw_bars(ax: Axes, part: pd.DataFrame, fills: Mapping[str, Mapping[str, str]]) -> None:
    if part.empty:
        ax.text(0.01, 0.5, "undefined for every filter", transform=ax.transAxes, va="center", color=style.QUIET)
    heights = part["selectivity"].to_numpy(float)
    colours, hatches = ([fills[name][key] for name in part["class"]] for key in ("facecolor", "hatch"))
    ax.bar(range(len(part)), heights, color=colours, hatch=hatches, edgecolor=style.PAPER, linewidth=0, width=0.8)
    ax.set_xticks(range(len(part)), part.index, fontsize=8)
    ax.tick_params(axis="x", length=0)
    ax.grid(True, axis="y")


def _name_bars(ax: Axes, part: pd.DataFrame, longest: int, angle: int) -> None:
    """Writes the class of each filter above its bar."""
    for place, (height, name) in enumerate(zip(part["selectivity"], part["class"], strict=True)):
        ax.annotate(
            without_middle(name, longest), (place, height), (0, 2), textcoords="offset points", rotation=angle,
            ha="center", va="bottom", fontsize=8,
        )  # fmt: skip
