import re

import numpy as np
import pytest

from analysis.explanations import confusions
from tests.support.legibility import problems_on_screens

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
    assert exhibit.text.endswith(
        "their mean share falls furthest below that of those recognised in filter 2 (−4.00 ± 0.00)."
    )


def test_of_a_single_image_no_mean_is_said():
    shares = np.zeros((9, 4, 3))
    shares[2, 2, 0] = -1.0
    predicted = np.where(np.arange(9) == 2, 1, LABELS)
    assert confusions.show(shares, predicted, LABELS, ["a cat", "dog", "ship"]).text == (
        "1 image of “a cat” called dog: its margin of “a cat” over dog is −1.00 logits from the mean; its share falls "
        "furthest below that of those recognised in filter 2 (−1.00), as far as one image tells."
    )


def test_intervals_stand_beside_the_differences():
    shares = np.zeros((9, 4, 3))
    shares[:2, 1, 0] = (3.0, 5.0)
    shares[2:5, 1, 0] = (0.0, 1.0, 2.0)
    shares[2:5, 3, 0] = -1.0
    # Standard errors: 1 of the two recognised images, 1 / √3 of the three mistaken ones.
    text = confusions.show(shares, PREDICTED, LABELS, CLASSES).text
    assert text.endswith("recognised in filter 1 (−3.00 ± 2.26); next: filter 3 (−1.00 ± 0.00).")


def test_filters_that_resamples_do_not_tell_from_the_lowest_are_tied_with_it():
    labels = np.zeros(40, int)
    predicted = np.repeat([0, 1], 20)
    shares = np.zeros((40, 4, 2))
    # The means of filters 1 and 3 differ by less than their standard errors; that of filter 2 is far from both.
    shares[20:, 1, 0] = np.linspace(-6, 0, 20)
    shares[20:, 3, 0] = np.linspace(0, -5.8, 20)
    shares[20:, 2, 0] = -0.5

    exhibit = confusions.show(shares, predicted, labels, CLASSES[:2])

    assert re.search(
        r"recognised in filter 1 \(−3\.00 ± 0\.8\d\), tied with filter 3; next: filter 2 \(−0\.50 ± 0\.00\)\.$",
        exhibit.text,
    )
    mistaken = exhibit.table.query("group == 'cat called dog'").set_index("filter")["lowest"]
    assert 0.1 < mistaken[3] < 0.5 < mistaken[1] < 0.9
    assert mistaken[2] == mistaken[0] == 0


def test_nothing_is_said_to_be_lacking_where_nothing_is_less():
    shares = np.zeros((9, 4, 3))
    shares[2:5, 2, 0] = 1.0
    assert "in no filter is their mean share below" in confusions.show(shares, PREDICTED, LABELS, CLASSES).text


def test_a_class_that_is_never_recognised_is_not_compared_with_what_is_recognised():
    predicted = np.where(LABELS == 0, 1, LABELS)
    exhibit = confusions.show(SHARES, predicted, LABELS, CLASSES)
    assert exhibit.text.endswith("; no image of cat is recognised.")
    assert exhibit.figure is not None


def test_without_mistakes_it_says_so():
    assert confusions.show(SHARES, LABELS, LABELS, CLASSES).figure is None


def test_the_figure_is_legible_on_wide_and_narrow_screens():
    long = ["a cat that has come all the way from the far north", "a dog that has never been seen before", "ship"]
    for classes in (CLASSES, long):
        exhibit = confusions.show(np.repeat(SHARES, 16, axis=1), PREDICTED, LABELS, classes)
        assert problems_on_screens(exhibit.figure) == []
