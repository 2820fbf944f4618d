"""The decoded images of a source: in memory or, where that has no room, in a file; and the file that caches them."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from study.config import IMAGE_SIZE
from study.errors import StudyError
from study.images import COPIED, Labelled, empty_images
from study.pictures.decoding import require_file, why_unreadable
from study.system import interruption
from study.system.files import atomic_write, remove_unfinished
from study.system.memory import free_memory

DECODING = b"7, channels last"
"""Version of the decoding, a part of the cache key: a new version invalidates cached images."""
CHUNK = 64
"""Files that a thread decodes or hashes between two reports of progress."""
BLOCK = 2**16
"""Bytes that are read at a time to hash a file."""

Result = TypeVar("Result")
Say = Callable[[str], None]


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
    transparent: int = 0
    """The number of image files with transparent pixels."""
    left_out: str = ""
    """Sentences on what is not read: other contents, unreadable files, further pages."""
    cache: Path | None = None
    """The file that holds all this; None where it could not be written."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By part, the file of each image: its path within the source; empty where that is not known."""
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
            "--image-size (in Python image_size) or fewer images."
        ) from None


def cache_path(folder: Path, name: str, root: Path, files: Sequence[Path], side: int = IMAGE_SIZE) -> Path:
    """Path of the cache file of `files` below `root` as images of this side; its key hashes their paths and contents.

    Sizes and times would not do: an archive with fixed times unpacks other files with equal ones.
    """
    key, above = hashlib.sha256(DECODING + b", %d" % side), str(root)

    def hashed(positions: range) -> bytes:
        named = ((os.fsencode(str(file).removeprefix(above)), file) for file in files[positions.start : positions.stop])
        return b"".join(name + b"\0" + _content(file) for name, file in named)

    for part in in_chunks(hashed, len(files)):
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
    classes, left = (
        tuple(described["classes"]),
        (described["unreadable"], described["several"], described["transparent"]),
    )
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
        "transparent": decoded.transparent,
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


def in_chunks(read: Callable[[range], Result], count: int) -> Iterator[Result]:
    """Results of `read` for positions 0 to `count`, `CHUNK` at a time in threads, in order."""
    chunks = (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for result in threads.map(read, chunks):
            interruption.check()
            yield result
