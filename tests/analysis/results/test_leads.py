import numpy as np
import pytest

from analysis.results import leads

LABELS = np.repeat([0, 1, 2], [5, 20, 3])


def test_every_resample_has_as_many_images_of_each_class_as_there_are():
    drawn = np.concatenate(list(leads.weights(LABELS, 50)))
    assert drawn.shape == (50, len(LABELS))
    for label in range(3):
        assert (drawn[:, label == LABELS].sum(axis=1) == (label == LABELS).sum()).all()
    assert drawn.mean(axis=0) == pytest.approx(1, abs=0.6)


def test_drawing_in_small_parts_changes_nothing_but_the_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leads, "DRAWN_AT_ONCE", 3 * len(LABELS))
    parts = list(leads.weights(LABELS, 7))
    assert [len(part) for part in parts] == [3, 3, 1]


def test_the_sums_of_a_class_spread_like_means_of_so_many_images():
    values = np.random.default_rng(0).normal(size=len(LABELS))
    of_class = np.where(LABELS == 1, values / 20, 0)
    sums = leads.sums(LABELS, of_class[:, None])[:, 0]
    assert sums.mean() == pytest.approx(of_class.sum(), abs=0.02)
    assert sums.std() == pytest.approx(values[LABELS == 1].std() / np.sqrt(20), rel=0.1)


def test_equal_measures_share_a_resample_and_undefined_ones_never_lead():
    resampled = np.array([[1.0, 2.0, 2.0, np.nan], [3.0, 2.0, 0.0, np.nan]])
    assert leads.lead_shares(resampled).tolist() == [0.5, 0.25, 0.25, 0]


@pytest.mark.parametrize(
    ("shares", "leaders", "expected"),
    [
        ([0.96, 0.04], [0], []),
        ([0.5, 0.1, 0.4], [0], [2, 1]),
        ([0.5, 0.04, 0.46], [0], [2]),
        ([0.1, 0.0, 0.9], [0], [2]),
        ([0.5, 0.5, 0.0], [0, 1], []),
    ],
)
def test_the_tied_are_the_fewest_that_lead_together(shares: list[float], leaders: list[int], expected: list[int]):
    assert leads.tied(np.array(shares), leaders) == expected


def test_the_clause_names_the_tied():
    assert leads.tie_clause([]) == ""
    assert leads.tie_clause(["cat"]) == ", tied with cat"
    assert leads.tie_clause(["3", "5"], "filter") == ", tied with filters 3 and 5"
