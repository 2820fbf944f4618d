"""Exact duplicates: images with equal pixels, in two splits or in two classes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from study.images import Labelled

LEAKED = "test images equal to a training or validation image"


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The exact duplicates of a data set; an image of which there is no second one is no part of them."""

    counts: Mapping[str, tuple[int, int]]
    """By kind, how many images, and of how many; only the kinds that occur."""
    is_doubtful: np.ndarray
    """For each test image, whether its pixels are also among the training images, or in another class."""
    names: tuple[str, ...]
    """The images that have duplicates as `--image` takes them, e.g. ``"train:6"``."""
    labels: np.ndarray
    """The class of each of them."""
    groups: np.ndarray
    """A number for each of them; those with one number are equal."""

    @property
    def leaked(self) -> int:
        """The number of test images that are also training images."""
        return self.counts.get(LEAKED, (0, 0))[0]

    def __str__(self) -> str:
        """How many there are of each kind, e.g. ``"2 of 40 images in two or more classes"``."""
        return ", ".join(f"{count:,} of {total:,} {kind}" for kind, (count, total) in self.counts.items()) or "none"


def find_duplicates(train: Labelled, test: Labelled, validation_rows: torch.Tensor | None = None) -> Duplicates:
    """Compares the pixels of all images, as they are after decoding; 60,000 images take half a second.

    Args:
        train: all training images.
        test: the test images.
        validation_rows: which of the training images are held out for validation, where any are.
    """
    is_test = np.repeat([False, True], [len(train), len(test)])
    is_validation = np.zeros_like(is_test)
    if validation_rows is not None:
        is_validation[validation_rows.numpy()] = True
    is_train = ~is_test & ~is_validation
    labels = np.concatenate([train.labels.numpy(), test.labels.numpy()])
    hashes = np.concatenate([_hashes(train.images), _hashes(test.images)])
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)

    def occurs(rows: np.ndarray) -> np.ndarray:
        """For each image, whether an equal one is among `rows`, a mask."""
        return np.isin(group, group[rows])

    in_two_classes = occurs(labels != labels[first][group])
    is_leaked = is_test & occurs(~is_test)
    repeats = np.ones_like(is_test)
    for rows in (is_test, ~is_test):
        repeats[np.flatnonzero(rows)[np.unique(group[rows], return_index=True)[1]]] = False
    counts = {
        LEAKED: (is_leaked, is_test),
        "validation images equal to a training image": (is_validation & occurs(is_train), is_validation),
        "images in two or more classes": (in_two_classes, is_test | ~is_test),
        "training or validation images that repeat another": (repeats & ~is_test, ~is_test),
        "test images that repeat another": (repeats & is_test, is_test),
    }
    rows = np.flatnonzero(np.bincount(group)[group] > 1)
    return Duplicates(
        {kind: (int(marked.sum()), int(of.sum())) for kind, (marked, of) in counts.items() if marked.any()},
        (is_leaked | in_two_classes)[is_test],
        tuple(f"test:{row - len(train)}" if is_test[row] else f"train:{row}" for row in rows),
        labels[rows],
        np.unique(group[rows], return_inverse=True)[1],
    )


def _hashes(images: torch.Tensor) -> np.ndarray:
    """128 bits of each image's pixels, (N,)."""
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    hashes = b"".join(hashlib.blake2b(image, digest_size=16).digest() for image in pixels)
    return np.frombuffer(hashes, dtype="V16")
