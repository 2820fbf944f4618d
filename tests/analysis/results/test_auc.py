import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis.results import leads
from analysis.results.auc import auc_contributions

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 400)
SCORES = (RNG.normal(size=(400, 3)) + 0.7 * np.eye(3)[LABELS]).round(1)
"""Rounded, so that many are equal."""


def test_the_contributions_sum_to_scikit_learns_auc():
    expected = [roc_auc_score(label == LABELS, SCORES[:, label]) for label in range(3)]
    assert auc_contributions(SCORES, LABELS).sum(axis=0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_their_sums_over_resamples_spread_like_scikit_learns_aucs():
    ours = leads.sums(LABELS, auc_contributions(SCORES, LABELS))
    rng, members = np.random.default_rng(1), [np.flatnonzero(label == LABELS) for label in range(3)]
    expected = []
    for _ in range(400):
        drawn = np.concatenate([rng.choice(rows, len(rows)) for rows in members])
        expected.append([roc_auc_score(LABELS[drawn] == label, SCORES[drawn, label]) for label in range(3)])
    assert ours.mean(axis=0) == pytest.approx(np.mean(expected, axis=0), abs=0.003)
    assert ours.std(axis=0) == pytest.approx(np.std(expected, axis=0), rel=0.12)


def test_a_class_with_all_images_or_none_has_no_auc():
    contributions = auc_contributions(SCORES, np.zeros(400, int))
    assert np.isnan(contributions).all()
    contributions = auc_contributions(SCORES, LABELS % 2)
    assert np.isnan(contributions).all(axis=0).tolist() == [False, False, True]
