"""Heat map of a search: validation accuracy over learning rate and weight decay.

Tables of trials are those of `analysis.searches.search`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import label_first, panels
from analysis.drawing.wording import counted, listed, with_minus
from analysis.exhibit import Exhibit, joined
from analysis.results.proportions import CONFIDENCE, wilson
from analysis.searches.search import MARKS, NO_TRIALS, RATES, STATES, best, states

NAME = "search_heatmap"
MOST_CELLS = 12
"""Most distinct values on an axis for which trials are drawn as the cells of a grid."""


def show(
    searches: dict[str, pd.DataFrame],
    *,
    images: int | None,
    differences: Mapping[str, tuple[str, str]],
    grid_command: str = "",
) -> Exhibit:
    """The heat maps of one search, or of two side by side; of a single point only the words and the table.

    Args:
        searches: the trials of each search, by its title.
        images: number of validation images, None where they are not at hand.
        differences: the settings in which the two searches differ, apart from the points tried, with both values.
        grid_command: the command that runs a grid search to compare with; empty if a grid is shown.
    """
    numbers = joined({name: heatmap(trials) for name, trials in searches.items()}, "search")
    heading, text = "Validation accuracy over learning rate and weight decay", heatmap_caption(searches, images)
    hint = f"The 8 × 8 grid of Wik (2023) was not run: `{grid_command}` puts it beside this."
    points = [hint] if grid_command else []
    if len(numbers[list(RATES)].drop_duplicates()) == 1:
        return Exhibit(NAME, heading, text, points=points, note=_ends(searches), tables={NAME: numbers})
    note = heatmap_note(searches) + _differences_note(differences)
    return Exhibit(NAME, heading, text, numbers, draw_heatmaps(searches), points=points, note=note)


def _differences_note(differences: Mapping[str, tuple[str, str]]) -> str:
    if not differences:
        return ""
    named = [f"{name.replace('_', ' ')} ({', '.join(values)})" for name, values in differences.items()]
    return f" The two searches also differ in {listed(named)}."


def heatmap(trials: pd.DataFrame) -> pd.DataFrame:
    """The best trial at each point tried: the columns of `trials`, and `best`, true for the best trial of all.

    Of several trials at a point, a complete one is preferred to a pruned one, and that to a diverged one; then the one
    with the higher val_accuracy.
    """
    rank = trials["state"].map({state: place for place, state in enumerate(STATES)})
    ordered = trials.assign(rank=rank).sort_values(["rank", "val_accuracy", "number"], ascending=[True, False, True])
    table = ordered.drop_duplicates(list(RATES)).drop(columns="rank")
    table = table.sort_values(list(RATES), ignore_index=True)
    top = best(trials)
    return table.assign(best=False if top is None else table["number"] == top["number"])


def is_grid(trials: pd.DataFrame) -> bool:
    """Whether the trials have few enough distinct values to be drawn as cells."""
    distinct = max(trials[column].nunique() for column in RATES)
    return distinct <= MOST_CELLS and distinct < len(trials)


def heatmap_caption(searches: dict[str, pd.DataFrame], images: int | None) -> str:
    """One sentence: the best trial of each search, those near it, and the difference between the best of two.

    Args:
        searches: the trials of each search, by its title.
        images: number of validation images, for the intervals, which None leaves out.
    """
    phrases = [_best_phrase(name, trials, images) for name, trials in searches.items()]
    tops = [top["val_accuracy"] for top in map(best, searches.values()) if top is not None]
    if len(tops) == 2:
        apart = with_minus(f"{100 * (tops[0] - tops[1]):+.1f}")
        phrases.append(f"the first search's best is {apart} points from the second's")
    return f"{'; '.join(phrases)}."


def _best_phrase(name: str, trials: pd.DataFrame, images: int | None) -> str:
    top, of = best(trials), counted(len(trials), "trial")
    if top is None:
        return f"{name}: none of {of} is complete"
    which = f"is the best of {of} with" if len(trials) > 1 else "has"
    return (
        f"{name}: trial {top['number']} {which} a validation accuracy of {top['val_accuracy']:.1%} "
        f"within {counted(int(top['epochs']), 'epoch')}, "
        f"at learning rate {top['learning_rate']:.3g} and weight decay {top['weight_decay']:.3g}"
        f"{_near(top, trials, images)}"
    )


def _near(top: pd.Series, trials: pd.DataFrame, images: int | None) -> str:
    """A clause: how many other complete trials the images do not tell from the best one; empty for a single one."""
    others = trials[(trials["state"] == "complete") & (trials["number"] != top["number"])]["val_accuracy"]
    if others.empty:
        return ""
    equal = int((others == top["val_accuracy"]).sum())
    tie = f", {counted(equal, 'other')} as high" if equal else ""
    if images is None:
        return tie
    (low,), (high,) = wilson([round(images * top["val_accuracy"])], [images])
    near = int((others >= low).sum())
    held = counted(near, "other trial") if near else "no other trial"
    return f" ({CONFIDENCE:.0%} interval of {images:,} images {low:.1%} to {high:.1%}, with {held} in it{tie})"


def heatmap_note(searches: dict[str, pd.DataFrame]) -> str:
    """How the trials of each search ended, and over how many epochs a pruned one's accuracy is the best."""
    phrases = [_ends(searches)]
    pruned = pd.concat([trials[trials["state"] == "pruned"] for trials in searches.values()])
    if len(pruned):
        epochs = f"{pruned['epochs'].min():g} to {pruned['epochs'].max():g}"
        full = max(trials["epochs"].max() for trials in searches.values())
        phrases.append(
            f"A triangle (▽) is a pruned trial, whose accuracy is the best of fewer epochs: {epochs} of {full:g}."
        )
    return " ".join(phrases)


def _ends(searches: dict[str, pd.DataFrame]) -> str:
    """How the trials of each search ended."""
    return " ".join(f"{name}: {states(trials)}." for name, trials in searches.items())


def draw_heatmap(trials: pd.DataFrame) -> Figure:
    """Validation accuracy over learning rate × weight decay: cells for a grid, else points; a ring around the best."""
    return draw_heatmaps({"Validation accuracy": trials})


@style.styled
def draw_heatmaps(searches: dict[str, pd.DataFrame]) -> Figure:
    """The heat maps of several searches by title, side by side on one colour scale; see `draw_heatmap`.

    A search without a trial leaves its room to the others.
    """
    searches = {name: trials for name, trials in searches.items() if len(trials)} or searches
    wide = len(searches) > 1 or any(map(is_grid, searches.values()))
    figure, (axes,) = panels(style.WIDTH if wide else 8.0, 5.4, 1, len(searches))
    tables = {name: heatmap(trials) for name, trials in searches.items()}
    shown = pd.concat(list(tables.values()))
    accuracy = 100 * shown.loc[shown["state"] != "diverged", "val_accuracy"].dropna()
    low, high = (float(accuracy.min()), float(accuracy.max())) if len(accuracy) else (0.0, 100.0)
    limits = (low, high) if low < high else (low - 0.5, low + 0.5)
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        if table.empty:
            style.placeholder(ax, NO_TRIALS)
            continue
        (_cells if is_grid(searches[name]) else _points)(ax, table, limits)
        ax.set(xlabel="learning rate", title=name)
    label_first(axes, "weight decay")
    if not shown.empty:
        meanings = {"complete": "ring: the best trial", "pruned": "triangle: pruned", "diverged": "cross: diverged"}
        legend = " · ".join(meaning for state, meaning in meanings.items() if (shown["state"] == state).any())
        figure.supxlabel(legend, fontsize=8, color=style.QUIET)
    if len(accuracy):
        style.colour_bar(axes, limits, style.SEQUENTIAL, "validation accuracy (%)")
    return figure


def _points(ax: Axes, table: pd.DataFrame, limits: style.Limits) -> None:
    kept = table[(table["state"] != "diverged") & table["val_accuracy"].notna()]
    lost = table.drop(kept.index)
    for state, part in kept.groupby("state"):
        ax.scatter(
            part["learning_rate"],
            part["weight_decay"],
            c=100 * part["val_accuracy"],
            marker=MARKS[str(state)]["marker"],
            cmap=style.SEQUENTIAL,
            norm=Normalize(*limits),
            s=60,
            edgecolor=style.QUIET,
            linewidth=0.5,
            zorder=3,
        )
    for state, part in lost.groupby("state"):
        ax.scatter(part["learning_rate"], part["weight_decay"], **MARKS[str(state)])
    top = table[table["best"]]
    ax.scatter(top["learning_rate"], top["weight_decay"], **_ring(190))
    ax.set(xscale="log", yscale="log")
    style.plain_logarithms(ax.xaxis)
    style.plain_logarithms(ax.yaxis)
    ax.grid(True)


def _cells(ax: Axes, table: pd.DataFrame, limits: style.Limits) -> None:
    across, down = (sorted(table[column].unique()) for column in RATES)
    values = (
        table.assign(val_accuracy=table["val_accuracy"].where(table["state"] != "diverged"))
        .pivot(index="weight_decay", columns="learning_rate", values="val_accuracy")
        .to_numpy()
    )
    ax.pcolormesh(100 * np.ma.masked_invalid(values), cmap=style.SEQUENTIAL, norm=Normalize(*limits), ec="white")
    columns = [*RATES, "val_accuracy", "state", "best"]
    for rate, decay, accuracy, state, is_best in table[columns].itertuples(index=False, name=None):
        x, y = across.index(rate) + 0.5, down.index(decay) + 0.5
        if state == "diverged" or np.isnan(accuracy):
            ax.scatter(x, y, **MARKS[state])
        else:
            ink = style.ink_on(style.SEQUENTIAL, Normalize(*limits)(100 * accuracy))
            mark = " ▽" if state == "pruned" else ""
            ax.text(x, y, f"{100 * accuracy:.1f}{mark}", ha="center", va="center", fontsize=8, color=ink)
        if is_best:
            ax.scatter(x, y, **_ring(1000))
    ax.set_xticks(np.arange(len(across)) + 0.5, [f"{value:.2g}" for value in across])
    ax.set_yticks(np.arange(len(down)) + 0.5, [f"{value:.2g}" for value in down])
    ax.tick_params(length=0)


def _ring(size: float) -> dict[str, Any]:
    return {"s": size, "facecolor": "none", "edgecolor": "#d1005d", "linewidth": 2.2, "zorder": 4}
