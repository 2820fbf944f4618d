"""Image files as tensors: decoding a folder once, and caching what was decoded."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from study.config import IMAGE_SIZE
from study.errors import StudyError
from study.images import COPIED, Labelled, empty_images
from study.pictures.decoding import Photo, read_photo, require_file, why_unreadable
from study.sources.listing import Files, list_folder
from study.system import interruption
from study.system.files import atomic_write, remove_unfinished
from study.system.memory import free_memory
from study.system.redaction import one_line

DECODING = b"7, channels last"
"""Version of the decoding, a part of the cache key: a new version invalidates cached images."""
CHUNK = 64
"""Files that a thread decodes or hashes between two reports of progress."""
MOST_NAMED = 3
"""Most unreadable files that a sentence names."""
BLOCK = 2**16
"""Bytes that are read at a time to hash a file."""

Result = TypeVar("Result")
Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Decoded:
    """All images of a source before anything is held out; `test` is None where the source keeps none apart."""

    classes: tuple[str, ...]
    train: Labelled
    test: Labelled | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """The image files that cannot be read: path within the source, and why."""
    several: Sequence[str] = ()
    """The image files with further pages or frames, which are not read: paths within the source."""
    left_out: str = ""
    """What else lies in the folder and is not read, see `Listing.left_out`."""
    cache: Path | None = None
    """The file that holds all this; None where it could not be written."""
    validation: Labelled | None = None
    """The validation images that the source keeps apart; None where they are to be drawn from the training images."""

    @property
    def parts(self) -> dict[str, Labelled]:
        """The sets of images by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    def in_memory(self) -> "Decoded":
        """The same with the images in memory, which may be in a file."""
        parts: dict[str, Any] = {name: part.in_memory() for name, part in self.parts.items()}
        return replace(self, **parts)

    def digest(self) -> str:
        """SHA-256 over class names, labels and pixels, as hex digits."""
        sizes = {name: len(part) for name, part in self.parts.items()}
        digest = hashlib.sha256(json.dumps([self.classes, sizes]).encode())
        for part in self.parts.values():
            digest.update(part.labels.numpy().data)
            for images in part.images.split(COPIED):
                digest.update(images.contiguous().numpy().data)
        return digest.hexdigest()


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
    return replace(decoded, left_out=" ".join(filter(None, sentences))), digest


def _of_unreadable(reasons: Mapping[str, str]) -> str:
    """A sentence on the image files that cannot be read; empty where there are none."""
    if not reasons:
        return ""
    named = [f"{one_line(name)} ({one_line(reason)})" for name, reason in list(reasons.items())[:MOST_NAMED]]
    count = "1 image file" if len(reasons) == 1 else f"{len(reasons):,} image files"
    more = (
        f" and {len(reasons) - len(named):,} more (`study data --json` lists all)" if len(reasons) > len(named) else ""
    )
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
            "repair or remove them, or skip them with --skip-unreadable."
        )
    for name, part in decoded.parts.items():
        missing = set(range(len(decoded.classes))) - set(part.labels.tolist())
        if missing and (name == "train" or not len(part)):
            raise StudyError(
                f"No image of {decoded.classes[min(missing)]!r} among the {name} images of {root} can be read."
            )


def is_large(count: int, side: int) -> bool:
    """Whether the free memory has no room for `count` images of this side."""
    return count * 3 * side**2 > free_memory()


def room(count: int, side: int, folder: Path) -> Labelled:
    """Black images without labels, to decode to: in memory, or in a file in `folder` where the memory has no room.

    Raises:
        StudyError: where the disk has no room either.
    """
    if not is_large(count, side):
        return Labelled(empty_images(count, side), torch.empty(0))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Labelled(empty_images(count, side, folder), torch.empty(0), folder)
    except OSError as error:
        raise StudyError(
            f"{count:,} images of {side} × {side} pixels need {count * 3 * side**2 / 2**30:.1f} GiB, more than the "
            f"free memory, and cannot be kept in {folder} ({error.strerror}): make room there, or choose a smaller "
            "--image-size or fewer images."
        ) from None


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
) -> tuple[dict[int, str], list[int]]:
    """Reads image files.

    Args:
        paths: N files.
        images: where they are written, resized: uint8, (N, 3, side, side).
        progress: called with the number of files read so far and N.

    Returns:
        By position, the reasons why files cannot be read; and the positions of those with several pages or frames.
    """
    unreadable: dict[int, str] = {}
    several: list[int] = []

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
        return positions.stop

    for done in _in_chunks(read, len(paths)):
        if progress:
            progress(done, len(paths))
    return dict(sorted(unreadable.items())), sorted(several)


def _in_chunks(read: Callable[[range], Result], count: int) -> Iterator[Result]:
    """Results of `read` for positions 0 to `count`, `CHUNK` at a time in threads, in order."""
    chunks = (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for result in threads.map(read, chunks):
            interruption.check()
            yield result


def _decode_folder(root: Path, listing: Files, room: Labelled, progress: Progress | None = None) -> Decoded:
    """Decodes the files of `listing`, which lie below `root`, to `room`; unreadable ones are left out and named."""
    classes = tuple(listing["train"])
    rows = [(part, name, file) for part, group in listing.items() for name, files in group.items() for file in files]
    unreadable, several = decode([file for _, _, file in rows], room.images.numpy(), progress)
    kept = [row for row in range(len(rows)) if row not in unreadable]
    for place, row in enumerate(kept) if unreadable else ():
        room.images[place] = room.images[row]
    labels = torch.tensor([classes.index(rows[row][1]) for row in kept], dtype=torch.int64)
    sizes = [sum(rows[row][0] == part for row in kept) for part in listing]
    split = zip(listing, room.images[: len(kept)].split(sizes), labels.split(sizes), strict=True)
    parts = {part: Labelled(images, of, room.on_disk) for part, images, of in split}
    reasons = {str(rows[row][2].relative_to(root)): reason for row, reason in unreadable.items()}
    paged = [str(rows[row][2].relative_to(root)) for row in several]
    return Decoded(classes, parts["train"], parts.get("test"), reasons, paged, validation=parts.get("validation"))


def cache_path(folder: Path, name: str, root: Path, files: Sequence[Path], side: int = IMAGE_SIZE) -> Path:
    """Path of the cache file of `files` below `root` as images of this side; its key hashes their paths and contents.

    Sizes and times would not do: an archive with fixed times unpacks other files with equal ones.
    """
    key, above = hashlib.sha256(DECODING + b", %d" % side), str(root)

    def hashed(positions: range) -> bytes:
        named = ((os.fsencode(str(file).removeprefix(above)), file) for file in files[positions.start : positions.stop])
        return b"".join(name + b"\0" + _content(file) for name, file in named)

    for part in _in_chunks(hashed, len(files)):
        key.update(part)
    return folder / f"{name}-{key.hexdigest()[:16]}.safetensors"


def _content(path: Path) -> bytes:
    """Hash of a file's content; of a file that cannot be read, of the reason."""
    try:
        require_file(path)
        digest = hashlib.sha256()
        # Not `file_digest`, which makes a buffer of 256 KiB for each of the many small files.
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
        return digest.digest()
    except (OSError, ValueError) as error:
        return hashlib.sha256(why_unreadable(error).encode()).digest()


def load_cache(path: Path) -> tuple[Decoded, str] | None:
    """Maps a cache file: the images and their digest; None where it is missing, damaged or altered."""
    try:
        decoded, digest = _mapped(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return (decoded, digest) if decoded.digest() == digest else None


def _mapped(path: Path) -> tuple[Decoded, str]:
    """The images and the digest in a cache file, unchecked."""
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()["decoded"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    parts = {
        name: Labelled(tensors[f"{name}_images"].permute(0, 3, 1, 2), tensors[f"{name}_labels"].clone(), path.parent)
        for name in described["parts"]
    }
    classes, left = tuple(described["classes"]), (described["unreadable"], described["several"])
    test, validation = parts.get("test"), parts.get("validation")
    return Decoded(classes, parts["train"], test, *left, cache=path, validation=validation), described["digest"]


def store_cache(path: Path, decoded: Decoded, say: Say) -> tuple[Decoded, str]:
    """Writes a cache file, atomically; returns the digest and the images, which stay in memory if they were there."""
    digest = decoded.digest()
    described = {
        "classes": decoded.classes,
        "parts": list(decoded.parts),
        "unreadable": dict(decoded.unreadable),
        "several": list(decoded.several),
    }
    # As they lie in memory.
    tensors = {f"{name}_images": part.images.permute(0, 2, 3, 1) for name, part in decoded.parts.items()}
    tensors |= {f"{name}_labels": part.labels for name, part in decoded.parts.items()}
    try:
        remove_unfinished(path.parent)
        with atomic_write(path) as file:
            save_file(tensors, file, metadata={"decoded": json.dumps(described | {"digest": digest})})
    except (OSError, SafetensorError) as error:
        say(f"The decoded images cannot be kept in {path.parent} ({error}): the next start decodes them again.")
        return decoded, digest
    return _mapped(path) if decoded.train.on_disk else (replace(decoded, cache=path), digest)
