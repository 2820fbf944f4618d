import numpy as np
import pytest

from analysis.explanations import confusions

CLASSES = ["cat", "dog", "ship"]
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 2, 1])
PREDICTED = np.array([0, 0, 1, 1, 1, 1, 0, 2, 0])
SHARES = np.random.default_rng(0).normal(size=(9, 4, 3))


def test_of_each_pair_of_classes_the_more_frequent_confusion_counts():
    assert confusions.most_frequent(PREDICTED, LABELS, 3) == [(0, 1)]
    assert confusions.most_frequent(LABELS, LABELS, 3) == []


def test_shares_are_means_of_the_margin_of_each_group_and_sum_to_the_mean_margin():
    table = confusions.confusions(SHARES, PREDICTED, LABELS, CLASSES)

    mistaken = table[table["group"] == "cat called dog"]
    expected = (SHARES[2:5, :, 0] - SHARES[2:5, :, 1]).mean(axis=0)
    assert mistaken["share"].to_numpy() == pytest.approx(expected)
    assert mistaken["sum"].iloc[0] == pytest.approx(expected.sum())
    assert set(zip(table["group"], table["images"], strict=True)) == {
        ("cat called cat", 2),
        ("cat called dog", 3),
        ("dog called dog", 1),
    }


def test_caption_names_the_filters_that_the_mistaken_images_lack():
    shares = np.zeros((9, 4, 3))
    shares[:2, 2, 0] = 3.0
    shares[2:5, 2, 0] = -1.0

    exhibit = confusions.show(shares, PREDICTED, LABELS, CLASSES)

    assert "3 images of cat called dog" in exhibit.text
    assert "lack most in the filters 2, " in exhibit.text
    assert "(−4.00, " in exhibit.text


def test_without_mistakes_it_says_so():
    assert confusions.show(SHARES, LABELS, LABELS, CLASSES).figure is None
