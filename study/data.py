"""Data sets (CIFAR-10, scikit-learn's digits, image folders), their splits, and the choice of one image."""

import math
import re
from collections.abc import Mapping
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
from study.sources.image_folder import Progress, load_folder, read_image
from study.sources.listing import folder_of
from study.system import interruption

__all__ = ["Dataset", "Labelled", "SelectedImage", "Splits", "load_dataset", "normalise", "select_image"]

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
    train, test = decoded.train, decoded.test
    if test is None:
        rest, held_out = _hold_out(train, decoded.classes, TEST_FRACTION, config.split_seed, "test")
        train, test = train.subset(rest), train.subset(held_out)
        source += ", test = seeded stratified fifth of train"
    if decoded.validation is not None:
        train = train.joined(decoded.validation)
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


@dataclass(frozen=True, eq=False)
class SelectedImage:
    """The image under study."""

    image: torch.Tensor
    """uint8, (3, side, side)."""
    label: int | None
    """Number of its class; None for an image file, whose class is unknown."""
    description: str
    """Which image it is, in words: ``"train image 6 (bird)"``, or the path of a file."""
    spec: str = ""
    """What `select_image` takes for an image of the data set, e.g. ``"train:6"``."""

    @property
    def pixels(self) -> np.ndarray:
        """The image for drawing: uint8, (side, side, 3)."""
        return self.image.permute(1, 2, 0).numpy()


def select_image(dataset: Dataset, spec: str) -> SelectedImage:
    """The image that `spec` names.

    Args:
        dataset: the data set to select from.
        spec: ``"train:6"``, ``"test:12"``, ``"bird"`` (its first training image), ``"bird/3"`` (counted from 0), an
            image file, or ``"6"`` for ``"train:6"`` where no class is called 6; empty: the first bird, where there is
            none the first class's first image.

    Raises:
        StudyError: for an index out of range, a file that cannot be read, or anything else.
    """
    spec = spec or ("bird" if "bird" in dataset.classes else dataset.classes[0])
    if match := re.fullmatch(r"(train|test):(-?\d+)", spec):
        return _by_index(dataset, match[1], int(match[2]))
    name, _, place = spec.partition("/")
    if name in dataset.classes and re.fullmatch(r"(|-?\d+)", place):
        return _by_class(dataset, name, int(place or 0))
    path = Path(spec).expanduser()
    if path.is_file():
        return SelectedImage(torch.from_numpy(read_image(path, dataset.side)), None, str(path))
    if re.fullmatch(r"-?\d+", spec):
        return _by_index(dataset, "train", int(spec))
    raise StudyError(
        f"Unknown image {spec!r}: choose train:N, test:N, a class ({', '.join(dataset.classes)}), CLASS/N or "
        "the path of an image file."
    )


def _by_index(dataset: Dataset, part: str, index: int) -> SelectedImage:
    images = dataset.train if part == "train" else dataset.test
    _check_range(f"{part}:{index}", index, len(images))
    label = int(images.labels[index])
    description = f"{part} image {index} ({dataset.classes[label]})"
    return SelectedImage(images.images[index], label, description, f"{part}:{index}")


def _by_class(dataset: Dataset, name: str, place: int) -> SelectedImage:
    members = torch.nonzero(dataset.train.labels == dataset.classes.index(name)).flatten()
    _check_range(f"{name}/{place}", place, len(members))
    return _by_index(dataset, "train", int(members[place]))


def _check_range(spec: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise StudyError(f"There is no image {spec}: choose a number from 0 to {count - 1}.")
