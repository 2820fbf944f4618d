"""Data sets (CIFAR-10, scikit-learn's digits, image folders) and their splits."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from study.config import BUNDLED, IMAGE_SIZE, DataConfig
from study.errors import StudyError
from study.home import Home
from study.images import Labelled, normalise
from study.names import LONGEST_FOLDER_NAME
from study.sources.cifar10 import load_cifar10
from study.sources.decoded import Decoded, Say, is_large, load_cache
from study.sources.folders import folder_of
from study.sources.image_folder import Progress, load_folder
from study.system import interruption

__all__ = ["Dataset", "Labelled", "Splits", "load_dataset", "normalise"]

TEST_FRACTION = 0.2
"""Fraction held out for testing if a source has no test images."""


@dataclass(frozen=True, eq=False)
class Splits:
    """Training and validation split, as rows of the same images."""

    images: Labelled
    train_rows: torch.Tensor
    """Rows of the training split in `images`: int64, ascending."""
    validation_rows: torch.Tensor

    @property
    def train(self) -> Labelled:
        """A copy of the training split."""
        return self.images.subset(self.train_rows)

    @property
    def validation(self) -> Labelled:
        """A copy of the validation split."""
        return self.images.subset(self.validation_rows)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named set of training and test images."""

    config: DataConfig
    """Settings that it was loaded with; they define its splits."""
    name: str
    """`cifar10`, `digits` or the image folder's name."""
    key: str
    """Name of its experiment in MLflow and prefix of its searches: `name`, for a folder with digits of the digest; with
    the size of the images where it is not the default."""
    digest: str
    """SHA-256 of pixels, labels and class names before a test set is held out; independent of the folder's path."""
    classes: tuple[str, ...]
    """The class names, by label."""
    train: Labelled
    """All training images."""
    test: Labelled
    source: str
    """Origin of the images and of the test split, as a phrase."""
    kept_for_validation: int = 0
    """Number of images that the source keeps for validation, the last of `train`; 0: the split is drawn."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """The unreadable files that were skipped: path within the folder, and why."""
    transparent: int = 0
    """The number of image files with transparent pixels, which are shown on `BACKGROUND`."""
    left_out: str = ""
    """Sentences on what is not read of an image folder: other contents, unreadable files, further pages."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By `train` and `test`, the file of each image: its path within the folder; empty where that is not known."""
    cache: Path | None = None
    """The file of decoded images that it was loaded from, or written to."""

    @property
    def skipped(self) -> int:
        """Number of unreadable files that were skipped."""
        return len(self.unreadable)

    @property
    def side(self) -> int:
        """Side of its images, in pixels."""
        return self.config.image_size

    def file_of(self, spec: str) -> str:
        """The file of an image, named as ``"train:6"``; empty where that is not known."""
        part, _, index = spec.partition(":")
        return self.files[part][int(index)] if self.files else ""

    @cached_property
    def splits(self) -> Splits:
        """The training images, split into training and validation: as the source does, or stratified and seeded.

        Raises:
            StudyError: where a class, or the set, is too small to be split.
        """
        if self.kept_for_validation:
            rows = torch.arange(len(self.train))
            return Splits(self.train, rows[: -self.kept_for_validation], rows[-self.kept_for_validation :])
        held_out = self.config.validation_fraction, self.config.split_seed, "validation"
        return Splits(self.train, *_hold_out(self.train, self.classes, *held_out))


def load_dataset(
    config: DataConfig,
    home: Home,
    say: Say = lambda text: None,
    progress: Progress | None = None,
    *,
    cache: Path | None = None,
) -> Dataset:
    """Loads the data set `config.dataset`, downloading it if needed.

    Args:
        config: the data set, the size of its images, the split seed, and whether to skip unreadable files.
        home: its data folder holds downloads and decoded images.
        say: called with a sentence for whatever takes long or is unusual.
        progress: called with the number of decoded files and their total.
        cache: cache file of decoded images that the caller has checked against the image files, which are then not
            hashed again. By default, a cache file is used only if it matches the content of every image file.

    Raises:
        StudyError: for an unknown name, a failed download, or a folder without the required contents.
    """
    interruption.check()
    side = config.image_size
    if config.dataset == "digits":
        digits = _digits(side)
        source = f"scikit-learn's digits, upsampled to {side}×{side}"
        return _dataset(config, say, "digits", source, digits, digits.digest())
    cached = load_cache(cache) if cache else None
    if config.dataset == "cifar10":
        source = "CIFAR-10 (torchvision)" + ("" if side == IMAGE_SIZE else f", resized to {side}×{side}")
        return _dataset(config, say, "cifar10", source, *(cached or load_cifar10(home, say, side)))
    root = folder_of(config.dataset)
    if (length := len(root.name.encode())) > LONGEST_FOLDER_NAME:
        raise StudyError(
            f"The folder name {root.name[:20]}… has {length} bytes, and runs are called after it: rename it to at most "
            f"{LONGEST_FOLDER_NAME}."
        )
    ours = (home.data, home.store, home.reports)
    folder = cached or load_folder(root, home.data / "cache", config.skip_unreadable, say, progress, ours, side=side)
    name = re.sub(r"[^\w.-]", "-", root.name)  # the model registry takes neither / nor :
    return _dataset(config, say, name, f"image folder {root}, resized to {side}×{side} where needed", *folder)


def _dataset(config: DataConfig, say: Say, name: str, source: str, decoded: Decoded, digest: str) -> Dataset:
    if folder := decoded.train.on_disk:
        count = sum(map(len, decoded.parts.values()))
        if is_large(count, config.image_size):
            say(
                f"{count:,} images of {config.image_size} × {config.image_size} pixels are more than the free memory "
                f"has room for: they are read from {folder} whenever they are needed."
            )
        else:
            decoded = decoded.in_memory()
    train, test, files = decoded.train, decoded.test, dict(decoded.files)
    if test is None:
        rest, held_out = _hold_out(train, decoded.classes, TEST_FRACTION, config.split_seed, "test")
        train, test = train.subset(rest), train.subset(held_out)
        if files:
            files |= {
                part: [files["train"][row] for row in rows] for part, rows in (("test", held_out), ("train", rest))
            }
        source += ", test = seeded stratified fifth of train"
    if decoded.validation is not None:
        train = train.joined(decoded.validation)
        if files:
            files["train"] = [*files["train"], *files.pop("validation")]
        source += ", validation images of its own"
    return Dataset(
        config=config,
        name=name,
        key=_key(config, name, digest),
        digest=digest,
        classes=decoded.classes,
        train=train,
        test=test,
        source=source,
        kept_for_validation=len(decoded.validation) if decoded.validation else 0,
        unreadable=decoded.unreadable,
        transparent=decoded.transparent,
        left_out=decoded.left_out,
        files=files,
        cache=decoded.cache,
    )


def _key(config: DataConfig, name: str, digest: str) -> str:
    key = name if config.dataset in BUNDLED else f"{name}-{digest[:8]}"
    return key if config.image_size == IMAGE_SIZE else f"{key}-{config.image_size}px"


def _hold_out(
    images: Labelled, classes: tuple[str, ...], fraction: float, seed: int, what: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stratified split: ascending rows of the rest, and of the `fraction` held out."""
    from sklearn.model_selection import train_test_split

    counts = torch.bincount(images.labels, minlength=len(classes))
    if counts.min() < 2:
        raise StudyError(
            f"Class {classes[int(counts.argmin())]!r} has {int(counts.min())} of the images to be split into training "
            f"and {what} images: it needs at least 2, so add images of it, or take its folder out."
        )
    held = math.ceil(fraction * len(images))
    if min(held, len(images) - held) < len(classes):
        plural = "s" if held > 1 else ""
        raise StudyError(
            f"{len(images)} images split into {len(images) - held} training and {held} {what} image{plural}: each side "
            f"needs at least one for each of the {len(classes)} classes, so add images."
        )
    rest, held_out = train_test_split(
        np.arange(len(images)), test_size=held, stratify=images.labels.numpy(), random_state=seed
    )
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(held_out))


def _digits(side: int) -> Decoded:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))
    nearest = torch.arange(side) * grey.shape[-1] // side
    enlarged = grey[:, nearest[:, None], nearest]
    images = enlarged[:, None].repeat(1, 3, 1, 1)
    labelled = Labelled(images, torch.from_numpy(digits.target).long()).channels_last()
    return Decoded(tuple(map(str, digits.target_names)), labelled)
