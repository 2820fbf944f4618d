"""The hyperparameter search: its history, the importance of each hyperparameter, and slices.

A table of trials has the columns number, state (``complete``, ``pruned`` or ``diverged``), learning_rate and
weight_decay (both positive), val_accuracy (0..1, the best over the trial's epochs; NaN if it diverged before the first
was measured) and epochs.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, label_first, panels
from analysis.drawing.wording import counted
from analysis.exhibit import Exhibit

STATES = ("complete", "pruned", "diverged")
HYPERPARAMETERS = {"learning_rate": "learning rate", "weight_decay": "weight decay"}
FEWEST = 10
"""Fewest complete trials for an importance that can be trusted."""
NO_TRIALS = "No trial has finished."
_NO_IMPORTANCE = "No importance: it takes at least two complete trials that differ."
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
    """The complete trial with the highest val_accuracy, of several the first; None if no trial is complete."""
    complete = trials[(trials["state"] == "complete") & trials["val_accuracy"].notna()]
    if complete.empty:
        return None
    return complete.sort_values(["val_accuracy", "number"], ascending=[False, True]).iloc[0]


def caption(table: pd.DataFrame) -> str:
    """One sentence on a `history` table: how the trials ended, and the best one."""
    top = best(table)
    if top is None:
        return f"{states(table)}; none is complete, so there is no best one."
    return (
        f"{states(table)}; the best is trial {top['number']} with a validation accuracy of {top['val_accuracy']:.1%},"
        f" at learning rate {top['learning_rate']:.3g} and weight decay {top['weight_decay']:.3g}."
    )


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
    if table.empty:
        return Exhibit("search_importance", heading, text)
    return Exhibit("search_importance", heading, text, table, draw_importance(table), note=IMPORTANCE_NOTE)


IMPORTANCE_NOTE = (
    "fANOVA fits a random forest to the complete trials; the shares are of that fit, over the values that were tried, "
    "and have no interval."
)


def importance_caption(table: pd.DataFrame, trials: pd.DataFrame) -> str:
    """One sentence on a search's importances, a table with the columns parameter and importance (shares of 1)."""
    if table.empty:
        return _NO_IMPORTANCE
    shares = [
        f"{share:.0%} to the {HYPERPARAMETERS.get(name, name)}"
        for name, share in zip(table["parameter"], table["importance"], strict=True)
    ]
    complete = int((trials["state"] == "complete").sum())
    return (
        f"Of how the validation accuracies of the {complete} complete trials of {len(trials)} vary, fANOVA attributes "
        f"{' and '.join(shares)}{'' if complete == len(trials) else '; what did not complete is not in it'}"
        f"{'; so few trials are too few to tell' if complete < FEWEST else ''}."
    )


@style.styled
def draw_importance(table: pd.DataFrame) -> Figure:
    """A bar for each hyperparameter of a table with the columns parameter and importance (shares of 1)."""
    figure = style.figure(style.page_width(), 1.2 + 0.4 * max(1, len(table)))
    ax = figure.add_subplot()
    if table.empty:
        style.placeholder(ax, _NO_IMPORTANCE)
        return figure
    table = table.sort_values("importance")
    names = [HYPERPARAMETERS.get(name, name.replace("_", " ")) for name in table["parameter"]]
    bars = ax.barh(names, table["importance"], height=0.6, color=style.MODEL_COLOURS["cnn"])
    ax.bar_label(bars, fmt="%.2f", padding=4)
    ax.set(
        xlim=(0, 1.05),
        xlabel="importance for the validation accuracy (all sum to 1)",
        title="Importance of each hyperparameter",
    )
    return figure


@style.styled
def draw_slices(trials: pd.DataFrame) -> Figure:
    """Validation accuracy against each hyperparameter, on logarithmic axes."""
    if trials.empty:
        figure = style.figure(style.page_width(), 3.8)
        style.placeholder(figure.add_subplot(), NO_TRIALS)
        return figure
    figure, (axes,) = panels(style.WIDTH, 3.8, 1, len(HYPERPARAMETERS), sharey=True)
    for ax, (column, words) in zip(axes, HYPERPARAMETERS.items(), strict=True):
        ax.set(xscale="log", xlabel=words)
        style.plain_logarithms(ax.xaxis)
        _scatter(ax, trials, column)
    label_first(axes, "validation accuracy (%)")
    axes[0].set_title("Validation accuracy against each hyperparameter")
    _legend(figure, axes[0])
    return figure


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
