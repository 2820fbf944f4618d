"""What lies in an image folder: the images by part and class, and what is left out and why."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.errors import StudyError, require
from study.sources.formats import ARCHIVES, IGNORED, IMAGES, OTHER, SUFFIXES, could_be_image, kind_of
from study.system.redaction import one_line

MOST_NAMED = 5
"""Most classes without images that an error names."""
VALIDATION = ("val", "valid", "validation")
"""Names of the folder of validation images."""
PARTS = ("train", *VALIDATION, "test")
"""The folders whose sub-folders are classes."""
LIKE_TRAIN = ("train", "training")
LIKE_VALIDATION = (*VALIDATION, "dev")
"""Names, in any case, of folders that are probably validation images."""
LIKE_TEST = ("test", "tests", "testing", "eval")
"""Names, in any case, of folders that are probably test images and are not called `test`."""
CLUTTER = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__")
"""Folders of thumbnails, caches or deleted files, which file managers and servers make; they count as hidden."""
RENAME = "rename it to use them"
"""Advice on a folder whose name is almost that of a part."""
MOST_REASONS = 8
"""Maximum number of reasons that are named."""

Files = Mapping[str, Mapping[str, Sequence[Path]]]
"""Image files by part (train, validation, test) and class."""


class LeftOut:
    """Counts what is not read of the data set below `root`, by reason."""

    def __init__(self, root: Path):
        self._root = root
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, reason: str, path: Path) -> None:
        """Counts `path`; `reason` says in the plural what it is, e.g. ``"hidden images"``."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        if reason not in self._examples:
            self._examples[reason] = os.path.relpath(path, self._root)

    def __str__(self) -> str:
        """The reasons with their counts and an example each; empty where nothing was left out."""
        # First what the user can mend, then what most files are left out for.
        counts = sorted(self._counts.items(), key=lambda item: (RENAME not in item[0], -item[1]))
        named = [
            f"{reason} ({count:,}{':' if count == 1 else ', e.g.'} {self._examples[reason]})"
            for reason, count in counts[:MOST_REASONS]
        ]
        others = [count for _, count in counts[MOST_REASONS:]]
        more = [f"and {sum(others):,} more for {len(others)} other reasons"] if others else []
        return one_line("; ".join(named + more))


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of an image folder."""

    files: Files
    left_out: str = ""
    """What is not read, and what is read otherwise than one may think: a line; empty for a folder in order."""

    @property
    def every(self) -> list[Path]:
        """All image files, in the order of parts, classes and names."""
        return [file for classes in self.files.values() for files in classes.values() for file in files]


@dataclass(frozen=True, eq=False)
class _Lister:
    """Lists the image folder `root`, and counts what is left out."""

    root: Path
    left_out: LeftOut
    nested: LeftOut
    """The images in sub-folders of a class's folder."""
    ours: Collection[Path]
    """Folders that this program writes, of which nothing is said."""

    def part(self, folder: Path) -> dict[str, list[Path]]:
        """The images of a folder of class folders, by class."""
        classes = list[Path]()
        for entry in _entries(folder):
            if entry in self.ours:
                continue
            if entry.is_dir() and not _is_hidden(entry.name):
                classes.append(entry)
            else:
                self.aside(entry)
        if not classes:
            raise StudyError(f"{folder} holds no class folders: put each class's images in a folder of its name.")
        listing = {folder.name: self.images(folder) for folder in classes}
        if empty := [name for name, files in listing.items() if not files]:
            names = ", ".join(empty[:MOST_NAMED])
            if len(empty) > MOST_NAMED:
                names += f" and {len(empty) - MOST_NAMED} more"
            left_out = f"; not read: {self.left_out}" if str(self.left_out) else ""
            raise StudyError(f"{folder} has no image ({', '.join(SUFFIXES)}) of the classes: {names}{left_out}.")
        return listing

    def images(self, folder: Path, is_every: bool = False) -> list[Path]:
        """The images below a class's folder, also behind links, since many a data set is one.

        With `is_every`, what no one takes for an image counts as left out too.
        """
        images: list[Path] = []
        for parent, is_hidden, names in self._walk(folder, followlinks=True):
            for path in (parent / name for name in names):
                if is_hidden or _is_hidden(path.name):
                    self._count_hidden(path, is_hidden)
                elif (kind := kind_of(path)) == IMAGES:
                    images.append(path)
                    if parent != folder:
                        self.nested.add("Images in sub-folders", path)
                elif kind != IGNORED or is_every:
                    self.left_out.add(kind or OTHER, path)
        return images

    def aside(self, entry: Path) -> None:
        """Counts what could be images in a file or folder that is of no class."""
        if not entry.is_dir():
            self._count(entry, False, "in no class folder")
            return
        where = f"in {_advice(entry, self.root)}"
        for parent, is_hidden, names in self._walk(entry):
            for name in names:
                self._count(parent / name, is_hidden, where)

    def _count(self, path: Path, in_hidden: bool, where: str) -> None:
        if in_hidden or _is_hidden(path.name):
            self._count_hidden(path, in_hidden)
        elif (kind := kind_of(path)) not in (IGNORED, OTHER):
            self.left_out.add(kind if kind == ARCHIVES else f"{kind} {where}", path)

    def _count_hidden(self, path: Path, in_hidden: bool) -> None:
        # Hidden folders hold anything. What is named as an image is looked into: beside each, macOS hides a file of
        # its own with the same ending.
        if not in_hidden or could_be_image(path):
            kind = kind_of(path, trust_ending=False)
            if kind.endswith(IMAGES):
                self.left_out.add(f"hidden {kind}", path)

    def _walk(self, folder: Path, followlinks: bool = False) -> Iterator[tuple[Path, bool, list[str]]]:
        """The folders from `folder` on, each entered once, whether they are hidden, and the names of their files."""

        def skip(error: OSError) -> None:
            reason = (error.strerror or str(error)).lower()
            self.left_out.add(f"folders that cannot be opened, {reason}", Path(error.filename))

        # A link to a folder above would be followed for ever, and two of them double the ways at every step.
        parts = () if followlinks else _part_folders(self.root).values()
        entered = {os.path.realpath(part) for part in parts}
        hidden: set[Path] = set()
        for name, folders, files in os.walk(folder, followlinks=followlinks, onerror=skip):
            parent, real = Path(name), os.path.realpath(name)
            if real in entered or self._root_is_in(real):
                folders.clear()
                self.left_out.add("links to folders that are read already", parent)
                continue
            entered.add(real)
            folders.sort()
            if (_is_hidden(parent.name) and not (followlinks and parent == folder)) or parent.parent in hidden:
                hidden.add(parent)
            yield parent, parent in hidden, sorted(files)

    def _root_is_in(self, folder: str) -> bool:
        return os.path.commonpath([os.path.realpath(self.root), folder]) == folder


def list_folder(root: Path, ours: Collection[Path] = ()) -> Listing:
    """The image files of an image folder; hidden ones are left out.

    Args:
        root: the image folder: `train/<class>/` and, if they are there, `val/<class>/` (or another of `VALIDATION`) and
            `test/<class>/`; or `<class>/` alone.
        ours: folders that this program writes, of which nothing is said.

    Raises:
        StudyError: for a missing `train/`, fewer than two classes, an empty class, or another part's class without
            training.
    """
    folders = _folders(root, ours)
    lister = _Lister(root, LeftOut(root), LeftOut(root), ours)
    files = {part: lister.part(folder) for part, folder in folders.items()}
    if len(files["train"]) < 2:
        raise StudyError(f"{folders['train']} holds the one class {next(iter(files['train']))!r}: training needs two.")
    for part, folder in folders.items():
        if strangers := sorted(set(files[part]) - set(files["train"])):
            raise StudyError(
                f"{folder} holds classes that train/ does not: {', '.join(strangers)}; move images of them to train/, "
                "or leave them out."
            )
    for entry in _entries(root) if folders["train"] != root else ():
        if entry not in folders.values() and entry not in ours:
            lister.aside(entry)
    lines = [f"Not read in {one_line(root.name)}: {lister.left_out}." if str(lister.left_out) else ""]
    lines += [f"{lister.nested} belong to the class folder above them." if str(lister.nested) else ""]
    return Listing(files, " ".join(filter(None, lines)))


def images_below(folder: Path) -> tuple[list[Path], str]:
    """The images in `folder` and the folders below it, and a sentence on what is not read; empty where all is."""
    real = folder.resolve()
    left_out = LeftOut(folder)
    # Of the folder above, as a class's folder is.
    images = _Lister(real.parent, left_out, LeftOut(folder), ()).images(folder, is_every=True)
    return sorted(images), f"Not read in {one_line(real.name)}: {left_out}." if str(left_out) else ""


def _folders(root: Path, ours: Collection[Path]) -> dict[str, Path]:
    """The folder of each part; of a folder of classes alone, itself as that of the training images."""
    parts = _part_folders(root)
    kept = [parts[name] for name in VALIDATION if name in parts]
    if len(kept) > 1:
        listed = " and ".join(f"{folder.name}/" for folder in kept)
        raise StudyError(f"{root} holds {listed}: keep the validation images in one of them.")
    if "train" in parts:
        found = {"train": parts["train"], "validation": kept[0] if kept else None, "test": parts.get("test")}
        return {part: folder for part, folder in found.items() if folder}
    folders = [entry for entry in _entries(root) if entry.is_dir() and not _is_hidden(entry.name)]
    names = {folder.name.lower() for folder in folders if folder not in ours}
    is_part = bool(names & {*LIKE_TRAIN, *LIKE_VALIDATION, *LIKE_TEST})
    if len(names) == 1 and not is_part:
        raise StudyError(f"{root} holds the one class {next(iter(names))!r}: training needs two.")
    loose = [] if names else [entry for entry in _entries(root) if entry.is_file() and kind_of(entry) == IMAGES]
    require(
        not loose,
        f"{root} holds {len(loose):,} image{'s' * (len(loose) > 1)} in no class folder: put each class's images in a "
        f"folder of its name, as {root.name}/<class>/{loose[0].name if loose else ''}.",
    )
    if not names or is_part:
        raise StudyError(
            f"{root} has no train/: an image folder holds train/<class>/ and, if kept apart, val/<class>/ and "
            "test/<class>/; or a folder for each class alone."
        )
    return {"train": root}


def _part_folders(root: Path) -> dict[str, Path]:
    """The folders of `PARTS`, by name: written so, or otherwise in another case, as ``Train``."""
    named = {entry.name.lower(): entry for entry in _entries(root) if entry.is_dir()}
    named |= {name: root / name for name in PARTS if (root / name).is_dir()}
    return {name: named[name] for name in PARTS if name in named}


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise StudyError(f"{folder} cannot be read ({(error.strerror or str(error)).lower()}).") from None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _advice(folder: Path, root: Path) -> str:
    """The folder's name, and how its images would be used."""
    name = f"{os.path.relpath(folder, root)}/"
    for kind, part, names in (("validation", "val", LIKE_VALIDATION), ("test", "test", LIKE_TEST)):
        if folder.name.lower() in names and folder.parent == root:
            return f"{name}, since {kind} images are those in {part}/: {RENAME}"
    return name
