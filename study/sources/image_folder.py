"""Image files as tensors: a folder, or one file."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from study.config import IMAGE_SIZE
from study.errors import StudyError
from study.images import Labelled
from study.pictures.decoding import Photo, read_photo, why_unreadable
from study.sources.decoded import Decoded, Say, cache_path, in_chunks, load_cache, room, store_cache
from study.sources.listing import Files, list_folder
from study.system.redaction import one_line

MOST_NAMED = 3
"""Most unreadable files that a sentence names."""
Progress = Callable[[int, int], None]


def load_folder(
    root: Path,
    cache: Path,
    skip_unreadable: bool,
    say: Say,
    progress: Progress | None = None,
    ours: Collection[Path] = (),
    *,
    side: int = IMAGE_SIZE,
) -> tuple[Decoded, str]:
    """Loads the images below `root` and their digest, from the cache where its key matches the files.

    Args:
        root: the image folder.
        cache: the folder of cache files.
        skip_unreadable: whether image files that cannot be read are left out.
        say: called with a message where something takes long or is out of the ordinary.
        progress: called with the number of files decoded so far and their total.
        ours: folders that this program writes, which may lie below `root` and are no part of it.
        side: side of the square that all images are resized to, in pixels.

    Raises:
        StudyError: for a folder that does not hold what it should, that holds unreadable files not to be skipped, or
            whose images fit neither in memory nor on the disk.
    """
    listing = list_folder(root, ours)
    files = listing.every
    path = cache_path(cache, root.name, root, files, side)
    stored = load_cache(path)
    if stored is None:
        say(f"Decoding {len(files):,} images of {root}, once.")
        decoded = _decode_folder(root, listing.files, room(len(files), side, cache), progress)
        if cache_path(cache, root.name, root, files, side) != path:
            raise StudyError(f"Files of {root} were changed while they were read: try again.")
        stored = store_cache(path, decoded, say)
    decoded, digest = stored
    _check_readable(root, decoded, len(files), skip_unreadable)
    sentences = listing.left_out, _of_unreadable(decoded.unreadable), _of_several(decoded.several)
    read = {
        part: [name for name in _names(root, classes) if name not in decoded.unreadable]
        for part, classes in listing.files.items()
    }
    return replace(decoded, left_out=" ".join(filter(None, sentences)), files=read), digest


def _names(root: Path, classes: Mapping[str, Sequence[Path]]) -> list[str]:
    # A third of the time of `relative_to`, for each image at every start.
    above = f"{root}{os.sep}"
    return [str(file).removeprefix(above) for files in classes.values() for file in files]


def _of_unreadable(reasons: Mapping[str, str]) -> str:
    """A sentence on the image files that cannot be read; empty where there are none."""
    if not reasons:
        return ""
    named = [f"{one_line(name)} ({one_line(reason)})" for name, reason in list(reasons.items())[:MOST_NAMED]]
    count = "1 image file" if len(reasons) == 1 else f"{len(reasons):,} image files"
    left = len(reasons) - len(named)
    more = f" and {left:,} more (`study data` with --dataset, --skip-unreadable and --json lists all)" if left else ""
    return f"Left out, since they cannot be read, {count}: {', '.join(named)}{more}."


def _of_several(files: Sequence[str]) -> str:
    """A sentence on the image files with several pages or frames; empty where there are none."""
    if not files:
        return ""
    count, more = ("1 image file", "") if len(files) == 1 else (f"{len(files):,} image files", " …")
    return f"Of {count} with several pages or frames only the first is read: {one_line(files[0])}{more}."


def _check_readable(root: Path, decoded: Decoded, files: int, skip_unreadable: bool) -> None:
    if decoded.unreadable and not skip_unreadable:
        first, reason = next(iter(decoded.unreadable.items()))
        raise StudyError(
            f"{len(decoded.unreadable)} of {files} image files cannot be read, the first is {root / first} ({reason}): "
            "repair or remove them, or skip them with --skip-unreadable (in Python skip_unreadable=True)."
        )
    for name, part in decoded.parts.items():
        missing = set(range(len(decoded.classes))) - set(part.labels.tolist())
        if missing and (name == "train" or not len(part)):
            raise StudyError(
                f"No image of {decoded.classes[min(missing)]!r} among the {name} images of {root} can be read."
            )


def read_image(path: Path, side: int = IMAGE_SIZE) -> np.ndarray:
    """Reads the image file at `path`, turned upright and resized: uint8, (3, side, side), RGB.

    Raises:
        StudyError: for a file that is no whole image, or has more than `MAX_PIXELS` pixels or `MAX_BYTES` bytes.
    """
    return read_file(path, side).pixels


def read_file(path: Path, side: int = IMAGE_SIZE) -> Photo:
    """Reads the image file at `path`.

    Raises:
        StudyError: see `read_image`.
    """
    try:
        return read_photo(path, side)
    # Whatever Pillow's decoders raise.
    except Exception as error:
        raise StudyError(f"{path} cannot be read as an image ({why_unreadable(error)}).") from None


def decode(
    paths: Sequence[Path], images: np.ndarray, progress: Progress | None = None
) -> tuple[dict[int, str], list[int], int]:
    """Reads image files.

    Args:
        paths: N files.
        images: where they are written, resized: uint8, (N, 3, side, side).
        progress: called with the number of files read so far and N.

    Returns:
        By position, the reasons why files cannot be read; the positions of those with several pages or frames; and the
        number of those with transparent pixels.
    """
    unreadable: dict[int, str] = {}
    several: list[int] = []
    transparent: list[int] = []

    def read(positions: range) -> int:
        for position in positions:
            try:
                photo = read_photo(paths[position], images.shape[-1])
            # Pillow raises whatever its decoders meet in a damaged file.
            except Exception as error:
                unreadable[position] = why_unreadable(error)
                continue
            images[position] = photo.pixels
            if photo.has_more:
                several.append(position)
            if photo.is_transparent:
                transparent.append(position)
        return positions.stop

    for done in in_chunks(read, len(paths)):
        if progress:
            progress(done, len(paths))
    return dict(sorted(unreadable.items())), sorted(several), len(transparent)


def _decode_folder(root: Path, listing: Files, room: Labelled, progress: Progress | None = None) -> Decoded:
    """Decodes the files of `listing`, which lie below `root`, to `room`; unreadable ones are left out and named."""
    classes = tuple(listing["train"])
    rows = [(part, name, file) for part, group in listing.items() for name, files in group.items() for file in files]
    unreadable, several, transparent = decode([file for _, _, file in rows], room.images.numpy(), progress)
    kept = [row for row in range(len(rows)) if row not in unreadable]
    for place, row in enumerate(kept) if unreadable else ():
        room.images[place] = room.images[row]
    labels = torch.tensor([classes.index(rows[row][1]) for row in kept], dtype=torch.int64)
    sizes = [sum(rows[row][0] == part for row in kept) for part in listing]
    split = zip(listing, room.images[: len(kept)].split(sizes), labels.split(sizes), strict=True)
    parts = {part: Labelled(images, of, room.on_disk) for part, images, of in split}
    reasons = {str(rows[row][2].relative_to(root)): reason for row, reason in unreadable.items()}
    paged = [str(rows[row][2].relative_to(root)) for row in several]
    test, validation = parts.get("test"), parts.get("validation")
    return Decoded(classes, parts["train"], test, reasons, paged, validation=validation, transparent=transparent)
