"""Is a search's winner really the best? Its best trials, each retrained with other seeds.

The table `replicates` has a row per training: trial (its number), learning_rate, weight_decay, searched (the trial's
validation accuracy in the search, 0..1: the best over its epochs), seed, and val_accuracy (the same measure of this
training; NaN if it diverged). The trial with the highest `searched` comes first.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import break_if_narrow, entries_in_row, is_narrow
from analysis.drawing.wording import are, counted, listed, mean_phrase, with_minus
from analysis.exhibit import Exhibit
from analysis.searches.paired_seeds import TOO_FEW, Row, difference_phrase, paired_interval, said_once

HEADING = "Is the search's winner really the winner"
TRIAL = ["trial", "learning_rate", "weight_decay", "searched"]


def show(replicates: pd.DataFrame) -> list[Exhibit]:
    """Whether the search's winner stays ahead: the figure, then the table of trials."""
    table = ranking(replicates)
    figure = draw(table, replicates)
    text, about = caption(table), table_caption(table)
    return [
        Exhibit("winner", HEADING, text, replicates, figure, points=points(table), note=NOTE),
        Exhibit("winner_ranking", f"{HEADING}: the trials", about, table, shown=readable(table), note=NOTE),
    ]


def ranking(replicates: pd.DataFrame) -> pd.DataFrame:
    """A row per trial, in the order of the search.

    Columns: those of the trial, seeds (that did not diverge), val_accuracy_mean, val_accuracy_sd (NaN for one seed),
    rank (1 is the highest mean), and the winner's mean less the trial's: difference, low and high (95 % t interval,
    paired by seed; NaN for the winner itself).
    """
    grouped = replicates.groupby(TRIAL, sort=False)["val_accuracy"]
    table = grouped.agg(seeds="count", val_accuracy_mean="mean", val_accuracy_sd="std").reset_index()
    by_seed = replicates.pivot(index="seed", columns="trial", values="val_accuracy")
    intervals = [paired_interval(by_seed[table["trial"][0]], by_seed[trial])[:3] for trial in table["trial"]]
    table[["difference", "low", "high"]] = np.array(intervals)
    table.loc[0, ["difference", "low", "high"]] = np.nan
    table["rank"] = table["val_accuracy_mean"].rank(ascending=False, method="min").astype("Int64")
    return table


def caption(table: pd.DataFrame) -> str:
    """One sentence on a `ranking`: whether the winner stays ahead, and its accuracy in the search and since."""
    winner, *others = table.to_dict("records")
    if winner["seeds"] == 0:
        return f"Every new training of the winner, trial {winner['trial']}, diverged: the ranking does not hold."
    (first, *_) = table.loc[table["rank"] == 1, "trial"]
    highest = "its own" if first == winner["trial"] else f"that of trial {first}"
    again = mean_phrase(winner["val_accuracy_mean"], winner["val_accuracy_sd"], "{:.2f}", 100)
    return (
        f"Trained again with {counted(winner['seeds'], 'other seed')} the winner, trial "
        f"{winner['trial']}, has a validation accuracy of {again}% ({winner['searched']:.2%} in the search), and the "
        f"highest mean is {highest}: {_verdict(others)}."
    )


def points(table: pd.DataFrame) -> list[str]:
    """The winner's lead over each other trial in percentage points, a sentence each."""
    winner, *others = table.to_dict("records")
    leads = [f"Its lead over trial {row['trial']}, in points: {_lead(row)}." for row in others]
    return said_once(caption(table), leads) if winner["seeds"] else []


NOTE = (
    "In brackets 95% t intervals of the differences, paired by seed and not corrected for their number. "
    "Means ± standard deviations over the seeds."
)


def table_caption(table: pd.DataFrame) -> str:
    """One sentence on a `ranking`: by how much the search overrated its winner, compared with the other trials."""
    overrated = 100 * (table["searched"] - table["val_accuracy_mean"])
    if np.isnan(overrated[0]):
        return "Every new training of the winner diverged."
    own, mean = (with_minus(f"{value:+.2f}") for value in (overrated[0], overrated[1:].mean()))
    others = "" if overrated[1:].isna().all() else f", the others by {mean} on average"
    return f"The search's number for its winner lies {own} points from the mean of the new seeds{others}."


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A `ranking` formatted for the page: accuracies in %, differences in percentage points."""
    rows = [
        {
            "trial": row["trial"],
            "learning rate": f"{row['learning_rate']:.3g}",
            "weight decay": f"{row['weight_decay']:.3g}",
            "in the search, %": f"{100 * row['searched']:.2f}",
            "new seeds": row["seeds"],
            "validation accuracy, %": mean_phrase(row["val_accuracy_mean"], row["val_accuracy_sd"], "{:.2f}", 100),
            "rank": "–" if pd.isna(row["rank"]) else str(row["rank"]),
            "winner's lead, points": "–" if np.isnan(row["difference"]) else difference_phrase(row, "{:+.2f}", 100),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _lead(row: Row) -> str:
    if row["seeds"] == 0:
        return "not known, as that diverged"
    lead = difference_phrase(row, "{:+.2f}", 100)
    if np.isnan(row["low"]):
        return f"{lead}, {TOO_FEW}"
    return f"{lead}, zero is {'inside' if row['low'] <= 0 <= row['high'] else 'outside'}"


def _verdict(others: Sequence[Row]) -> str:
    measured = [row for row in others if not np.isnan(row["low"])]
    if not measured:
        return TOO_FEW
    better = [f"trial {row['trial']}" for row in measured if row["high"] < 0]
    if better:
        return f"{listed(better)} {are(len(better))} better than the search's winner"
    if all(row["low"] > 0 for row in measured):
        return "the search's winner is confirmed"
    return "the intervals do not settle which is best"


@style.styled
def draw(table: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Each trial's retrainings as dots with mean and standard deviation; a ring is its accuracy in the search.

    Args:
        table: from `ranking`.
        replicates: a row per training.
    """
    figure = style.figure(style.page_width(), 1.6 + (0.7 if is_narrow() else 0.55) * len(table))
    ax = figure.add_subplot()
    rows = table.to_dict("records")
    for place, row in enumerate(rows):
        values = 100 * replicates.loc[replicates["trial"] == row["trial"], "val_accuracy"].dropna()
        colour = style.MODEL_COLOURS["cnn"] if place == 0 else style.QUIET
        ax.scatter(100 * row["searched"], place, s=60, facecolor="none", edgecolor=style.INK, label="in the search")
        ax.scatter(values, np.full(len(values), place - 0.15), s=16, color=colour, alpha=0.6, label="another seed")
        if len(values):
            ax.errorbar(
                100 * row["val_accuracy_mean"],
                place + 0.15,
                xerr=100 * np.nan_to_num(row["val_accuracy_sd"]),
                color=colour,
                fmt="D",
                ms=5,
                capsize=3,
                label="mean ± standard deviation of these",
            )
    ax.set_yticks(range(len(table)), [_name(row) for row in rows])
    line = break_if_narrow()
    ax.set(ylim=(len(table) - 0.5, -0.5), xlabel=f"validation accuracy,{line}best epoch (%)")
    ax.set_title(f"The search's best trials,{line}trained again{line}with other seeds")
    ax.grid(True, axis="x")
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=entries_in_row(3))
    return figure


def _name(row: Row) -> str:
    line = break_if_narrow()
    rates = f"learning rate {row['learning_rate']:.3g},\nweight decay {row['weight_decay']:.3g}"
    return f"trial {row['trial']}:{line}{rates}"
