"""Exact duplicates between splits and classes: counted as a plain comparison of all pairs counts them."""

import itertools

import numpy as np
import pytest
import torch

from study.duplicates import LEAKED, find_duplicates
from study.images import Labelled

VALIDATION = "validation images equal to a training image"
CLASSES = "images in two or more classes"
REPEATED = "training or validation images that repeat another"


def images_of(*numbers: int, labels: list[int] | None = None) -> Labelled:
    """Images that are equal where their numbers are; they differ in one value of one pixel."""
    images = torch.full((len(numbers), 3, 32, 32), 7, dtype=torch.uint8)
    images[:, 2, 31, 31] = torch.tensor(numbers, dtype=torch.uint8)
    return Labelled(images, torch.tensor(labels or [0] * len(numbers)))


def test_where_all_images_differ_there_are_none():
    duplicates = find_duplicates(images_of(1, 2, 3), images_of(4, 5), torch.tensor([0]))
    assert duplicates.counts == {}
    assert str(duplicates) == "none"
    assert duplicates.leaked == 0
    assert duplicates.is_doubtful.tolist() == [False, False]
    assert duplicates.names == ()


def test_each_kind_is_counted_and_the_images_are_named():
    train, test = images_of(1, 2, 2, 3, 4, labels=[0, 0, 1, 0, 1]), images_of(1, 1, 9, 4, 8, labels=[0, 0, 0, 1, 1])
    duplicates = find_duplicates(train, test, torch.tensor([1, 4]))
    assert duplicates.counts == {
        LEAKED: (3, 5),
        VALIDATION: (1, 2),
        CLASSES: (2, 10),
        REPEATED: (1, 5),
        "test images that repeat another": (1, 5),
    }
    assert duplicates.leaked == 3
    assert str(duplicates).startswith(f"3 of 5 {LEAKED}, 1 of 2 {VALIDATION}, ")
    assert duplicates.is_doubtful.tolist() == [True, True, False, True, False]
    assert duplicates.names == ("train:0", "train:1", "train:2", "train:4", "test:0", "test:1", "test:3")
    assert duplicates.groups.tolist() == duplicates.groups[[0, 1, 1, 3, 0, 0, 3]].tolist()
    assert len(set(duplicates.groups.tolist())) == 3
    assert duplicates.labels.tolist() == [0, 0, 1, 1, 0, 0, 1]


def test_a_test_image_in_two_classes_is_doubtful_though_no_training_image_is_equal():
    duplicates = find_duplicates(images_of(1, 2), images_of(3, 3, 4, labels=[0, 1, 1]))
    assert duplicates.is_doubtful.tolist() == [True, True, False]
    assert duplicates.leaked == 0
    assert duplicates.counts[CLASSES] == (2, 5)


def test_the_layout_in_memory_plays_no_part():
    train, test = images_of(*range(5)), images_of(3, 4, 7)
    assert find_duplicates(train.channels_last(), test).counts == find_duplicates(train, test.channels_last()).counts
    assert find_duplicates(train, test).leaked == 2


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_comparing_every_pair(seed: int):
    rng = np.random.default_rng(seed)
    numbers, labels = rng.integers(0, 60, 70), rng.integers(0, 3, 70)
    train = images_of(*numbers[:50], labels=labels[:50].tolist())
    test = images_of(*numbers[50:], labels=labels[50:].tolist())
    validation = set(rng.choice(50, 10, replace=False).tolist())
    pairs = [(a, b) for a, b in itertools.permutations(range(70), 2) if numbers[a] == numbers[b]]
    duplicates = find_duplicates(train, test, torch.tensor(sorted(validation)))
    expected = {
        LEAKED: len({a for a, b in pairs if a >= 50 > b}),
        VALIDATION: len({a for a, b in pairs if a in validation and b < 50 and b not in validation}),
        CLASSES: len({a for a, b in pairs if labels[a] != labels[b]}),
        REPEATED: len({a for a, b in pairs if b < a < 50}),
        "test images that repeat another": len({a for a, b in pairs if a > b >= 50}),
    }
    assert {kind: count for kind, (count, _) in duplicates.counts.items()} == {k: v for k, v in expected.items() if v}
    assert len(duplicates.names) == len({a for a, _ in pairs})
