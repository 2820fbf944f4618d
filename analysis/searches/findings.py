"""Results of the dead filters experiment: comparisons with intervals, and sentences about them.

The tables are those of `analysis.searches.dead_filters`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from analysis.drawing.wording import counted, listed, mean_phrase
from analysis.searches.paired_seeds import (
    CONFIDENCE,
    FEWEST,
    TOO_FEW,
    Row,
    difference_phrase,
    paired_interval,
    said_once,
    verdict,
)

EARLY = 40
"""Optimiser steps within which filters are expected to fall silent."""

Choice = Callable[[pd.DataFrame], pd.Series]
"""Selects rows of `ends`: returns a boolean mask."""


def _rows(
    *, rate: str = "high", warmup: bool = False, optimiser: str | None = None, decay: bool | None = None
) -> Choice:
    """Selects rows of the group ``optimiser`` with these settings; None matches any value."""

    def chosen(table: pd.DataFrame) -> pd.Series:
        mask = table["group"] == "optimiser"
        rates = table.loc[mask, "learning_rate"]
        mask &= table["learning_rate"] == (rates.max() if rate == "high" else rates.min())
        mask &= (table["warmup_steps"] > 0) == warmup
        if optimiser is not None:
            mask &= table["optimiser"] == optimiser
        return mask if decay is None else mask & ((table["weight_decay"] > 0) == decay)

    return chosen


def _filters(place: int) -> Choice:
    """Selects rows of the group ``filters`` by their rank in the number of filters: 0 is the fewest, -1 the most."""

    def chosen(table: pd.DataFrame) -> pd.Series:
        mask = table["group"] == "filters"
        return mask & (table["filters_conv2"] == sorted(table.loc[mask, "filters_conv2"].unique())[place])

    return chosen


_BASE = _rows(optimiser="adam", decay=True)
CURES = {
    "the low rate": _rows(rate="low", optimiser="adam", decay=True),
    "warm-up": _rows(warmup=True, optimiser="adam", decay=True),
    "AdamW": _rows(optimiser="adamw", decay=True),
    "no decay": _rows(decay=False),
    "warm-up and AdamW": _rows(warmup=True, optimiser="adamw", decay=True),
}
"""What may keep filters alive; each is compared with the high rate without warm-up and with L2 inside Adam."""

MEASURES = {
    "silent_conv2": ("silent filters, second layer", 1, "{:.1f}"),
    "collapsed_conv2": ("collapsed filters, second layer", 1, "{:.1f}"),
    "silent_share": ("silent share of the second layer, %", 100, "{:.0f}"),
    "val_accuracy": ("validation accuracy, %", 100, "{:.2f}"),
}
"""Description, factor and number format of each measure."""

_COMPARED: dict[str, tuple[str, Choice, Choice]] = {
    "high rate against low": ("silent_conv2", _rows(), _rows(rate="low")),
    "warm-up against none": ("silent_conv2", _rows(warmup=True), _rows()),
    "L2 in Adam against AdamW": ("collapsed_conv2", _BASE, CURES["AdamW"]),
    "L2 in Adam against no decay": ("collapsed_conv2", _BASE, CURES["no decay"]),
    "fewest filters against most": ("silent_share", _filters(0), _filters(-1)),
    **{f"{cure} against the high rate": ("val_accuracy", rows, _BASE) for cure, rows in CURES.items()},
}


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of `ends` that answer the experiment's questions, a row each.

    Columns: comparison, measure, these and those (the means compared), difference, low and high (its 95 % t
    interval, paired by seed: a seed's value is its mean over the conditions of one side; NaN for too few seeds),
    seeds.
    """
    return pd.DataFrame([_contrast(table, name, *compared) for name, compared in _COMPARED.items()])


def _contrast(table: pd.DataFrame, name: str, measure: str, these: Choice, those: Choice) -> dict[str, object]:
    sides = [table[rows(table)].groupby("seed")[measure].mean() for rows in (these, those)]
    difference, low, high, seeds = paired_interval(*sides)
    return {
        "comparison": name,
        "measure": measure,
        "these": sides[0].mean(),
        "those": sides[1].mean(),
        "difference": difference,
        "low": low,
        "high": high,
        "seeds": seeds,
    }


def contrasts_caption(contrasts: pd.DataFrame) -> str:
    """One sentence on `contrasts`: how many intervals exclude zero, and how many would by chance."""
    tested = contrasts.dropna(subset=["low"])
    if tested.empty:
        return f"No difference is tested: {TOO_FEW}."
    apart = int(((tested["low"] > 0) | (tested["high"] < 0)).sum())
    return (
        f"{apart} of {counted(len(tested), 'interval')} leave{'s' * (apart == 1)} out zero, where by chance alone "
        f"{(1 - CONFIDENCE) * len(tested):.1f} would."
    )


Comparisons = Mapping[str, Row]
"""The rows of `contrasts` by comparison."""


def caption(table: pd.DataFrame) -> str:
    """One sentence on `ends`: whether the high learning rate silences filters, and what makes them collapse."""
    comparisons = _comparisons(table)
    if _unmeasured(comparisons):
        return f"No answer: every training on one side diverged in {listed(_unmeasured(comparisons))}."
    decays = [comparisons["L2 in Adam against AdamW"], comparisons["L2 in Adam against no decay"]]
    rates, decay = _rate_phrase(table, comparisons["high rate against low"]), _decay_verdict(decays)
    return f"{rates}." if rates.endswith(TOO_FEW) and decay == TOO_FEW else f"{rates}, and {decay}."


def points(table: pd.DataFrame, counts: pd.DataFrame) -> list[str]:
    """A sentence for each question: the answer in numbers, with its interval; none if all of one side diverged."""
    comparisons = _comparisons(table)
    if _unmeasured(comparisons):
        return []
    sentences = [
        _rate_sentence(table, counts, comparisons["high rate against low"]),
        _warmup_sentence(comparisons["warm-up against none"]),
        _decay_sentence(table, comparisons),
        _cost_sentence(comparisons),
        _filters_sentence(table, comparisons["fewest filters against most"]),
        _rest_sentence(table),
    ]
    return said_once(caption(table), sentences)


def note(table: pd.DataFrame) -> str:
    """How to read the means and the brackets."""
    seeds = table["seed"].nunique()
    brackets = "; in brackets 95% t intervals of the differences, paired by seed and not corrected for their number"
    return f"Means over {counted(seeds, 'seed')}{brackets if seeds >= FEWEST else ''}."


def readable(contrasts: pd.DataFrame) -> pd.DataFrame:
    """`contrasts` formatted for the page: each measure named, and in its unit."""
    rows = []
    for row in contrasts.to_dict("records"):
        words, scale, form = MEASURES[row["measure"]]
        means = (mean_phrase(row[side], np.nan, form, scale) for side in ("these", "those"))
        rows.append([row["comparison"], words, *means, difference_phrase(row, f"{form[:2]}+{form[2:]}", scale)])
    columns = ["comparison (first against second)", "measure", "first", "second", "difference [95% interval]"]
    return pd.DataFrame(rows, columns=columns).assign(seeds=contrasts["seeds"])


def _comparisons(table: pd.DataFrame) -> Comparisons:
    return {row["comparison"]: row for row in contrasts(table).to_dict("records")}


def _unmeasured(comparisons: Comparisons) -> list[str]:
    return [f"“{name}”" for name, row in comparisons.items() if row["seeds"] == 0]


def _rate_phrase(table: pd.DataFrame, row: Row) -> str:
    rows = table[table["group"] == "optimiser"]
    low, high = rows["learning_rate"].min(), rows["learning_rate"].max()
    answer = verdict(
        row,
        more="the high rate silences filters",
        fewer="the high rate silences fewer filters",
        unclear="no effect of the rate is shown",
    )
    return (
        f"At learning rate {high:g}, {row['these']:.1f} of the {rows['filters_conv2'].max()} second-layer filters "
        f"are silent after {counted(rows['epochs'].max(), 'epoch')}, and at {low:g}, {row['those']:.1f}: {answer}"
    )


def _rate_sentence(table: pd.DataFrame, counts: pd.DataFrame, row: Row) -> str:
    return f"The high rate silences {difference_phrase(row, '{:+.1f}')} more than the low one{_early(table, counts)}."


def _early(table: pd.DataFrame, counts: pd.DataFrame) -> str:
    """A clause: how many filters are silent early at the high rate; empty if that was not counted."""
    labels = table.loc[_rows()(table), "condition"]
    early = counts.loc[(counts["step"] == EARLY) & counts["condition"].isin(labels), "silent_conv2"]
    return "" if early.empty else f"; {early.mean():.1f} are silent after {EARLY} steps"


def _warmup_sentence(row: Row) -> str:
    answer = verdict(
        row,
        more="warm-up makes it worse",
        fewer="warm-up prevents most of the silence" if row["these"] < row["those"] / 2 else "warm-up lessens it",
        unclear="no effect of warm-up is shown",
    )
    return (
        f"With warm-up the high rate leaves {row['these']:.1f} silent "
        f"(difference {difference_phrase(row, '{:+.1f}')}): {answer}."
    )


def _decay_sentence(table: pd.DataFrame, comparisons: Comparisons) -> str:
    adamw, none = comparisons["L2 in Adam against AdamW"], comparisons["L2 in Adam against no decay"]
    base = table[_BASE(table)][["silent_collapsed_conv2", "silent_conv2"]].mean()
    return (
        f"At the high rate {adamw['these']:.1f} filters collapse with L2 inside Adam "
        f"({base.iloc[0]:.1f} of its {base.iloc[1]:.1f} silent ones), {adamw['those']:.1f} with AdamW "
        f"(difference {difference_phrase(adamw, '{:+.1f}')}) and {none['those']:.1f} without decay "
        f"({difference_phrase(none, '{:+.1f}')}): {_decay_verdict([adamw, none])}."
    )


def _decay_verdict(rows: list[Row]) -> str:
    answers = [verdict(row, more="more", fewer="fewer", unclear="unclear") for row in rows]
    if answers == ["more", "more"]:
        alone = all(row["those"] < 0.5 for row in rows)
        return (
            "of the three only L2 inside Adam collapses filters"
            if alone
            else "L2 inside Adam collapses the most filters"
        )
    if "fewer" in answers:
        return "L2 inside Adam does not collapse more than both others"
    return TOO_FEW if TOO_FEW in answers else "that L2 inside Adam collapses them is not shown"


def _cost_sentence(comparisons: Comparisons) -> str:
    rows = {cure: comparisons[f"{cure} against the high rate"] for cure in CURES}
    changes = ", ".join(f"{cure} {difference_phrase(row, '{:+.2f}', 100)}" for cure, row in rows.items())
    answers = {cure: verdict(row, more="gain", fewer="cost", unclear="") for cure, row in rows.items()}
    phrases = [TOO_FEW] if TOO_FEW in answers.values() else []
    for word in ("cost", "gain"):
        cures = [cure for cure, answer in answers.items() if answer == word]
        if cures:
            phrases.append(f"{listed(cures)} {word}{'s' if len(cures) == 1 else ''} accuracy")
    if not {"cost", TOO_FEW} & set(answers.values()):
        phrases.insert(0, "none is shown to cost accuracy")
    return (
        f"Validation accuracy there is {rows['AdamW']['those']:.1%}; what may cure it changes that, in points, by: "
        f"{changes}: {', and '.join(phrases)}."
    )


def _filters_sentence(table: pd.DataFrame, row: Row) -> str:
    means = table[table["group"] == "filters"].groupby("filters_conv2")[["silent_share", "silent_conv2"]].mean()
    shares = listed([f"{share:.0%}" for share in means["silent_share"]])
    active = listed([f"{total - silent:.1f}" for total, silent in means["silent_conv2"].items()])
    answer = verdict(
        row,
        more="at these settings too many filters is contradicted as the cause, the fewest lose the largest share",
        fewer="at these settings too many filters is supported as a cause",
        unclear="at these settings too many filters is not supported as the cause",
    )
    return (
        f"Of {listed([str(total) for total in means.index])} second-layer filters {shares} are silent, which leaves "
        f"{active} active (fewest less most, in points: {difference_phrase(row, '{:+.0f}', 100)}): {answer}."
    )


def _rest_sentence(table: pd.DataFrame) -> str:
    first, diverged = int(table["silent_conv1"].max()), int(table["diverged"].sum())
    silent = f"at most {counted(first, 'first-layer filter')}" if first else "no first-layer filter"
    text = f"{silent[0].upper()}{silent[1:]} {'are' if first > 1 else 'is'} silent in any training"
    return text + (f"; {diverged} of {len(table)} trainings diverged and are left out." if diverged else ".")
