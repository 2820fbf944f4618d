"""Images that the memory has no room for: the same data set and the same weights, from memory-mapped files."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from study.architectures import CNNConfig
from study.config import DataConfig
from study.data import Dataset, load_dataset
from study.errors import StudyError
from study.home import Home
from study.images import Labelled, pick
from study.interface import train
from study.models import build_model
from tests.study.test_data import write_folder, write_image

SMALL = CNNConfig(filters=(4, 6))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos", train=12, test=5)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(root=tmp_path / "home")


def full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.sources.decoded.free_memory", lambda: 1)


def loaded(photos: Path, home: Home, say: list[str] | None = None, **settings: object) -> Dataset:
    return load_dataset(DataConfig(dataset=str(photos), **settings), home, ([] if say is None else say).append)


def is_mapped(images: torch.Tensor) -> bool:
    """Whether the tensor lies in memory of this process that is a file's."""
    place, maps = images.data_ptr(), psutil.Process().memory_maps(grouped=False)
    ranges = {part.addr: part.path for part in maps}
    return any(
        path.startswith("/") and int(start, 16) <= place < int(end, 16)
        for (start, end), path in ((addr.split("-"), path) for addr, path in ranges.items())
    )


def trained(dataset: Dataset) -> tuple[pd.DataFrame, list[dict[str, torch.Tensor]]]:
    """The metrics and the weights of each epoch of a short training on the training split."""
    model = build_model(SMALL, classes=len(dataset.classes), seed=0)
    result = train(model, dataset, device="cpu", precision="float32", threads=1, epochs=2, batch_size=5)
    return result.history, result.weights


@pytest.mark.parametrize("layout", ["test folder", "no test folder", "val folder", "unreadable file"])
@pytest.mark.parametrize("is_cached", [False, True])
def test_images_read_from_the_disk_are_the_same_and_train_to_the_same_weights(
    layout: str, is_cached: bool, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout == "no test folder":
        shutil.rmtree(photos / "test")
    elif layout == "val folder":
        for name in ("bird", "cat"):
            write_image(photos / "val" / name / "0.png", seed=7)
    elif layout == "unreadable file":
        (photos / "train" / "bird" / "0003.png").write_bytes(b"none")
    skip = {"skip_unreadable": layout == "unreadable file"}
    here, home = loaded(photos, Home(root=tmp_path / "other"), **skip), Home(root=tmp_path / "home")
    if is_cached:
        loaded(photos, home, **skip)
    full_memory(monkeypatch)
    lines: list[str] = []
    mapped = loaded(photos, home, lines, **skip)
    assert lines[-1].endswith(
        " images of 32 × 32 pixels are more than the free memory has room for: they are read from "
        f"{home.data / 'cache'} whenever they are needed."
    )
    for mine, other in ((mapped.train, here.train), (mapped.test, here.test)):
        assert is_mapped(mine.images)
        assert not is_mapped(other.images)
        assert mine.images.equal(other.images)
        assert mine.labels.equal(other.labels)
    assert (mapped.digest, mapped.key, mapped.skipped) == (here.digest, here.key, here.skipped)
    (history, weights), (expected, theirs) = trained(mapped), trained(here)
    pd.testing.assert_frame_equal(history, expected, check_exact=True)
    assert len(weights) == len(theirs) == 3
    assert all(mine[name].equal(of[name]) for mine, of in zip(weights, theirs, strict=True) for name in of)


def test_images_that_fit_are_in_memory_also_from_the_cache(photos: Path, home: Home) -> None:
    for _ in range(2):
        lines: list[str] = []
        dataset = loaded(photos, home, lines)
        assert not is_mapped(dataset.train.images)
        assert dataset.train.images.is_contiguous(memory_format=torch.channels_last)
        assert not [line for line in lines if "are read from" in line]


def test_a_disk_without_room_for_the_images_is_told_in_a_sentence(
    photos: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*place: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full_memory(monkeypatch)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(StudyError) as raised:
        loaded(photos, home)
    assert str(raised.value) == (
        f"34 images of 32 × 32 pixels need 0.0 GiB, more than the free memory, and cannot be kept in "
        f"{home.data / 'cache'} (No space left on device): make room there, or choose a smaller --image-size (in "
        "Python image_size) or fewer images."
    )


def test_the_next_batch_is_read_by_a_thread_while_one_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Labelled(torch.zeros(6, 3, 4, 4, dtype=torch.uint8), torch.zeros(6).long(), Path("some"))
    batches = list(torch.arange(6).split(2))
    has_read, reads = threading.Event(), []

    def read(pixels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        assert threading.current_thread() is not threading.main_thread()
        reads.append(rows.tolist())
        has_read.set()
        return pick(pixels, rows)

    monkeypatch.setattr("study.images.pick", read)
    seen = []
    for number, batch in enumerate(images.prefetched(batches)):
        if number < 2:
            # While this batch is worked on, the next one is read.
            assert has_read.wait(60)
            has_read.clear()
        assert len(reads) == min(number + 1, 2)
        seen.append(batch.tolist())
    assert (seen, reads) == ([[0, 1], [2, 3], [4, 5]], [[2, 3], [4, 5]])
