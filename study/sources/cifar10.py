"""CIFAR-10: downloads the published archive, checks its MD5, unpacks it, and caches the decoded images."""

import contextlib
import errno
import shutil
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch
from PIL import Image

from study.config import IMAGE_SIZE
from study.errors import StudyError
from study.home import Home
from study.images import Labelled
from study.pictures.decoding import resized
from study.sources.decoded import Decoded, Say, cache_path, load_cache, room, store_cache
from study.system import interruption
from study.system.files import atomic_write, remove_unfinished, temporary_path

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

BATCHES = "cifar-10-batches-py"
DOWNLOAD_TIMEOUT = 20.0
"""Time-out of the download, seconds without an answer."""


def load_cifar10(home: Home, say: Say, side: int = IMAGE_SIZE) -> tuple[Decoded, str]:
    """Loads CIFAR-10, resized to this side, and its digest; downloads it where it is not in the home's data folder.

    Raises:
        StudyError: where it cannot be downloaded, unpacked or stored.
    """
    stored = load_cache(_cache(home.data, side))
    if stored is None:
        with _explained(home.data):
            decoded = _fetch(home.data, say, side)
        stored = store_cache(_cache(home.data, side), decoded, say)
    return stored


def _cache(folder: Path, side: int) -> Path:
    batches = folder / BATCHES
    return cache_path(folder / "cache", "cifar10", batches, sorted(batches.glob("*batch*")), side)


def _fetch(folder: Path, say: Say, side: int) -> Decoded:
    """Decodes the batches in `folder`; unpacks or downloads them where one fails its MD5 check."""
    from torchvision.datasets import CIFAR10

    try:
        train = CIFAR10(folder)
    except RuntimeError:  # a batch is missing or altered
        remove_unfinished(folder)
        _provide_archive(folder, say)
        _unpack(folder)
        train = CIFAR10(folder)
    test = CIFAR10(folder, train=False)
    cache = folder / "cache"
    return Decoded(tuple(train.classes), _labelled(train, side, cache), _labelled(test, side, cache))


def _unpack(folder: Path) -> None:
    """Unpacks the archive, then moves each batch atomically: another process may be reading or unpacking them."""
    from torchvision.datasets import CIFAR10

    batches = folder / BATCHES
    unpacked = temporary_path(batches)
    try:
        unpacked.mkdir(exist_ok=True)
        with tarfile.open(folder / CIFAR10.filename) as archive:
            # The filter refuses members outside the folder, devices, and links that lead out.
            archive.extractall(unpacked, filter="data")
        batches.mkdir(exist_ok=True)
        for file in (unpacked / batches.name).iterdir():
            file.replace(batches / file.name)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _labelled(part: "CIFAR10", side: int, cache: Path) -> Labelled:
    labels = torch.tensor(part.targets)
    if side == IMAGE_SIZE:
        return Labelled(torch.from_numpy(part.data).permute(0, 3, 1, 2), labels).channels_last()
    images = room(len(part.data), side, cache)
    for place, pixels in enumerate(part.data):
        interruption.check()
        images.images[place] = torch.from_numpy(resized(Image.fromarray(pixels), side))
    return replace(images, labels=labels)


def _provide_archive(folder: Path, say: Say) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, download_url

    archive = folder / CIFAR10.filename
    if check_integrity(archive, CIFAR10.tgz_md5):
        return
    if archive.exists():
        damaged = archive.replace(f"{archive}.damaged")
        say(f"{archive} is cut short or altered (its MD5 is not the published one): moved to {damaged.name}.")
    say(f"Downloading CIFAR-10 (170 MB) from {CIFAR10.url} to {folder}.")
    default_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # torchvision sets none, and would wait without end
    try:
        with atomic_write(archive) as part:
            interruption.in_thread(partial(download_url, CIFAR10.url, folder, part.name, CIFAR10.tgz_md5))
    except RuntimeError as error:
        raise StudyError(
            f"The download from {CIFAR10.url} was cut short or altered (its MD5 is not the published one) and is "
            f"removed: try again, or place {archive.name} in {folder}."
        ) from error
    finally:
        socket.setdefaulttimeout(default_timeout)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raises failed downloads and unpacking into `folder` as `StudyError`s that say what to do."""
    try:
        yield
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise StudyError(
            f"CIFAR-10 cannot be downloaded ({error}): use --dataset digits or an image folder, or place "
            f"cifar-10-python.tar.gz in {folder}."
        ) from error
    except tarfile.TarError as error:
        raise StudyError(f"The archive of CIFAR-10 in {folder} cannot be unpacked ({error}): remove it.") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise StudyError(f"CIFAR-10 cannot be stored in {folder} ({error}): make it a writable folder.") from error
        need = "600 MB for archive, batches and cache"
        raise StudyError(f"No room for CIFAR-10 in {folder}: free {need} (unfinished files are removed).") from error
