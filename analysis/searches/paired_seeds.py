"""Means over seeds, put beside one another: the interval of a difference, and how it is said."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.drawing.wording import with_minus
from analysis.exhibit import Exhibit

CONFIDENCE = 0.95
FEWEST = 3
"""Seeds for an interval: two that happen to differ alike would give one without width."""
TOO_FEW = f"fewer than {FEWEST} seeds are no test"
Row = Mapping[Any, Any]
"""A row of a table by its columns, among them difference, low and high."""


def paired_interval(these: pd.Series, those: pd.Series) -> tuple[float, float, float, int]:
    """The mean difference of two series over the index that both have, its 95 % t interval, and the number of pairs.

    The interval is NaN for fewer than `FEWEST` pairs, the difference for none.
    """
    differences = (these - those).dropna()
    count, mean = len(differences), float(differences.mean())
    if count < FEWEST:
        return mean, np.nan, np.nan, count
    # stdtrit is the t distribution's quantile; scipy.stats, which has it too, takes seconds to import.
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * differences.std() / np.sqrt(count))
    return mean, mean - half, mean + half, count


def said_difference(row: Row, form: str, scale: float = 1) -> str:
    """E.g. ``+3.1 [+2.0, +4.2]`` of difference, low and high, each times `scale`; without an interval of NaN."""
    difference, low, high = (with_minus(form.format(scale * row[name])) for name in ("difference", "low", "high"))
    return difference if np.isnan(row["low"]) else f"{difference} [{low}, {high}]"


def verdict(row: Row, *, more: str, fewer: str, unclear: str) -> str:
    """Which of the three the interval says: it lies above zero, below it, or around it; too few seeds say nothing."""
    if np.isnan(row["low"]):
        return TOO_FEW
    return more if row["low"] > 0 else fewer if row["high"] < 0 else unclear


def not_measured(name: str, heading: str, dataset: str, command: str) -> Exhibit:
    """In place of an experiment that was not run on a data set: the command that runs it."""
    text = f"Not yet measured on {dataset}: `{command}` trains and compares, and the next analysis shows it."
    return Exhibit(name, heading, text)
