"""The choice of one image: of a data set by number, class or file, or any other file."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from study.data import Dataset
from study.errors import StudyError
from study.sources.image_folder import read_image


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
    file: str = ""
    """Its path within the image folder; empty for another one, and where it is not known."""

    @property
    def pixels(self) -> np.ndarray:
        """The image for drawing: uint8, (side, side, 3)."""
        return self.image.permute(1, 2, 0).numpy()


def select_image(dataset: Dataset, spec: str) -> SelectedImage:
    """The image that `spec` names.

    Args:
        dataset: the data set to select from.
        spec: ``"train:6"``, ``"test:12"``, ``"bird"`` (its first training image), ``"bird/3"`` (counted from 0), an
            image file (of an image folder also its path within the folder), or ``"6"`` for ``"train:6"`` where no class
            is called 6; empty: the first bird, where there is none the first class's first image.

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
    if inside := _spec_of(dataset, spec) or _spec_of(dataset, _within(dataset, path)):
        return select_image(dataset, inside)
    if path.is_file():
        return SelectedImage(torch.from_numpy(read_image(path, dataset.side)), None, str(path))
    if re.fullmatch(r"-?\d+", spec):
        return _by_index(dataset, "train", int(spec))
    raise StudyError(
        f"Unknown image {spec!r}: choose train:N, test:N, a class ({', '.join(dataset.classes)}), CLASS/N or "
        "the path of an image file."
    )


def _within(dataset: Dataset, path: Path) -> str:
    # A link in the data set has its own name; the folders above may be reached through links.
    return os.path.relpath(path.parent.resolve() / path.name, Path(dataset.config.dataset).expanduser().resolve())


def _spec_of(dataset: Dataset, file: str) -> str:
    """The image of the data set that `file` within its folder is, as ``"train:6"``; empty where it is none."""
    return next((f"{part}:{names.index(file)}" for part, names in dataset.files.items() if file in names), "")


def _by_index(dataset: Dataset, part: str, index: int) -> SelectedImage:
    images = dataset.train if part == "train" else dataset.test
    _check_range(f"{part}:{index}", index, len(images))
    label = int(images.labels[index])
    description = f"{part} image {index} ({dataset.classes[label]})"
    spec = f"{part}:{index}"
    return SelectedImage(images.images[index], label, description, spec, dataset.file_of(spec))


def _by_class(dataset: Dataset, name: str, place: int) -> SelectedImage:
    members = torch.nonzero(dataset.train.labels == dataset.classes.index(name)).flatten()
    _check_range(f"{name}/{place}", place, len(members))
    return _by_index(dataset, "train", int(members[place]))


def _check_range(spec: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise StudyError(f"There is no image {spec}: choose a number from 0 to {count - 1}.")
