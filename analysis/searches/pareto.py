"""The Pareto front of a search: the highest validation accuracy that each number of parameters buys.

Tables of trials are those of `analysis.searches.search`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, label_counts
from analysis.drawing.wording import counted
from analysis.exhibit import Exhibit
from analysis.searches.search import MARKS, NO_TRIALS, STATES

HEADING = "Validation accuracy against the number of parameters"


@dataclass(frozen=True)
class Reference:
    """The report's network."""

    parameters: int
    accuracy: float = np.nan
    """The highest validation accuracy (0..1) that a search reached with it; NaN where none was."""


def is_shown(trials: pd.DataFrame) -> bool:
    """Whether the trials' networks differ in their number of parameters."""
    return bool(trials["parameters"].nunique() > 1)


def show(trials: pd.DataFrame, reference: Reference | None) -> Exhibit:
    """The trials, the front, and the report's network, if it is of its kind."""
    table = front(trials)
    return Exhibit("search_pareto", HEADING, caption(table, reference), table, draw(table, reference), note=NOTE)


NOTE = (
    "A trial is on the front if no complete one has both a higher accuracy and no more parameters, or fewer parameters "
    "and no lower an accuracy. The accuracies are those that chose it, each of one training: on other images they are "
    "lower, and neighbours on the front may change places with another seed."
)


def front(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials by their number of parameters, with on_front: whether a trial is on the Pareto front."""
    known = trials[trials["parameters"].notna()]
    table = known.sort_values(["parameters", "val_accuracy", "number"], ascending=[True, False, True])
    accuracy = table["val_accuracy"].where(table["state"] == "complete", -np.inf).fillna(-np.inf)
    # On the front is what surpasses every smaller network, and those of its size that come before it.
    before = accuracy.cummax().shift(fill_value=-np.inf)
    return table.assign(on_front=accuracy > before).reset_index(drop=True)


def caption(table: pd.DataFrame, reference: Reference | None) -> str:
    """One sentence on a `front`: its ends, and the smallest network that is no worse than the report's."""
    on_front = table[table["on_front"]]
    if on_front.empty:
        return "No trial is complete, so there is no Pareto front."
    small, large = on_front.iloc[0], on_front.iloc[-1]
    ends = [
        f"{row['parameters']:,.0f} parameters ({row['val_accuracy']:.1%}, trial {row['number']})"
        for row in (small, large)
    ]
    text = f"The front has {counted(len(on_front), 'network')}, " + (
        f"from {ends[0]} to {ends[1]}" if len(on_front) > 1 else f"of {ends[0]}"
    )
    return f"{text}; {_compared(on_front, reference)}." if reference else f"{text}."


def _compared(on_front: pd.DataFrame, reference: Reference) -> str:
    named = f"the report's {reference.parameters:,}"
    if np.isnan(reference.accuracy):
        fitting = on_front[on_front["parameters"] <= reference.parameters]
        if fitting.empty:
            return f"none has at most {named} parameters"
        best = fitting.iloc[-1]
        return f"the best with at most {named} parameters has {best['parameters']:,.0f}, and {best['val_accuracy']:.1%}"
    reaching = on_front[on_front["val_accuracy"] >= reference.accuracy]
    if reaching.empty:
        return f"none reaches the {reference.accuracy:.1%} of {named} parameters"
    best = reaching.iloc[0]
    return (
        f"the smallest that reaches the {reference.accuracy:.1%} of {named} parameters has {best['parameters']:,.0f} "
        f"({best['val_accuracy']:.1%}, trial {best['number']})"
    )


@style.styled
def draw(table: pd.DataFrame, reference: Reference | None = None) -> Figure:
    """Accuracy over the number of parameters (logarithmic), the front as steps with rings, and the report's network."""
    figure = style.figure(style.page_width(), 4.4)
    ax = figure.add_subplot()
    valued = table[table["val_accuracy"].notna()]
    if valued.empty:
        style.placeholder(ax, NO_TRIALS)
        return figure
    for state in STATES:
        chosen = valued[valued["state"] == state]
        if len(chosen):
            ax.scatter(chosen["parameters"], 100 * chosen["val_accuracy"], label=state, zorder=3, **MARKS[state])
    on_front = table[table["on_front"]]
    ax.set(xscale="log", xlabel="parameters of the network", ylabel="validation accuracy (%)", title=HEADING)
    if len(on_front):
        ax.step(
            on_front["parameters"],
            100 * on_front["val_accuracy"],
            where="post",
            color=style.INK,
            lw=1.2,
            marker="o",
            markersize=9,
            markerfacecolor="none",
            markeredgewidth=1.4,
            zorder=4,
            label="Pareto front",
        )
    if reference:
        _draw_reference(ax, reference)
    label_counts(ax.xaxis)
    ax.grid(True, axis="y")
    figure.legend(loc="outside lower center", ncols=entries_in_row(len(ax.get_legend_handles_labels()[1])))
    return figure


def _draw_reference(ax: Axes, reference: Reference) -> None:
    label = f"the report's network ({reference.parameters:,})"
    colour = style.MODEL_COLOURS["ffnn"]
    ax.axvline(reference.parameters, color=colour, ls="--", lw=1, label=label)
    if not np.isnan(reference.accuracy):
        ax.scatter(
            [reference.parameters],
            [100 * reference.accuracy],
            marker="*",
            s=160,
            color=colour,
            zorder=4,
            label="the best trial with it",
        )
