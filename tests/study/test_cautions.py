"""What is said of a data set before its accuracies are read: nothing of many equal classes, else the numbers."""

from dataclasses import replace

import pytest
import torch

from study.cautions import baseline, cautions, warmup_caution
from study.config import DataConfig, TrainConfig
from study.data import Dataset
from study.images import Labelled


def labelled(*counts: int) -> Labelled:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Labelled(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), labels)


def dataset(train: Labelled, test: Labelled, **more: int) -> Dataset:
    config = DataConfig(dataset="photos")
    return Dataset(config=config, name="p", key="p", digest="", classes=("cat", "dog"), train=train, test=test,
                   source="", **more)  # fmt: skip


def test_of_many_images_of_equal_classes_nothing_is_said():
    assert cautions(dataset(labelled(500, 500), labelled(50, 50))) == []
    assert cautions(dataset(labelled(600, 500), labelled(9, 1))) == []


def test_few_validation_images_are_counted_drawn_or_kept_apart():
    drawn, steps = cautions(dataset(labelled(100, 100), labelled(5, 5)))
    assert steps.startswith("An epoch has 1 optimiser step (180 training images in batches of 200): a few epochs")
    assert "only 20 validation images, each 5.0 percentage points" in drawn
    kept = dataset(labelled(500, 500), labelled(5, 5), kept_for_validation=25)
    few, absent = cautions(kept)
    assert "only 25 validation images, each 4.0 percentage points" in few
    assert absent == "No validation image is of “cat”."


def test_unequal_classes_are_named_with_the_accuracy_of_the_most_frequent():
    [sentence] = cautions(dataset(labelled(1500, 300), labelled(30, 10)))
    assert "“cat” has 1,350 training images, “dog” 270" in sentence
    assert sentence.endswith("Always answering “cat” has a test accuracy of 0.7500.")


def test_unequal_classes_are_counted_without_the_images_kept_for_validation():
    unequal = dataset(labelled(300, 1000), labelled(50, 50), kept_for_validation=300)
    assert "“dog” has 700 training images, “cat” 300; read" in cautions(unequal)[0]


def test_a_class_without_test_images_is_named():
    images = dataset(labelled(500, 500), labelled(0, 7))
    assert cautions(images) == ["No test image is of “cat”."]


@pytest.mark.parametrize(("train", "expected"), [((9, 5), 0.2), ((5, 9), 0.8)])
def test_the_baseline_is_the_class_that_is_most_frequent_in_training(train: tuple[int, int], expected: float):
    images = dataset(labelled(*train), labelled(2, 8))
    assert baseline(replace(images, name="other")).endswith(f"has a test accuracy of {expected:.4f}.")


@pytest.mark.parametrize(("warmup", "is_said"), [(0, False), (14, False), (15, True), (1000, True)])
def test_a_warm_up_as_long_as_the_training_is_said_with_both_numbers(warmup: int, is_said: bool):
    """Of 900 images in batches of 200 an epoch has 5 steps."""
    sentence = warmup_caution(TrainConfig(epochs=3, warmup_steps=warmup), 900)
    assert sentence.startswith(f"The warm-up takes {warmup:,} steps, and a whole training has 15: ") is is_said
    assert bool(sentence) is is_said
