"""What the numbers of a data set cannot show: a small validation split, unequal classes, a baseline to beat."""

import math

import torch

from study.config import TrainConfig
from study.data import Dataset
from study.images import Labelled

FEW = 100
"""Number of validation images below which a caution is said."""
FEW_STEPS = 4
"""Number of optimiser steps in an epoch below which a caution is said."""
UNEQUAL = 2
"""Ratio of the largest class to the smallest from which a caution is said."""


def cautions(dataset: Dataset) -> list[str]:
    """The sentences to be read before the accuracies of `dataset`; none for many images of equal classes."""
    drawn = math.ceil(dataset.config.validation_fraction * len(dataset.train))
    count = dataset.kept_for_validation or drawn
    sentences = []
    are, images = ("is", "image") if count == 1 else ("are", "images")
    if count < FEW:
        sentences.append(
            f"There {are} only {count} validation {images}, each {100 / count:.1f} percentage points of the accuracy "
            "that chooses the settings: closer trials are as good as tied."
        )
    trained = len(dataset.train) - count
    if (steps := math.ceil(trained / TrainConfig.batch_size)) < FEW_STEPS:
        sentences.append(
            f"An epoch has {steps} optimiser step{'s' * (steps != 1)} ({trained:,} training images in batches of "
            f"{TrainConfig.batch_size}): a few epochs hardly train a network."
        )
    # Of the training split, as `study data` counts them, without the validation images.
    sizes = torch.bincount(dataset.train.labels[dataset.splits.train_rows], minlength=len(dataset.classes))
    large, small = int(sizes.argmax()), int(sizes.argmin())
    if sizes[large] >= UNEQUAL * sizes[small]:
        sentences.append(
            f"The classes are unequal: “{dataset.classes[large]}” has {int(sizes[large]):,} training images, "
            f"“{dataset.classes[small]}” {int(sizes[small]):,}; read the balanced accuracy too. {baseline(dataset)}"
        )
    kept = dataset.train.labels[len(dataset.train) - dataset.kept_for_validation :]
    for name, labels in {"validation": kept, "test": dataset.test.labels}.items():
        if absent := set(range(len(dataset.classes))) - set(labels.tolist()) if len(labels) else ():
            sentences.append(
                f"No {name} image is of {', '.join(f'“{dataset.classes[label]}”' for label in sorted(absent))}."
            )
    return sentences


def warmup_caution(config: TrainConfig, images: int) -> str:
    """A sentence where a training on so many images is over before its warm-up; else empty."""
    steps = config.steps(images)
    if config.warmup_steps < steps:
        return ""
    return (
        f"The warm-up takes {config.warmup_steps:,} steps, and a whole training has {steps:,}: it ends while the "
        "learning rate still rises, and says little of these settings; raise --epochs."
    )


def baseline(dataset: Dataset) -> str:
    """A sentence with the test accuracy of always answering the most frequent class of the training images."""
    label = int(torch.bincount(dataset.train.labels).argmax())
    return f"Always answering “{dataset.classes[label]}” has a test accuracy of {share(dataset.test, label):.4f}."


def share(images: Labelled, label: int) -> float:
    """The share of `images` that are of the class."""
    return float((images.labels == label).double().mean())
