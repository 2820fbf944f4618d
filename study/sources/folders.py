"""Finds the image folder that --dataset names; what is there instead is said."""

import difflib
from pathlib import Path

from study.config import BUNDLED
from study.errors import StudyError, unknown
from study.sources.formats import ARCHIVES, kind_of


def folder_of(dataset: str) -> Path:
    """The image folder that `dataset` names, a value of --dataset that is no bundled data set.

    Raises:
        StudyError: where there is none.
    """
    root = Path(dataset).expanduser().resolve()
    choices = *BUNDLED, "the path of an image folder"
    # An empty path would be that of the current folder.
    if not dataset:
        raise unknown("dataset", dataset, choices)
    if root.is_dir():
        return root
    if root.is_file():
        unpack = "unpack it and give" if kind_of(root) == ARCHIVES else "give"
        raise StudyError(f"{dataset} is a file: {unpack} the folder that holds a folder of images for each class.")
    # Recorded as an absolute path, by which the images may have been moved since.
    is_absolute = Path(dataset).expanduser().is_absolute()
    moved = "; give the present path if the images were moved" if is_absolute else ""
    named = f"{root if is_absolute else f'{dataset!r} in {Path.cwd()}'}{_similar(root)}"
    raise StudyError(f"There is no folder {named}: choose one of {', '.join(choices)}{moved}.")


def _similar(root: Path) -> str:
    """A question with the folder beside `root`, or the bundled data set, that is called almost so; empty for none."""
    names = [*BUNDLED, *(folder.name for folder in root.parent.glob("*/"))]
    alike = difflib.get_close_matches(root.name, names, 1) or [name for name in names if name.startswith(root.name)]
    return f" (is it {alike[0]!r}?)" if alike else ""
