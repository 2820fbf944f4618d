"""What each choice of training brings: schedule, warm-up, optimiser, decay and epochs, changed one at a time.

The table `replicates` has a row per training: condition (its name), epochs, seed, and two validation accuracies (0..1):
val_accuracy of the last epoch, best_val_accuracy of the best; NaN if it diverged. The condition that the others are
compared with comes first.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import break_if_narrow, entries_in_row, panels
from analysis.drawing.wording import counted, mean_phrase, sentence, several
from analysis.exhibit import Exhibit
from analysis.searches.paired_seeds import TOO_FEW, Row, difference_phrase, paired_interval, said_once

HEADING = "What each choice of training brings"
MEASURES = {"val_accuracy": "last epoch", "best_val_accuracy": "best epoch"}
NOTE = (
    "Each differs from the first in what its name says alone. In brackets 95% t intervals of the differences, "
    "paired by seed and not corrected for their number. Means ± standard deviations over the seeds. The best epoch is "
    "chosen on the same validation images that it is measured on, which favours it."
)


def show(replicates: pd.DataFrame) -> list[Exhibit]:
    """What each change brings: the figure, then the table of conditions."""
    table = effects(replicates)
    text = caption(table)
    return [
        Exhibit("recipe", HEADING, text, replicates, draw(table, replicates), points=points(table), note=NOTE),
        Exhibit("recipe_effects", f"{HEADING}: the numbers", text, table, shown=readable(table), note=NOTE),
    ]


def effects(replicates: pd.DataFrame) -> pd.DataFrame:
    """A row per condition, the first one first.

    Columns: condition, epochs, seeds (that did not diverge); for each of `MEASURES` NAME_mean and NAME_sd; and the
    differences of the condition from the first in val_accuracy: difference, low and high (95 % t interval, paired by
    seed; NaN for the first itself, and for fewer than three seeds).
    """
    grouped = replicates.groupby(["condition", "epochs"], sort=False)
    table = grouped.agg(
        seeds=("val_accuracy", "count"),
        **{f"{name}_{what}": (name, how) for name in MEASURES for what, how in (("mean", "mean"), ("sd", "std"))},
    ).reset_index()
    by_seed = replicates.pivot(index="seed", columns="condition", values="val_accuracy")
    first = by_seed[table["condition"][0]]
    table[["difference", "low", "high"]] = [paired_interval(by_seed[name], first)[:3] for name in table["condition"]]
    table.loc[0, ["difference", "low", "high"]] = np.nan
    return table


def caption(table: pd.DataFrame) -> str:
    """One sentence on `effects`: which changes raise the validation accuracy of the last epoch, and which lower it."""
    base, *changes = table.to_dict("records")
    if not base["seeds"]:
        return f"Every training of {base['condition']}, which the others are compared with, diverged."
    again = mean_phrase(base["val_accuracy_mean"], base["val_accuracy_sd"], "{:.2f}", 100)
    said = f"{base['condition']} ends at a validation accuracy of {again}% ({counted(base['seeds'], 'seed')})"
    measured = [row for row in changes if not np.isnan(row["low"])]
    if not measured:
        return f"{said}; {TOO_FEW}."
    raising = [row for row in measured if row["low"] > 0]
    lowering = [row for row in measured if row["high"] < 0]
    unclear = len(measured) - len(raising) - len(lowering)
    parts = [f"higher is that with {_names(raising)}"] if raising else ["no change raises it"]
    parts += [f"lower that with {_names(lowering)}"] if lowering else []
    parts += [f"{counted(unclear, 'change')} {'does' if unclear == 1 else 'do'} not differ clearly"] if unclear else []
    return f"{said}: {'; '.join(parts)}."


def _names(rows: Sequence[Row]) -> str:
    return several([row["condition"] for row in sorted(rows, key=lambda row: -abs(row["difference"]))])


def points(table: pd.DataFrame) -> list[str]:
    """The difference that each change makes, in percentage points, a sentence each; the largest first."""
    changes = table.iloc[1:].sort_values("difference", ascending=False, na_position="last").to_dict("records")
    return said_once(caption(table), [sentence(f"{row['condition']}: {_difference(row)}") for row in changes])


def _difference(row: Row) -> str:
    if not row["seeds"]:
        return "diverged with every seed"
    if np.isnan(row["difference"]):
        return "no seed in common"
    points = f"{difference_phrase(row, '{:+.2f}', 100)} points"
    if np.isnan(row["low"]):
        return f"{points}, {TOO_FEW}"
    return points if row["low"] > 0 or row["high"] < 0 else f"{points}, which may be nothing"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`effects` formatted for the page: accuracies in %, differences in percentage points."""
    rows = [
        {
            "condition": row["condition"],
            "epochs": row["epochs"],
            "seeds": row["seeds"],
            **{
                f"{label}, %": mean_phrase(row[f"{name}_mean"], row[f"{name}_sd"], "{:.2f}", 100)
                for name, label in MEASURES.items()
            },
            "difference, points": "–" if np.isnan(row["difference"]) else difference_phrase(row, "{:+.2f}", 100),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


@style.styled
def draw(table: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Left the accuracy of each training with its mean; right the difference from the first condition by seed.

    Args:
        table: from `effects`.
        replicates: a row per training.
    """
    figure, (axes,) = panels(style.WIDTH, 1.5 + 0.42 * len(table), 1, 2, sharey=True)
    left, right = axes
    _draw_accuracies(left, replicates, table)
    _draw_differences(right, replicates, table)
    left.set_yticks(range(len(table)), table["condition"])
    left.set_ylim(len(table) - 0.5, -0.5)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=entries_in_row(2))
    return figure


def _draw_accuracies(ax: Axes, replicates: pd.DataFrame, table: pd.DataFrame) -> None:
    places = {name: place for place, name in enumerate(table["condition"])}
    rows = replicates["condition"].map(places)
    ax.scatter(100 * replicates["val_accuracy"], rows, s=16, color=style.QUIET, alpha=0.7, label="a seed")
    means = 100 * table["val_accuracy_mean"]
    ax.scatter(means, range(len(table)), marker="D", s=25, color=style.MODEL_COLOURS["cnn"], label="mean of the seeds")
    line = break_if_narrow()
    ax.set(xlabel=f"validation accuracy,{line}last epoch (%)")
    ax.grid(True, axis="x")


def _draw_differences(ax: Axes, replicates: pd.DataFrame, table: pd.DataFrame) -> None:
    by_seed = replicates.pivot(index="seed", columns="condition", values="val_accuracy")
    first, colour = table["condition"][0], style.MODEL_COLOURS["cnn"]
    for place, row in enumerate(table.to_dict("records")):
        if place == 0:
            continue
        values = 100 * (by_seed[row["condition"]] - by_seed[first]).dropna()
        ax.scatter(values, np.full(len(values), place), s=16, color=style.QUIET, alpha=0.7)
        if np.isfinite(row["difference"]):
            ax.scatter(100 * row["difference"], place, marker="D", s=25, color=colour)
        if np.isfinite(row["low"]):
            ax.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour)
    ax.axvline(0, color=style.INK, linewidth=0.8)
    line = break_if_narrow()
    ax.set(xlabel=f"difference from the first,{line}by seed (points)")
    ax.grid(True, axis="x")
