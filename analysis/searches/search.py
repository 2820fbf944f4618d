"""The hyperparameter search: its history, the importance of each hyperparameter, and slices.

A table of trials has the columns number, state (``complete``, ``pruned`` or ``diverged``), learning_rate and
weight_decay (both positive), further hyperparameters (numbers or words) as far as they are drawn, parameters (of the
network; NaN where it is unknown, and may be missing), val_accuracy (0..1, the best over the trial's epochs; NaN if it
diverged before the first was measured) and epochs.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, label_first, panels
from analysis.drawing.wording import are, counted, hyperparameter, listed
from analysis.exhibit import Exhibit

STATES = ("complete", "pruned", "diverged")
RATES = ("learning_rate", "weight_decay")
OTHERS = ("number", "state", "parameters", "val_accuracy", "epochs", "best_so_far", "best")
"""Columns that are no hyperparameters."""
IN_A_ROW = 4
"""Most panels side by side."""
FEW = 5
"""Most different numbers that stand side by side, without a scale."""
NAMED = 3
"""Most hyperparameters whose importance is said in words."""
FEWEST = 10
"""Fewest complete trials whose importances are shown: of fewer the forest's shares are noise."""
NO_TRIALS = "No trial has finished."
_NO_IMPORTANCE = "No importance: it takes at least two complete trials that differ."
IMPORTANCES = {"importance": "validation accuracy", "importance_parameters": "number of parameters"}
"""Columns of a table of importances, and what they are the importance for."""
MARKS: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "color": style.MODEL_COLOURS["cnn"], "s": 28},
    "pruned": {"marker": "v", "facecolor": "none", "edgecolor": style.QUIET, "s": 26},
    "diverged": {"marker": "x", "color": style.MODEL_COLOURS["ffnn"], "s": 32},
}


def history(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials by number, with best_so_far: the highest val_accuracy of a complete trial so far, NaN before any."""
    table = trials.sort_values("number", ignore_index=True)
    return table.assign(best_so_far=table["val_accuracy"].where(table["state"] == "complete").cummax().ffill())


def best(trials: pd.DataFrame) -> pd.Series | None:
    """The complete trial with the highest val_accuracy, of several that with the lowest val_loss, then the first.

    None if no trial is complete.
    """
    complete = trials[(trials["state"] == "complete") & trials["val_accuracy"].notna()]
    if complete.empty:
        return None
    ranks = [name for name in ("val_accuracy", "val_loss", "number") if name in complete]
    return complete.sort_values(ranks, ascending=[name != "val_accuracy" for name in ranks]).iloc[0]


@style.styled
def draw_history(table: pd.DataFrame) -> Figure:
    """Validation accuracy of every trial, and the best so far; trials without an accuracy are on the lower edge."""
    figure = style.figure(style.page_width(), 3.6)
    ax = figure.add_subplot()
    if table.empty:
        style.placeholder(ax, NO_TRIALS)
        return figure
    _scatter(ax, table, "number")
    if table["best_so_far"].notna().any():
        ax.step(table["number"], 100 * table["best_so_far"], where="post", color=style.INK, lw=1.2, label="best so far")
    ax.set(xlabel="trial", title="Validation accuracy of each trial", ylabel="validation accuracy (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(figure, ax)
    return figure


def show_importance(table: pd.DataFrame, trials: pd.DataFrame) -> Exhibit:
    """The importance of each hyperparameter; arguments as in `importance_caption`."""
    heading, text = "Importance of each hyperparameter", importance_caption(table, trials)
    if _no_importance(table, trials):
        return Exhibit("search_importance", heading, text)
    return Exhibit("search_importance", heading, text, table, draw_importance(table, trials), note=IMPORTANCE_NOTE)


def _no_importance(table: pd.DataFrame, trials: pd.DataFrame) -> str:
    """Why no importance is shown; empty where there is one."""
    if table.empty:
        return _NO_IMPORTANCE
    complete = int((trials["state"] == "complete").sum())
    if complete < FEWEST:
        return f"{counted(complete, 'complete trial')} {are(complete)} too few to tell: it takes at least {FEWEST}."
    return ""


IMPORTANCE_NOTE = (
    "fANOVA fits a random forest to the complete trials; the shares are of that fit, over the values that were tried, "
    "and have no interval."
)


def importance_caption(table: pd.DataFrame, trials: pd.DataFrame) -> str:
    """One sentence on a search's importances, a table with the columns parameter and importance (shares of 1)."""
    if missing := _no_importance(table, trials):
        return missing
    shares = _shares(table, "importance")
    of_size = ""
    if "importance_parameters" in table and table["importance_parameters"].notna().any():
        of_size = f"; of how their numbers of parameters vary, {listed(_shares(table, 'importance_parameters'))}"
    complete = int((trials["state"] == "complete").sum())
    return (
        f"Of how the validation accuracies of the {complete} complete trials of {len(trials)} vary, fANOVA attributes "
        f"{listed(shares)}{of_size}{'' if complete == len(trials) else '; what did not complete is not in it'}."
    )


def _shares(table: pd.DataFrame, column: str) -> list[str]:
    """The largest importances in words, and the sum of the others."""
    ordered = table.dropna(subset=[column]).sort_values(column, ascending=False, kind="stable")
    shares = [
        f"{share:.0%} to the {hyperparameter(name)}"
        for name, share in zip(ordered["parameter"], ordered[column], strict=True)
    ]
    if len(shares) <= NAMED + 1:
        return shares
    return [*shares[:NAMED], f"{ordered[column][NAMED:].sum():.0%} to the {len(shares) - NAMED} others"]


@style.styled
def draw_importance(table: pd.DataFrame, trials: pd.DataFrame) -> Figure:
    """A bar for each hyperparameter of a table with the columns parameter and importance (shares of 1).

    With the column importance_parameters, for the number of parameters, two bars, or one where that is NaN.
    """
    missing = _no_importance(table, trials)
    figure = style.figure(style.page_width(), 1.2 + (0.55 if len(table.columns) > 2 else 0.4) * max(1, len(table)))
    ax = figure.add_subplot()
    if missing:
        style.placeholder(ax, missing)
        return figure
    table = table.sort_values("importance")
    names = [hyperparameter(name) for name in table["parameter"]]
    objectives = {column: words for column, words in IMPORTANCES.items() if column in table}
    height = 0.6 / len(objectives)
    for place, (column, words) in enumerate(objectives.items()):
        colour = style.MODEL_COLOURS["ffnn" if place else "cnn"]
        places = np.arange(len(table)) - place * height + (len(objectives) - 1) * height / 2
        known = table[column].notna()
        bars = ax.barh(places[known], table.loc[known, column], height=height, color=colour, label=f"for the {words}")
        ax.bar_label(bars, fmt="%.2f", padding=4)
    ax.set_yticks(range(len(table)), names)
    several = len(objectives) > 1
    ax.set(
        xlim=(0, 1.05),
        xlabel=f"importance{'' if several else ' for the validation accuracy'} (all sum to 1)",
        title="Importance of each hyperparameter",
    )
    if several:
        figure.legend(loc="outside lower center", ncols=entries_in_row(len(objectives)))
    return figure


def hyperparameters(trials: pd.DataFrame) -> list[str]:
    """The columns of a table of trials that are hyperparameters."""
    return [name for name in trials.columns if name not in OTHERS]


@style.styled
def draw_slices(trials: pd.DataFrame) -> Figure:
    """Validation accuracy against each hyperparameter; both rates are on logarithmic axes."""
    if trials.empty:
        figure = style.figure(style.page_width(), 3.8)
        style.placeholder(figure.add_subplot(), NO_TRIALS)
        return figure
    names = hyperparameters(trials)
    columns = min(len(names), IN_A_ROW)
    rows = math.ceil(len(names) / columns)
    figure, axes = panels(style.WIDTH, 0.8 + 3.0 * rows, rows, columns, sharey=True, by_row=True)
    for ax, name in zip(axes.flat, names, strict=False):
        _slice(ax, trials, name)
    for ax in axes.flat[len(names) :]:
        ax.remove()
    for of_row in axes:
        label_first(of_row, "validation accuracy (%)")
    axes[0, 0].set_title("Validation accuracy against each hyperparameter")
    _legend(figure, axes[0, 0])
    return figure


def _slice(ax: Axes, trials: pd.DataFrame, name: str) -> None:
    """Draws the trials against one hyperparameter; words, and numbers of which there are few, stand side by side."""
    ax.set_xlabel(hyperparameter(name))
    if name in RATES:
        ax.set_xscale("log")
        style.plain_logarithms(ax.xaxis)
        _scatter(ax, trials, name)
        return
    trials = trials[trials[name].notna()]
    values = sorted(trials[name].unique())
    if isinstance(next(iter(values), ""), str) or len(values) <= FEW:
        trials = trials.assign(**{name: trials[name].map(values.index)})
        ax.set_xticks(range(len(values)), [value if isinstance(value, str) else f"{value:g}" for value in values])
        ax.margins(x=0.2)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=all(float(value).is_integer() for value in values)))
    _scatter(ax, trials, name)


def _scatter(ax: Axes, trials: pd.DataFrame, column: str) -> None:
    """Draws the trials by state; those without an accuracy as marks on the lower edge."""
    for state in STATES:
        chosen = trials[trials["state"] == state]
        valued = chosen[chosen["val_accuracy"].notna()]
        unvalued = chosen[chosen["val_accuracy"].isna()]
        if len(valued):
            ax.scatter(valued[column], 100 * valued["val_accuracy"], label=state, zorder=3, **MARKS[state])
        if len(unvalued):
            ax.scatter(
                unvalued[column],
                np.full(len(unvalued), 0.02),
                transform=ax.get_xaxis_transform(),
                label=f"{state}, no accuracy",
                clip_on=False,
                zorder=3,
                **MARKS[state],
            )
    # Marks in axes coordinates do not widen the x axis by themselves.
    ax.update_datalim(np.column_stack([trials[column], trials[column]]), updatey=False)
    ax.autoscale_view()
    ax.grid(True, axis="y")
    if trials["val_accuracy"].isna().all():
        ax.set_ylim(0, 100)


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=entries_in_row(len(labels)))


def states(trials: pd.DataFrame) -> str:
    """How many trials ended in each state: ``3 trials: 2 complete, 1 pruned and 0 diverged``."""
    complete, pruned, diverged = (int((trials["state"] == state).sum()) for state in STATES)
    return f"{counted(len(trials), 'trial')}: {complete} complete, {pruned} pruned and {diverged} diverged"
