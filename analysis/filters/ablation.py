"""Filter ablation: what every class loses when a filter's map is replaced by its mean or by zero."""

import math
import textwrap
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.drawing import filter_rows, style
from analysis.drawing.screens import is_narrow
from analysis.drawing.tiles import CHARACTER
from analysis.drawing.wording import counted, have, minus_signs, quoted, without_middle
from analysis.exhibit import Exhibit
from analysis.results import leads
from analysis.results.proportions import CONFIDENCE

MEASURES = {"auc_lost": "one-vs-rest AUC lost (× 100)", "accuracy_lost": "accuracy lost (percentage points)"}
"""The measures that a class can lose, and their axis labels."""
SHORT = {"auc_lost": "AUC", "accuracy_lost": "accuracy"}
"""The same in a word."""
REPLACED = {"mean": "its mean over the test images", "zero": "zero"}
"""The possible replacements of a filter's map, described."""
NO_EFFECT = 1e-5
"""Largest change of a logit that counts as float32 rounding, not as an effect."""
ROUNDING = 1e-12
"""Largest loss that counts as rounding of float64."""
KEYS = ["layer", "filter", "class"]
"""The columns that tell a row of the table from the others."""
MOST_COLUMNS, NARROW_COLUMNS, LEAST_COLUMNS = 32, 8, 5
"""Most filters side by side, on a wide and a narrow screen, and for how many there is room at least."""
LONGEST = 30
"""Most characters of a class name."""
BESIDE, CELL, WIDE_CELL = 1.2, 0.25, 0.33
"""Inches: beside the cells and the class names, and the widths of a cell in which a number and a negative one fit."""
LEAST_WIDTH, LETTERS = 6.0, 14
"""Inches that a figure has at least, and letters of its title in an inch."""
MOST_WRITTEN = 15
"""Most classes for which the numbers are written into the cells."""
LEAST_WRITTEN = 0.3
"""Least largest number for which they are: with one decimal, smaller ones would be alike."""


def show(table: pd.DataFrame) -> Iterator[Exhibit]:
    """What each class loses without each filter, in AUC and in accuracy; `table` is from `effects.ablation_effects`."""
    for measure, what in (("auc_lost", "one-vs-rest AUC"), ("accuracy_lost", "accuracy")):
        heading, text = f"What the classes lose without each filter: {what}", caption(table, measure)
        sentences, name = points(table, measure), f"ablation_{measure}"
        if not any(_drawn_filters(table, main_effects(table, measure), measure).values()):
            # Cells that are all zero say less than the sentence.
            yield Exhibit(name, heading, text, points=sentences, tables={name: table})
            continue
        figure = draw_ablation(table, measure=measure)
        about = " ".join(filter(None, [_numbers_note(table, measure), leads.NOTE]))
        yield Exhibit(name, heading, text, table, figure, points=sentences, note=about)


def _numbers_note(table: pd.DataFrame, measure: str) -> str:
    """From which change on the cells have numbers; empty where none has."""
    least = _least_written(table, measure)
    if not (100 * table[measure].abs() >= least).any():
        return ""
    return f"A cell without a number changes by less than {least:.2g} on the colour scale."


def _cell_limits(table: pd.DataFrame, measure: str) -> style.Limits:
    return style.limits_around_zero(100 * table[measure].to_numpy(float))


def _least_written(table: pd.DataFrame, measure: str) -> float:
    """The least change that is written into its cell, one that differs visibly from white; infinity where none is."""
    _, high = _cell_limits(table, measure)
    return math.inf if high < LEAST_WRITTEN or table["class"].nunique() > MOST_WRITTEN else max(0.05, 0.1 * high)


def main_effects(table: pd.DataFrame, measure: str = "auc_lost") -> pd.DataFrame:
    """The main class of each filter with an effect: the class that loses most of `measure` without the filter.

    Returns:
        layer, filter; class, the main class, and lost, its loss; mean_lost, over all classes. Sorted by layer, class
        and loss. If the measure is undefined for all classes, class is empty and both losses are NaN.
    """
    table, keys, classes = table.reset_index(drop=True), ["layer", "filter"], list(dict.fromkeys(table["class"]))
    changes = table.groupby(keys, sort=False)["logit_change"].max()
    losses = table.dropna(subset=[measure]).groupby(keys, sort=False)[measure]
    first = table.loc[losses.idxmax()].set_index(keys)
    effects = pd.DataFrame({"class": first["class"], "lost": first[measure], "mean_lost": losses.mean()})
    effects = effects.reindex(changes[changes > NO_EFFECT].index).fillna({"class": ""}).reset_index()
    effects = effects.astype({"lost": float, "mean_lost": float})  # also if the table is empty
    order = ["", *classes], list(dict.fromkeys(table["layer"]))
    ranks = -effects["lost"], effects["class"].map(order[0].index), effects["layer"].map(order[1].index)
    return effects.iloc[np.lexsort(ranks)].reset_index(drop=True)


def caption(table: pd.DataFrame, measure: str = "auc_lost") -> str:
    """One sentence: the class that depends most on one filter, or why there is none."""
    return _class_sentence(table, main_effects(table, measure), measure)


def points(table: pd.DataFrame, measure: str = "auc_lost") -> list[str]:
    """A sentence for each layer, its most important filter and how many have no effect; and one on the main classes."""
    effects = main_effects(table, measure)
    phrases = [
        _layer_sentence(str(layer), part, effects, measure) for layer, part in table.groupby("layer", sort=False)
    ]
    return [sentence for sentence in (*phrases, _main_class_sentence(table, effects, measure)) if sentence]


def _layer_sentence(layer: str, part: pd.DataFrame, effects: pd.DataFrame, measure: str) -> str:
    working = effects[effects["layer"] == layer]
    filters = part.drop_duplicates("filter").set_index("filter")
    idle = len(filters) - len(working)
    change = "changes" if idle == 1 else "change"
    nothing = f"{idle} of the {len(filters)} filters of {layer} {change} nothing" if idle else ""
    first = _largest_loss(working, "mean_lost")
    if first is None:
        return f"{nothing}." if nothing else ""
    number = int(first["filter"])
    shares = filters[f"{measure}_leads_layer"].to_numpy()
    also = leads.tied(shares, np.flatnonzero(filters.index == number).tolist())
    which = f"filter {number} matters most{leads.tie_clause([str(filters.index[place]) for place in also], 'filter')}"
    whole = part.loc[part["filter"] == number, measure.removesuffix("_lost")].mean()
    text = f"In {layer} {which}: without it {_change_phrase('mean ', measure, whole, first['mean_lost'])}"
    return f"{text}{nothing and '; '}{nothing}."


def _main_class_sentence(table: pd.DataFrame, effects: pd.DataFrame, measure: str) -> str:
    losing = effects[effects["lost"] > 0]
    if losing.empty:
        return ""
    shares = table.set_index(["layer", "filter", "class"])[f"{measure}_leads_classes"]
    sure = sum(share >= CONFIDENCE for share in shares.loc[list(zip(*(losing[name] for name in KEYS), strict=True))])
    return (
        f"Of {counted(len(losing), 'filter')} without which a class loses, {sure} {have(sure)} a "
        f"class that loses most in {CONFIDENCE:.0%} of the resamples."
    )


def _largest_loss(effects: pd.DataFrame, column: str) -> Mapping[Hashable, Any] | None:
    """The row with the largest loss; None if nothing is lost."""
    losing = effects[effects[column] > 0]
    return None if losing.empty else losing.iloc[int(losing[column].argmax())].to_dict()


def _change_phrase(of: str, measure: str, whole: float, lost: float) -> str:
    name, digits = SHORT[measure], ".3f" if measure == "auc_lost" else ".1%"
    before, after = f"{whole:{digits}}", f"{whole - lost:{digits}}"
    if before == after:
        by = minus_signs(f"{lost:.1g}") if measure == "auc_lost" else f"{100 * lost:.1g} points"
        return f"{of}{name}, {before}, falls by {by}"
    return f"{of}{name} goes from {before} to {after}"


def _class_sentence(table: pd.DataFrame, effects: pd.DataFrame, measure: str) -> str:
    first = _largest_loss(effects, "lost")
    if first is None and len(effects) and effects["lost"].isna().all():
        return "What a filter is for is undefined: that takes test images of two classes."
    by = REPLACED[table["replaced_by"].iloc[0]]
    if first is None:
        return f"No class loses anything when any one filter's map is replaced by {by}."
    place = int(np.flatnonzero((table[KEYS] == [first[name] for name in KEYS]).all(axis=1))[0])
    row = table.iloc[place]
    changed = _change_phrase("its ", measure, row[measure.removesuffix("_lost")], row[measure])
    without = f"with the map of filter {row['filter']} of {row['layer']} replaced by {by}"
    also = table.iloc[leads.tied(table[f"{measure}_leads"].to_numpy(), [place])].to_dict("records")
    names = [f"{quoted(other['class'])} without filter {other['filter']} of {other['layer']}" for other in also]
    ties = leads.tie_clause(names, mark=";")
    return f"The class that depends most on one filter is {quoted(row['class'])}: {without} {changed}{ties}."


@style.styled
def draw_ablation(table: pd.DataFrame, *, measure: str) -> Figure:
    """A heat map of classes × filters for every layer, red where a class loses; each filter's main class is framed.

    Filters are sorted by their main class. Those without an effect, or without one on the measure, are listed below.

    Args:
        table: from `effects.ablation_effects`.
        measure: a key of `MEASURES`.
    """
    effects = main_effects(table, measure)
    layers = {str(layer): part for layer, part in table.groupby("layer", sort=False)}
    working = {layer: set(effects.loc[effects["layer"] == layer, "filter"]) for layer in layers}
    drawn = _drawn_filters(table, effects, measure)
    classes = list(dict.fromkeys(table["class"]))
    least = _least_written(table, measure)
    # A negative number with a decimal is wide.
    cell = WIDE_CELL if (100 * table[measure]).between(-9.95, -least).any() else CELL
    panels = filter_rows.of_layers(drawn, NARROW_COLUMNS if is_narrow() else _columns(classes, cell))
    each, beside = (0.85, 1.6) if is_narrow() else (0.7, 0.3)
    height = len(panels) * (min(0.2, 12 / len(classes)) * len(classes) + each) + beside
    # The cells of a few filters would else be as wide as the page.
    widest = max(LEAST_COLUMNS, *(len(panel.filters) for panel in panels))
    width = min(style.page_width(), max(LEAST_WIDTH, BESIDE + _names_width(classes) + 1.5 * widest * cell))
    figure = style.figure(width, height)
    axes = list(figure.subplots(len(panels), 1, squeeze=False).ravel())
    limits = _cell_limits(table, measure)
    for ax, row in zip(axes, panels, strict=True):
        _draw_cells(ax, layers[row.layer], row.filters, measure, limits, least)
        _frame_main(ax, effects[effects["layer"] == row.layer], row.filters, classes)
        ax.set(xlim=(-0.5, widest - 0.5), title=row.title)
        if row.last:
            idle = sorted(set(layers[row.layer]["filter"]) - working[row.layer])
            level = sorted(working[row.layer].difference(drawn[row.layer]))
            left_out = {"filters change nothing": idle, f"filters change no {SHORT[measure]}": level}
        else:
            left_out = {}
        less = filter_rows.LINE * (1 - width / style.page_width())
        ax.set_xlabel(filter_rows.axis_label(left_out, int(less)), fontsize=8)
    style.colour_bar(axes, limits, style.DIVERGING, MEASURES[measure])
    what, by = MEASURES[measure], REPLACED[table["replaced_by"].iloc[0]]
    replaced = f"{what[0].upper()}{what[1:]} when a filter's map is replaced by {by}"
    title = f"{replaced}; each filter's largest loss is framed"
    style.head(figure, title if is_narrow() else textwrap.fill(title, int(LETTERS * width)))
    return figure


def _columns(classes: Sequence[str], cell: float) -> int:
    """How many filters, each `cell` inches wide, fit side by side beside the names of the classes."""
    return min(MOST_COLUMNS, int((style.WIDTH - BESIDE - _names_width(classes)) / cell))


def _names_width(classes: Sequence[str]) -> float:
    """Inches of the longest name of a class."""
    return CHARACTER * max(len(without_middle(name, LONGEST)) for name in classes)


def _drawn_filters(table: pd.DataFrame, effects: pd.DataFrame, measure: str) -> dict[str, list[int]]:
    """By layer, the filters without which any class gains or loses of `measure`, in the order of their effects."""
    drawn = {}
    for layer, part in table.groupby("layer", sort=False):
        level = _level(part, measure)
        drawn[str(layer)] = [each for each in effects.loc[effects["layer"] == layer, "filter"] if each not in level]
    return drawn


def _level(part: pd.DataFrame, measure: str) -> set[int]:
    """The filters without which no class gains or loses anything of `measure`, although logits may change."""
    unchanged = (part[measure].abs() <= ROUNDING).groupby(part["filter"]).all()
    return set(unchanged.index[unchanged])


def _draw_cells(
    ax: Axes, part: pd.DataFrame, row: Sequence[int], measure: str, limits: style.Limits, least: float
) -> None:
    classes = list(dict.fromkeys(part["class"]))
    values = 100 * part.pivot(index="class", columns="filter", values=measure).loc[classes, row].to_numpy(float)
    few = len(classes) <= MOST_WRITTEN
    if row:
        shown = np.ma.masked_invalid(values)
        ax.imshow(shown, cmap=style.DIVERGING, vmin=limits[0], vmax=limits[1], aspect="auto", interpolation="nearest")
    else:
        nothing = f"no filter changes a class's {SHORT[measure]}"
        ax.text(0.01, 0.5, nothing, transform=ax.transAxes, va="center", color=style.QUIET)
        classes = []
    ax.add_patch(Rectangle((-0.5, -0.5), len(row), len(classes), color="#e4e4e4", zorder=-1))
    ax.set_ylim(max(1, len(classes)) - 0.5, -0.5)
    ax.set_xticks(range(len(row)), [str(number) for number in row])
    ax.set_yticks(range(len(classes)), [without_middle(name, 12 if is_narrow() else LONGEST) for name in classes])
    ax.tick_params(length=0, labelsize=8 if few else max(4, min(8, 240 / len(classes))))
    ax.spines[:].set_visible(False)
    _write(ax, values, limits, least)
    if row:
        _say_undefined(ax, part, measure)


def _write(ax: Axes, values: np.ndarray, limits: style.Limits, least: float) -> None:
    """Writes the numbers from `least` on into their cells."""
    for (down, right), value in np.ndenumerate(values):
        if abs(value) >= least:
            ink = style.ink_on(style.DIVERGING, Normalize(*limits)(value))
            text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
            ax.text(right, down, text.replace("-", "−"), ha="center", va="center", fontsize=8, color=ink)


def _say_undefined(ax: Axes, part: pd.DataFrame, measure: str) -> None:
    classes = part[part["filter"] == part["filter"].iloc[0]]
    for place, (value, images) in enumerate(zip(classes[measure], classes["images"], strict=True)):
        if np.isnan(value):
            why = "all test images are of it" if images else "no test image is of it"
            ax.text(-0.4, place, f"undefined: {why}", va="center", fontsize=8, color="#555555")


def _frame_main(ax: Axes, effects: pd.DataFrame, row: Sequence[int], classes: Sequence[str]) -> None:
    shown = effects[(effects["lost"] > 0) & effects["filter"].isin(row)]
    for filter, name in shown[["filter", "class"]].itertuples(index=False):
        corner = row.index(filter) - 0.5, classes.index(name) - 0.5
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=style.INK, linewidth=0.9, clip_on=False))
