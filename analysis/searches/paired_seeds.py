"""Differences of means over paired seeds: their interval, and how they are written."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.drawing.wording import with_minus
from analysis.exhibit import Exhibit

CONFIDENCE = 0.95
FEWEST = 3
"""Fewest seeds for an interval: two with equal differences would give one of width 0."""
TOO_FEW = f"fewer than {FEWEST} seeds are no test"
Row = Mapping[Any, Any]
"""A row of a table by column; has at least difference, low and high."""


def paired_interval(these: pd.Series, those: pd.Series) -> tuple[float, float, float, int]:
    """The mean difference of two series over their common index, its 95 % t interval, and the number of pairs.

    The interval is NaN for fewer than `FEWEST` pairs, the difference without any.
    """
    differences = (these - those).dropna()
    count, mean = len(differences), float(differences.mean())
    if count < FEWEST:
        return mean, np.nan, np.nan, count
    # stdtrit is the quantile function of the t distribution; scipy.stats takes seconds to import.
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * differences.std() / np.sqrt(count))
    return mean, mean - half, mean + half, count


def difference_phrase(row: Row, form: str, scale: float = 1) -> str:
    """A difference with its interval, times `scale`: ``+3.1 [+2.0, +4.2]``; without brackets if the interval is NaN."""
    difference, low, high = (with_minus(form.format(scale * row[name])) for name in ("difference", "low", "high"))
    return difference if np.isnan(row["low"]) else f"{difference} [{low}, {high}]"


def verdict(row: Row, *, more: str, fewer: str, unclear: str) -> str:
    """`more` for an interval above zero, `fewer` for one below, `unclear` for one around it; `TOO_FEW` without one."""
    if np.isnan(row["low"]):
        return TOO_FEW
    return more if row["low"] > 0 else fewer if row["high"] < 0 else unclear


def said_once(before: str, sentences: Sequence[str]) -> list[str]:
    """The sentences, without `TOO_FEW` where the text `before` them has said it."""
    return [re.sub(f"[:,;] {TOO_FEW}", "", sentence) if TOO_FEW in before else sentence for sentence in sentences]


def not_measured(name: str, heading: str, dataset: str, command: str) -> Exhibit:
    """The exhibit for an experiment that was not run on a data set: names the command that runs it."""
    text = f"Not yet measured on {dataset}: `{command}` trains and compares, and the next analysis shows it."
    return Exhibit(name, heading, text)
