import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.searches import paired_seeds


def series(*values: float) -> pd.Series:
    return pd.Series(values, range(len(values)), dtype=float)


def test_the_paired_interval_is_scipys():
    these, those = series(3.0, 5.5, 4.0, 6.0), series(1.0, 2.0, 2.5, 2.0)
    expected = stats.ttest_rel(these, those).confidence_interval(0.95)
    difference, low, high, count = paired_seeds.paired_interval(these, those)
    assert count == 4
    assert difference == pytest.approx((these - those).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_only_pairs_count():
    difference, _, _, count = paired_seeds.paired_interval(series(1, 2, np.nan, 9), series(0, 0, 0))
    assert (difference, count) == (1.5, 2)
    assert paired_seeds.paired_interval(series(np.nan), series(1))[3] == 0


def test_fewer_than_three_seeds_give_no_interval_and_no_verdict():
    # Two equal differences would give an interval without width.
    _, low, high, _ = paired_seeds.paired_interval(series(1, 2), series(0, 1))
    assert np.isnan([low, high]).all()
    row = {"difference": 1.0, "low": low, "high": high}
    assert paired_seeds.verdict(row, more="more", fewer="fewer", unclear="unclear") == paired_seeds.TOO_FEW
    assert paired_seeds.difference_phrase(row, "{:+.1f}") == "+1.0"


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.1, 2, "more"), (-2, -0.1, "fewer"), (-1, 1, "unclear"), (0, 0, "unclear")]
)
def test_the_verdict_is_where_the_interval_lies(low: float, high: float, word: str):
    row = {"difference": (low + high) / 2, "low": low, "high": high}
    assert paired_seeds.verdict(row, more="more", fewer="fewer", unclear="unclear") == word
