"""Which hyperparameters were tried, and which worked: the search's history, importance, slices and heat map.

A table of trials has the columns number, state (``complete``, ``pruned`` or ``diverged``), learning_rate and
weight_decay (both positive), val_accuracy (0..1, the best over the trial's epochs; NaN where it diverged before
there was one) and epochs.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.drawing import style
from analysis.drawing.wording import counted, with_minus

STATES = ("complete", "pruned", "diverged")
HYPERPARAMETERS = {"learning_rate": "learning rate", "weight_decay": "weight decay"}
FEWEST = 10
"""Complete trials under which an importance says next to nothing."""
MOST_CELLS = 12
"""Values on an axis up to which trials are taken for a grid's and drawn as cells."""

_NO_TRIALS = "No trial has finished."
_NO_IMPORTANCE = "No importance: it takes at least two complete trials that differ."
_MARKS: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "color": style.MODEL_COLOURS["cnn"], "s": 28},
    "pruned": {"marker": "v", "facecolor": "none", "edgecolor": style.QUIET, "s": 26},
    "diverged": {"marker": "x", "color": style.MODEL_COLOURS["ffnn"], "s": 32},
}


def history(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials by number, with best_so_far: the highest val_accuracy of a complete trial up to each (NaN before)."""
    table = trials.sort_values("number", ignore_index=True)
    return table.assign(best_so_far=table["val_accuracy"].where(table["state"] == "complete").cummax().ffill())


def best(trials: pd.DataFrame) -> pd.Series | None:
    """The complete trial with the highest val_accuracy, the lower number on a tie; None where none is complete."""
    complete = trials[(trials["state"] == "complete") & trials["val_accuracy"].notna()]
    if complete.empty:
        return None
    return complete.sort_values(["val_accuracy", "number"], ascending=[False, True]).iloc[0]


def caption(table: pd.DataFrame) -> str:
    """One sentence on what `history` holds."""
    top = best(table)
    if top is None:
        return f"{_states(table)}; none is complete, so there is no best one."
    return (
        f"{_states(table)}; the best is trial {top['number']} with a validation accuracy of {top['val_accuracy']:.1%},"
        f" at learning rate {top['learning_rate']:.3g} and weight decay {top['weight_decay']:.3g}."
    )


@style.styled
def draw_history(table: pd.DataFrame) -> Figure:
    """Validation accuracy of every trial, and the best so far; trials that diverged without one on the lower edge."""
    made = style.figure(style.WIDTH, 3.6)
    ax = made.add_subplot()
    if table.empty:
        style.say(ax, _NO_TRIALS)
        return made
    _scatter(ax, table, "number")
    if table["best_so_far"].notna().any():
        ax.step(table["number"], 100 * table["best_so_far"], where="post", color=style.INK, lw=1.2, label="best so far")
    ax.set(xlabel="trial", title="Validation accuracy of each trial", ylabel="validation accuracy (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(made, ax)
    return made


def importance_caption(table: pd.DataFrame, trials: pd.DataFrame) -> str:
    """One sentence on a table with the columns parameter and importance (shares of 1), of a search's `trials`."""
    if table.empty:
        return _NO_IMPORTANCE
    shares = [
        f"{share:.0%} to the {HYPERPARAMETERS.get(name, name)}"
        for name, share in zip(table["parameter"], table["importance"], strict=True)
    ]
    complete = int((trials["state"] == "complete").sum())
    return (
        f"How the validation accuracies of the {complete} complete trials of {len(trials)} vary is due "
        f"{' and '.join(shares)} (fANOVA); what was pruned is not in it"
        f"{', and so few trials are too few to tell' if complete < FEWEST else ''}."
    )


@style.styled
def draw_importance(table: pd.DataFrame) -> Figure:
    """A bar for each row of a table with the columns parameter and importance (shares of 1)."""
    made = style.figure(style.WIDTH, 1.2 + 0.4 * max(1, len(table)))
    ax = made.add_subplot()
    if table.empty:
        style.say(ax, _NO_IMPORTANCE)
        return made
    table = table.sort_values("importance")
    names = [HYPERPARAMETERS.get(name, name.replace("_", " ")) for name in table["parameter"]]
    bars = ax.barh(names, table["importance"], height=0.6, color=style.MODEL_COLOURS["cnn"])
    ax.bar_label(bars, fmt="%.2f", padding=4)
    ax.set(
        xlim=(0, 1.05),
        xlabel="importance for the validation accuracy (all sum to 1)",
        title="Importance of each hyperparameter",
    )
    return made


@style.styled
def draw_slices(trials: pd.DataFrame) -> Figure:
    """Validation accuracy against each hyperparameter, on a logarithmic axis."""
    made = style.figure(style.WIDTH, 3.8)
    if trials.empty:
        style.say(made.add_subplot(), _NO_TRIALS)
        return made
    axes = made.subplots(1, len(HYPERPARAMETERS), sharey=True)
    for ax, (column, words) in zip(axes, HYPERPARAMETERS.items(), strict=True):
        ax.set(xscale="log", xlabel=words)
        style.plain_logarithms(ax.xaxis)
        _scatter(ax, trials, column)
    axes[0].set_ylabel("validation accuracy (%)")
    axes[0].set_title("Validation accuracy against each hyperparameter")
    _legend(made, axes[0])
    return made


def _scatter(ax: Axes, trials: pd.DataFrame, column: str) -> None:
    """The trials by state; those without an accuracy as marks on the lower edge."""
    for state in STATES:
        chosen = trials[trials["state"] == state]
        valued = chosen[chosen["val_accuracy"].notna()]
        bare = chosen[chosen["val_accuracy"].isna()]
        if len(valued):
            ax.scatter(valued[column], 100 * valued["val_accuracy"], label=state, zorder=3, **_MARKS[state])
        if len(bare):
            ax.scatter(
                bare[column],
                np.full(len(bare), 0.02),
                transform=ax.get_xaxis_transform(),
                label=f"{state}, no accuracy",
                clip_on=False,
                zorder=3,
                **_MARKS[state],
            )
    # Marks that hang on the edge do not widen the axis by themselves.
    ax.update_datalim(np.column_stack([trials[column], trials[column]]), updatey=False)
    ax.autoscale_view()
    ax.grid(True, axis="y")
    if trials["val_accuracy"].isna().all():
        ax.set_ylim(0, 100)


def _legend(made: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        made.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def heatmap(trials: pd.DataFrame) -> pd.DataFrame:
    """The best trial at each tried point: the columns of `trials`, and `best`, true for the best of all.

    Where a point was tried more than once a complete trial goes before a pruned one, and that before a diverged one;
    among equals the higher val_accuracy.
    """
    rank = trials["state"].map({state: place for place, state in enumerate(STATES)})
    ordered = trials.assign(rank=rank).sort_values(["rank", "val_accuracy", "number"], ascending=[True, False, True])
    table = ordered.drop_duplicates(list(HYPERPARAMETERS)).drop(columns="rank")
    table = table.sort_values(list(HYPERPARAMETERS), ignore_index=True)
    top = best(trials)
    return table.assign(best=False if top is None else table["number"] == top["number"])


def is_grid(trials: pd.DataFrame) -> bool:
    """Whether the trials share few enough values to be drawn as cells."""
    distinct = max(trials[column].nunique() for column in HYPERPARAMETERS)
    return distinct <= MOST_CELLS and distinct < len(trials)


def heatmap_caption(searches: dict[str, pd.DataFrame]) -> str:
    """One sentence: the best of each search, by its name, and how far the best of two are apart."""
    said = [_best_of(name, trials) for name, trials in searches.items()]
    tops = [top["val_accuracy"] for top in map(best, searches.values()) if top is not None]
    if len(tops) == 2:
        apart = with_minus(f"{100 * (tops[0] - tops[1]):+.1f}")
        said.append(f"the first search's best is {apart} points from the second's")
    return f"{'; '.join(said)}."


def _best_of(name: str, trials: pd.DataFrame) -> str:
    top, of = best(trials), counted(len(trials), "trial")
    if top is None:
        return f"{name}: none of {of} is complete"
    return (
        f"{name}: trial {top['number']} is the best of {of} with a validation accuracy of {top['val_accuracy']:.1%}, "
        f"at learning rate {top['learning_rate']:.3g} and weight decay {top['weight_decay']:.3g}"
    )


def heatmap_note(searches: dict[str, pd.DataFrame]) -> str:
    """How each search's trials ended, and what a pruned one's accuracy is worth."""
    said = [f"{name}: {_states(trials)}." for name, trials in searches.items()]
    pruned = pd.concat([trials[trials["state"] == "pruned"] for trials in searches.values()])
    if len(pruned):
        epochs = f"{pruned['epochs'].min():g} to {pruned['epochs'].max():g}"
        full = max(trials["epochs"].max() for trials in searches.values())
        said.append(
            f"A triangle (▽) is a pruned trial, whose accuracy is the best of fewer epochs: {epochs} of {full:g}."
        )
    return " ".join(said)


def _states(trials: pd.DataFrame) -> str:
    complete, pruned, diverged = (int((trials["state"] == state).sum()) for state in STATES)
    return f"{counted(len(trials), 'trial')}: {complete} complete, {pruned} pruned and {diverged} diverged"


def draw_heatmap(trials: pd.DataFrame) -> Figure:
    """Validation accuracy over learning rate × weight decay: cells for a grid, else points; the best one ringed."""
    return draw_heatmaps({"Validation accuracy": trials})


@style.styled
def draw_heatmaps(searches: dict[str, pd.DataFrame]) -> Figure:
    """The heat maps of several searches, by their titles, side by side on one scale of colours; see `draw_heatmap`."""
    wide = len(searches) > 1 or any(map(is_grid, searches.values()))
    made = style.figure(style.WIDTH if wide else 8.0, 5.4)
    axes = list(np.atleast_1d(made.subplots(1, len(searches))))
    tables = {name: heatmap(trials) for name, trials in searches.items()}
    shown = pd.concat(list(tables.values()))
    accuracy = 100 * shown.loc[shown["state"] != "diverged", "val_accuracy"].dropna()
    low, high = (float(accuracy.min()), float(accuracy.max())) if len(accuracy) else (0.0, 100.0)
    limits = (low, high) if low < high else (low - 0.5, low + 0.5)
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        if table.empty:
            style.say(ax, _NO_TRIALS)
            continue
        (_cells if is_grid(searches[name]) else _points)(ax, table, limits)
        ax.set(xlabel="learning rate", title=name)
    axes[0].set_ylabel("weight decay")
    if not shown.empty:
        made.supxlabel("ring: the best trial · triangle: pruned · cross: diverged", fontsize=8, color=style.QUIET)
    if len(accuracy):
        style.colour_bar(axes, limits, style.SEQUENTIAL, "validation accuracy (%)")
    return made


def _points(ax: Axes, table: pd.DataFrame, limits: style.Limits) -> None:
    kept = table[(table["state"] != "diverged") & table["val_accuracy"].notna()]
    lost = table[table["state"] == "diverged"]
    for state, part in kept.groupby("state"):
        ax.scatter(
            part["learning_rate"],
            part["weight_decay"],
            c=100 * part["val_accuracy"],
            marker=_MARKS[str(state)]["marker"],
            cmap=style.SEQUENTIAL,
            norm=Normalize(*limits),
            s=60,
            edgecolor=style.QUIET,
            linewidth=0.5,
            zorder=3,
        )
    ax.scatter(lost["learning_rate"], lost["weight_decay"], **_MARKS["diverged"])
    top = table[table["best"]]
    ax.scatter(top["learning_rate"], top["weight_decay"], **_ring(190))
    ax.set(xscale="log", yscale="log")
    style.plain_logarithms(ax.xaxis)
    style.plain_logarithms(ax.yaxis)
    ax.grid(True)


def _cells(ax: Axes, table: pd.DataFrame, limits: style.Limits) -> None:
    across, down = (sorted(table[column].unique()) for column in HYPERPARAMETERS)
    values = (
        table.assign(val_accuracy=table["val_accuracy"].where(table["state"] != "diverged"))
        .pivot(index="weight_decay", columns="learning_rate", values="val_accuracy")
        .to_numpy()
    )
    ax.pcolormesh(100 * np.ma.masked_invalid(values), cmap=style.SEQUENTIAL, norm=Normalize(*limits), ec="white")
    columns = [*HYPERPARAMETERS, "val_accuracy", "state", "best"]
    for rate, decay, accuracy, state, is_best in table[columns].itertuples(index=False, name=None):
        x, y = across.index(rate) + 0.5, down.index(decay) + 0.5
        if state == "diverged":
            ax.scatter(x, y, **_MARKS["diverged"])
        elif np.isfinite(accuracy):
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
