"""Labelled images as tensors in memory or in files, and their normalisation; needs only torch and numpy."""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch

COPIED = 1000
"""Images that are copied at once from or to a file."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images and their class numbers."""

    images: torch.Tensor
    """uint8, (N, 3, side, side)."""
    labels: torch.Tensor
    """int64, (N,)."""
    on_disk: Path | None = None
    """The folder of the memory-mapped file that holds the images, which the memory has no room for."""

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: torch.Tensor | np.ndarray) -> "Labelled":
        """The images at `index` (integers or a mask), in its order."""
        chosen = torch.as_tensor(index, device=self.labels.device)
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero().flatten()
        labels = self.labels[chosen]
        if not self.on_disk:
            return Labelled(pick(self.images, chosen), labels)
        return self._copied((pick(self.images, rows) for rows in chosen.split(COPIED)), labels)

    def joined(self, others: "Labelled") -> "Labelled":
        """These images, then `others`."""
        labels = torch.cat([self.labels, others.labels])
        if not self.on_disk:
            return Labelled(torch.cat([self.images, others.images]), labels)
        return self._copied((batch for part in (self, others) for batch in part.images.split(COPIED)), labels)

    def _copied(self, batches: Iterable[torch.Tensor], labels: torch.Tensor) -> "Labelled":
        """The images of all batches in another file."""
        images, done = empty_images(len(labels), self.images.shape[-1], self.on_disk), 0
        for batch in batches:
            images[done : done + len(batch)] = batch
            done += len(batch)
        return Labelled(images, labels, self.on_disk)

    def prefetched(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yields the rows of each batch, while a thread reads the images of the next one from the disk."""
        if not self.on_disk:
            yield from batches
            return
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as reader:
            for rows, following in zip_longest(batches, batches[1:]):
                reading = None if following is None else reader.submit(pick, self.images, following)
                yield rows
                if reading:
                    reading.result()

    def channels_last(self) -> "Labelled":
        """The same images in the memory layout in which convolutions are fast; copies only if needed."""
        return Labelled(self.images.contiguous(memory_format=torch.channels_last), self.labels, self.on_disk)

    def in_memory(self) -> "Labelled":
        """A copy in memory, channels last."""
        return Labelled(self.images.clone(memory_format=torch.channels_last), self.labels.clone())

    def to(self, device: torch.device | str) -> "Labelled":
        """The same images on `device`."""
        on_disk = self.on_disk if torch.device(device).type == "cpu" else None
        return Labelled(self.images.to(device), self.labels.to(device), on_disk)


def empty_images(count: int, side: int, folder: Path | None = None) -> torch.Tensor:
    """Black images, uint8 (count, 3, side, side), channels last: in memory, or in an unnamed file in `folder`.

    Raises:
        OSError: where the disk has no room for the file.
    """
    shape = count, side, side, 3
    if folder is None:
        return torch.zeros(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            # Now, since a process that finds the disk full when it writes to a mapped file is killed.
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=shape)).permute(0, 3, 1, 2)


def pick(images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The images (N, C, H, W) at `index` (int64), in the memory layout that they are in."""
    # On a CPU `index_select` copies whole images, and takes a tenth of the time that indexing does.
    if images.is_contiguous(memory_format=torch.channels_last):
        return images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return images.index_select(0, index)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 images of any shape as float32 in [-1, 1] (mean 0.5, standard deviation 0.5), on their device."""
    # Converted first: dividing bytes takes a CPU ten times as long.
    return images.to(torch.float32, copy=True).div_(127.5).sub_(1)
