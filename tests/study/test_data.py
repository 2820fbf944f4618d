import errno
import functools
import hashlib
import http.server
import os
import pickle
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from study.config import DataConfig
from study.data import Dataset, Labelled, load_dataset, normalise
from study.errors import StudyError
from study.home import Home
from study.selection import select_image
from study.sources import image_folder as image_files
from study.sources.image_folder import read_image

BATCHES = "cifar-10-batches-py"
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(root=tmp_path / "home")


def write_image(path: Path, seed: int, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_folder(root: Path, classes: tuple[str, ...] = ("bird", "cat"), train: int = 6, test: int = 3) -> Path:
    for part, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            for number in range(count):
                write_image(
                    root / part / name / f"{number:04}.png", seed=1000 * label + 100 * (part == "test") + number
                )
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos")


def load(path: object, home: Home, **settings: object) -> Dataset:
    return load_dataset(DataConfig(dataset=str(path), **settings), home)


def refusal(path: object, home: Home, **settings: object) -> str:
    with pytest.raises(StudyError) as raised:
        load(path, home, **settings)
    return one_sentence(raised.value)


def one_sentence(error: StudyError) -> str:
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def rows(images: Labelled) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


def hold_everything_once(whole: Labelled, *parts: Labelled) -> bool:
    def listed(images: Labelled) -> list[tuple[bytes, int]]:
        return [
            (image.numpy().tobytes(), int(label)) for image, label in zip(images.images, images.labels, strict=True)
        ]

    return sorted(listed(whole)) == sorted(entry for part in parts for entry in listed(part))


def balanced(classes: int, per_class: int, **settings: float) -> Dataset:
    labels = torch.arange(classes).repeat(per_class)
    images = torch.randint(
        0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    names = tuple(f"class {number}" for number in range(classes))
    every = Labelled(images, labels)
    return Dataset(
        config=DataConfig(**settings),
        name="toy",
        key="toy",
        digest="",
        classes=names,
        train=every,
        test=every,
        source="made up",
    )


class TestSplits:
    def test_validation_is_exactly_a_tenth_of_every_class(self):
        splits = balanced(classes=10, per_class=50).splits
        assert torch.bincount(splits.validation.labels).tolist() == [5] * 10
        assert torch.bincount(splits.train.labels).tolist() == [45] * 10

    def test_every_image_is_on_one_side_with_its_label(self):
        dataset = balanced(classes=3, per_class=20)
        splits = dataset.splits
        assert hold_everything_once(dataset.train, splits.train, splits.validation)
        assert not rows(splits.train) & rows(splits.validation)

    def test_the_seed_alone_decides_the_choice(self):
        dataset = balanced(classes=3, per_class=20)
        first, again, other = (
            replace(dataset, config=DataConfig(split_seed=seed)).splits.validation for seed in (1, 1, 2)
        )
        assert torch.equal(first.images, again.images)
        assert not torch.equal(first.images, other.images)

    def test_they_are_computed_once(self):
        dataset = balanced(classes=2, per_class=20)
        assert dataset.splits is dataset.splits

    def test_the_fraction_is_honoured(self):
        assert len(balanced(classes=2, per_class=50, validation_fraction=0.25).splits.validation) == 25

    def test_a_class_of_one_image_is_named_with_its_count(self):
        dataset = balanced(classes=2, per_class=20)
        labels = torch.zeros(40, dtype=torch.int64)
        labels[7] = 1
        single = replace(dataset, train=Labelled(dataset.train.images, labels))
        with pytest.raises(StudyError, match=r"Class 'class 1' has 1 of the images .* validation .* at least 2"):
            _ = single.splits

    def test_too_few_images_for_the_classes_are_told_with_both_counts(self):
        with pytest.raises(StudyError, match=r"20 images split into 18 training and 2 validation .* 10 classes"):
            _ = balanced(classes=10, per_class=2).splits


class TestLabelled:
    def test_subset_takes_indices_and_masks_in_order(self):
        every = balanced(classes=3, per_class=2).train
        assert every.subset(torch.tensor([4, 0])).labels.tolist() == [1, 0]
        assert every.subset(np.array([2, 1])).labels.tolist() == [2, 1]
        assert torch.equal(every.subset(every.labels == 1).images, every.images[[1, 4]])

    def test_to_moves_both_tensors(self):
        moved = balanced(classes=2, per_class=2).train.to("meta")
        assert moved.images.device.type == moved.labels.device.type == "meta"
        assert len(moved) == 4


class TestNormalise:
    def test_black_and_white_are_exactly_minus_one_and_one(self):
        assert normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]

    def test_agrees_with_torchvision_at_mean_and_deviation_one_half(self):
        from torchvision.transforms.functional import normalize, to_tensor

        image = np.arange(3 * 32 * 32, dtype=np.uint8).reshape(32, 32, 3)
        ours = normalise(torch.from_numpy(image).permute(2, 0, 1))
        torch.testing.assert_close(ours, normalize(to_tensor(image), [0.5] * 3, [0.5] * 3), rtol=0, atol=2e-7)
        assert ours.dtype == torch.float32

    def test_its_argument_stays(self):
        images = torch.full((2, 3, 32, 32), 7, dtype=torch.uint8)
        normalise(images)
        assert images.unique().tolist() == [7]


class TestDigits:
    def test_are_the_bundled_digits_each_pixel_four_by_four(self, home: Home):
        from sklearn.datasets import load_digits

        digits = load_dataset(DataConfig(dataset="digits"), home)
        assert (digits.name, digits.key, digits.classes) == ("digits", "digits", tuple("0123456789"))
        assert (len(digits.train), len(digits.test)) == (1437, 360)
        every = torch.cat([digits.train.images, digits.test.images])
        assert every.shape[1:] == (3, 32, 32)
        assert every.dtype == torch.uint8
        assert torch.equal(every[:, 0], every[:, 2])
        ours = sorted((every[:, 0, ::4, ::4].float() / 255 * 16).round().flatten(1).tolist())
        assert ours == sorted(load_digits().data.tolist())

    def test_the_split_seed_decides_the_test_images_but_not_the_digest(self, home: Home):
        first, again, other = (load("digits", home, split_seed=seed) for seed in (0, 0, 1))
        assert torch.equal(first.test.images, again.test.images)
        assert not torch.equal(first.test.images, other.test.images)
        assert first.digest == other.digest
        assert "test = seeded stratified fifth of train" in first.source

    def test_training_and_test_share_classes_evenly(self, home: Home):
        digits = load("digits", home)
        whole = torch.bincount(torch.cat([digits.train.labels, digits.test.labels]))
        assert ((torch.bincount(digits.test.labels) - whole / 5).abs() < 1).all()

    @pytest.mark.parametrize("side", [16, 20, 48])
    def test_are_enlarged_to_the_size_asked_for(self, side: int, home: Home):
        small, default = load("digits", home, image_size=side), load("digits", home)
        assert (small.side, small.train.images.shape[1:]) == (side, (3, side, side))
        first = -(-torch.arange(8) * side // 8)
        assert torch.equal(small.test.images[..., first, :][..., first], default.test.images[..., ::4, ::4])
        assert small.key == f"digits-{side}px"
        assert f"upsampled to {side}×{side}" in small.source


class TestFolder:
    def test_a_size_has_its_own_pixels_digest_key_and_cache(self, folder: Path, home: Home):
        default, large = load(folder, home), load(folder, home, image_size=48)
        assert large.train.images.shape == (12, 3, 48, 48)
        for row, name in enumerate(["bird/0000.png", "bird/0001.png"]):
            photo = Image.open(folder / "train" / name).resize((48, 48), Image.Resampling.BILINEAR)
            assert np.array_equal(large.train.images[row].numpy(), np.asarray(photo).transpose(2, 0, 1))
        assert large.key == f"photos-{large.digest[:8]}-48px"
        assert large.source == f"image folder {folder}, resized to 48×48 where needed"
        assert len({dataset.digest for dataset in (default, large)}) == 2
        assert len({dataset.cache for dataset in (default, large)}) == 2
        messages: list[str] = []
        again = load_dataset(large.config, home, messages.append)
        assert (again.digest, messages) == (large.digest, [])
        assert select_image(large, str(folder / "train/bird/0001.png")).image.equal(large.train.images[1])

    def test_classes_and_files_are_in_sorted_order(self, folder: Path, home: Home):
        dataset = load(folder, home)
        assert dataset.classes == ("bird", "cat")
        assert dataset.train.labels.tolist() == [0] * 6 + [1] * 6
        assert dataset.test.labels.tolist() == [0] * 3 + [1] * 3
        for row, name in enumerate(["bird/0000.png", "bird/0001.png"]):
            expected = np.asarray(Image.open(folder / "train" / name)).transpose(2, 0, 1)
            assert np.array_equal(dataset.train.images[row].numpy(), expected)

    def test_agrees_with_torchvisions_image_folder(self, folder: Path, home: Home):
        from torchvision.datasets import ImageFolder

        theirs = ImageFolder(str(folder / "train"))
        ours = load(folder, home)
        assert list(ours.classes) == theirs.classes
        assert ours.train.labels.tolist() == theirs.targets
        assert all(
            np.array_equal(np.asarray(image).transpose(2, 0, 1), mine.numpy())
            for (image, _), mine in zip(theirs, ours.train.images, strict=True)
        )

    def test_its_key_is_its_name_and_the_first_digits_of_the_digest(self, folder: Path, home: Home):
        dataset = load(folder, home)
        assert re.fullmatch("[0-9a-f]{64}", dataset.digest)
        assert (dataset.name, dataset.key) == ("photos", f"photos-{dataset.digest[:8]}")
        assert dataset.source == f"image folder {folder}, resized to 32×32 where needed"

    def test_hidden_files_and_other_suffixes_are_left_out(self, folder: Path, home: Home):
        (folder / "train" / "bird" / "notes.txt").write_text("seen at dawn")
        (folder / "train" / "bird" / "._0000.png").write_bytes(b"left by a file manager")
        (folder / "train" / ".thumbnails").mkdir()
        assert len(load(folder, home).train) == 12

    def test_folders_within_a_class_count_to_it(self, folder: Path, home: Home):
        write_image(folder / "train" / "bird" / "zoo" / "0000.JPEG", seed=7)
        assert torch.bincount(load(folder, home).train.labels).tolist() == [7, 6]

    def test_other_sizes_and_modes_become_32_by_32_rgb(self, folder: Path, home: Home):
        cats = folder / "train" / "cat"
        shutil.rmtree(cats)
        cats.mkdir()
        Image.new("L", (64, 48), 100).save(cats / "0.png")
        Image.new("RGBA", (5, 5), (1, 2, 3, 128)).save(cats / "1.png")
        Image.new("P", (32, 32), 0).save(cats / "2.gif")
        Image.new("CMYK", (40, 40), (0, 0, 0, 255)).save(cats / "3.jpg")
        Image.fromarray(np.full((9, 9), 257 * 60, np.uint16)).save(cats / "4.png")
        dataset = load(folder, home)
        assert dataset.transparent == load(folder, home).transparent == 1
        colours = dataset.train.images[6:, :, 16, 16].tolist()
        assert colours == [[100, 100, 100], [128, 128, 129], [0, 0, 0], [0, 0, 0], [60, 60, 60]]

    def test_a_photograph_is_turned_upright(self, folder: Path, home: Home):
        left_white = np.zeros((32, 32, 3), np.uint8)
        left_white[:, :16] = 255
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90° clockwise
        Image.fromarray(left_white).save(folder / "train" / "bird" / "0000.png", exif=exif)
        upright = load(folder, home).train.images[0, 0]
        assert upright[:16].unique().tolist() == [255]
        assert upright[16:].unique().tolist() == [0]

    def test_a_name_that_is_too_long_for_files_is_refused_at_once(self, tmp_path: Path, home: Home):
        root = write_folder(tmp_path / ("鳥" * 41))
        with pytest.raises(StudyError, match="has 123 bytes"):
            load_dataset(DataConfig(dataset=str(root)), home)

    def test_without_test_a_seeded_stratified_fifth_is_held_out(self, tmp_path: Path, home: Home):
        root = write_folder(tmp_path / "photos", train=10, test=0)
        first, again, other = (load(root, home, split_seed=seed) for seed in (0, 0, 1))
        assert torch.bincount(first.test.labels).tolist() == [2, 2]
        assert torch.bincount(first.train.labels).tolist() == [8, 8]
        assert not rows(first.train) & rows(first.test)
        assert rows(first.test) == rows(again.test) != rows(other.test)
        assert first.digest == other.digest
        assert (
            first.source
            == f"image folder {root}, resized to 32×32 where needed, test = seeded stratified fifth of train"
        )

    def test_progress_counts_to_the_total(self, tmp_path: Path, home: Home):
        root = write_folder(tmp_path / "many", train=130, test=20)
        seen: list[tuple[int, int]] = []
        load_dataset(DataConfig(dataset=str(root)), home, progress=lambda done, total: seen.append((done, total)))
        assert seen == sorted(seen)
        assert len(seen) > 1
        assert seen[-1] == (300, 300)

    @pytest.mark.parametrize("test", [0, 3])
    @pytest.mark.parametrize("validation", [0, 2])
    def test_each_image_is_that_of_its_file(self, test: int, validation: int, tmp_path: Path, home: Home):
        root = write_folder(tmp_path / "photos", train=7, test=test)
        for number in range(validation):
            for name in ("cat", "bird"):
                write_image(root / "val" / name / f"{number}.png", seed=200 + number)
        (root / "train" / "bird" / "0002.png").write_bytes(b"")
        dataset = load(root, home, skip_unreadable=True)
        for part, images in {"train": dataset.train, "test": dataset.test}.items():
            assert len(dataset.files[part]) == len(images)
            for file, image in zip(dataset.files[part], images.images, strict=True):
                assert np.array_equal(read_image(root / file), image)


class TestDigest:
    def test_stays_when_the_folder_moves(self, folder: Path, home: Home, tmp_path: Path):
        before = load(folder, home).digest
        moved = folder.rename(tmp_path / "elsewhere")
        for file in moved.rglob("*.png"):
            os.utime(file, (1, 1))
        assert load(moved, home).digest == before

    def test_changes_with_one_pixel(self, folder: Path, home: Home):
        before = load(folder, home).digest
        file = folder / "test" / "cat" / "0002.png"
        pixels = np.array(Image.open(file))
        pixels[31, 31, 2] ^= 1
        Image.fromarray(pixels).save(file)
        assert load(folder, home).digest != before

    def test_changes_with_a_class_name_and_with_a_label(self, folder: Path, home: Home):
        before = load(folder, home).digest
        for part in ("train", "test"):
            (folder / part / "cat").rename(folder / part / "lynx")
        renamed = load(folder, home).digest
        (folder / "train" / "bird" / "0005.png").rename(folder / "train" / "lynx" / "0005a.png")
        assert len({before, renamed, load(folder, home).digest}) == 3


class TestRefusedFolders:
    def test_a_name_that_is_nothing_is_answered_with_the_choices(self, home: Home):
        assert refusal("cifar11", home) == (
            f"There is no folder 'cifar11' in {Path.cwd()} (is it 'cifar10'?): choose one of cifar10, digits, the path "
            "of an image folder."
        )

    def test_missing_train(self, tmp_path: Path, home: Home):
        assert "has no train/: an image folder holds train/<class>/" in refusal(tmp_path, home)

    def test_no_classes(self, tmp_path: Path, home: Home):
        (tmp_path / "train").mkdir()
        assert "holds no class folders" in refusal(tmp_path, home)

    def test_one_class(self, tmp_path: Path, home: Home):
        write_folder(tmp_path / "photos", classes=("bird",))
        assert "holds the one class 'bird': training needs two" in refusal(tmp_path / "photos", home)

    def test_an_empty_class(self, folder: Path, home: Home):
        (folder / "train" / "dog").mkdir()
        assert re.search(r"train has no image \(\.jpg, .*\) of the classes: dog\.", refusal(folder, home))

    def test_of_many_empty_classes_the_first_are_named(self, folder: Path, home: Home):
        for number in range(9):
            (folder / "train" / f"empty {number}").mkdir()
        assert "of the classes: empty 0, empty 1, empty 2, empty 3, empty 4 and 4 more." in refusal(folder, home)

    def test_a_test_class_without_training(self, folder: Path, home: Home):
        write_image(folder / "test" / "dog" / "0.png", seed=1)
        assert "test holds classes that train/ does not: dog; move images of them" in refusal(folder, home)

    def test_a_class_too_small_to_hold_a_test_image_out(self, tmp_path: Path, home: Home):
        root = write_folder(tmp_path / "photos", train=9, test=0)
        write_image(root / "train" / "dog" / "0.png", seed=1)
        text = refusal(root, home)
        assert "Class 'dog' has 1 of the images to be split into training and test images" in text
        assert text.endswith("it needs at least 2, so add images of it, or take its folder out.")


class TestUnreadable:
    @pytest.fixture
    def damaged(self, folder: Path) -> Path:
        whole = (folder / "train" / "cat" / "0002.png").read_bytes()
        (folder / "train" / "cat" / "0002.png").write_bytes(whole[: len(whole) // 2])
        (folder / "train" / "cat" / "0004.png").write_bytes(b"not an image")
        (folder / "test" / "cat" / "0001.png").write_bytes(b"")
        return folder

    def test_the_first_is_named_with_their_number_and_the_way_out(self, damaged: Path, home: Home):
        text = refusal(damaged, home)
        assert text.startswith(f"3 of 18 image files cannot be read, the first is {damaged}/train/cat/0002.png (")
        assert text.endswith("or skip them with --skip-unreadable (in Python skip_unreadable=True).")

    def test_skipped_they_are_left_out_and_counted(self, damaged: Path, home: Home):
        dataset = load(damaged, home, skip_unreadable=True)
        assert dataset.skipped == 3
        assert list(dataset.unreadable) == ["train/cat/0002.png", "train/cat/0004.png", "test/cat/0001.png"]
        assert dataset.left_out.startswith("Left out, since they cannot be read, 3 image files: train/cat/0002.png (")
        assert torch.bincount(dataset.train.labels).tolist() == [6, 4]
        assert torch.bincount(dataset.test.labels).tolist() == [3, 2]

    def test_of_many_the_first_are_named_and_where_all_are_listed(self, damaged: Path, home: Home):
        (damaged / "test" / "cat" / "0000.png").write_bytes(b"")
        left_out = load(damaged, home, skip_unreadable=True).left_out
        assert left_out.count(".png") == 3
        assert left_out.endswith(") and 1 more (`study data` with --dataset, --skip-unreadable and --json lists all).")

    def test_the_cache_does_not_let_them_pass(self, damaged: Path, home: Home):
        skipped = load(damaged, home, skip_unreadable=True)
        assert "3 of 18" in refusal(damaged, home)
        assert load(damaged, home, skip_unreadable=True).digest == skipped.digest

    def test_a_refusal_first_does_not_spoil_skipping(self, damaged: Path, home: Home):
        refusal(damaged, home)
        assert load(damaged, home, skip_unreadable=True).skipped == 3

    def test_a_file_that_has_become_readable_is_noticed(self, folder: Path, home: Home):
        link, target = folder / "train" / "cat" / "9999.png", folder.parent / "kept elsewhere.png"
        link.symlink_to(target)
        assert load(folder, home, skip_unreadable=True).skipped == 1
        write_image(target, seed=9)
        assert len(load(folder, home).train) == 13

    def test_an_image_of_more_than_fifty_megapixels_is_not_decoded(self, folder: Path, home: Home):
        Image.new("1", (8000, 6251)).save(folder / "train" / "bird" / "huge.png")
        start = time.perf_counter()
        assert "8000 × 6251 pixels are more than 50,000,000" in refusal(folder, home)
        assert time.perf_counter() - start < 1

    def test_a_decompression_bomb_is_unreadable(self, folder: Path, home: Home):
        Image.new("1", (20000, 10000)).save(folder / "train" / "bird" / "bomb.png")
        assert "bomb.png" in refusal(folder, home)

    def test_pixels_of_unknown_range_are_not_guessed(self, folder: Path, home: Home):
        Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(folder / "train" / "bird" / "depth.tiff")
        assert "pixels of mode F have no known range" in refusal(folder, home)

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_a_class_left_without_images_is_named(self, folder: Path, home: Home, part: str):
        for file in (folder / part).rglob("*.png"):
            if part == "test" or file.parent.name == "cat":
                file.write_bytes(b"")
        text = refusal(folder, home, skip_unreadable=True)
        assert re.search(rf"No image of '(cat|bird)' among the {part} images of {folder} can be read", text)


class TestCache:
    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows by one with every decoding of a folder."""
        counts: list[int] = []
        decode = image_files._decode_folder
        monkeypatch.setattr(image_files, "_decode_folder", lambda *of: counts.append(1) or decode(*of))
        return counts

    def test_a_second_load_decodes_nothing_and_is_equal(self, folder: Path, home: Home, decoded: list[int]):
        first, second = load(folder, home), load(folder, home)
        assert len(decoded) == 1
        assert torch.equal(first.train.images, second.train.images)
        assert torch.equal(first.test.labels, second.test.labels)
        assert (first.digest, first.classes, first.source) == (second.digest, second.classes, second.source)

    @pytest.mark.parametrize("change", ["added", "removed", "rewritten", "renamed", "held out"])
    def test_any_change_of_the_folder_is_noticed(self, folder: Path, home: Home, decoded: list[int], change: str):
        before, file = load(folder, home), folder / "train" / "bird" / "0003.png"
        if change == "added":
            write_image(folder / "train" / "bird" / "0099.png", seed=99)
        elif change == "removed":
            file.unlink()
        elif change == "rewritten":
            write_image(file, seed=99)
        elif change == "renamed":
            file.rename(file.with_name("0000a.png"))
        else:
            shutil.rmtree(folder / "test")
        assert load(folder, home).digest != before.digest
        assert len(decoded) == 2

    def test_files_exchanged_with_equal_sizes_and_times_are_noticed(self, tmp_path: Path, home: Home):
        root, files = write_folder(tmp_path / "photos"), []
        for name in ("bird", "cat"):
            files.append(root / "train" / name / "same.bmp")
            write_image(files[-1], seed=len(files))
            os.utime(files[-1], (315532800, 315532800))
        before, (first, second) = load(root, home), [file.read_bytes() for file in files]
        for file, content in zip(files, (second, first), strict=True):
            file.write_bytes(content)
            os.utime(file, (315532800, 315532800))
        after = load(root, home)
        assert after.digest != before.digest
        assert after.train.images[6].tolist() == before.train.images[13].tolist()

    def test_files_of_which_the_time_alone_changed_are_not_decoded_again(
        self, folder: Path, home: Home, decoded: list[int]
    ):
        load(folder, home)
        os.utime(folder / "train" / "bird" / "0000.png", (1, 1))
        load(folder, home)
        assert len(decoded) == 1

    @pytest.mark.parametrize("damage", ["cut short", "emptied", "one bit", "other content"])
    def test_a_damaged_cache_is_rebuilt_unasked(self, folder: Path, home: Home, decoded: list[int], damage: str):
        before = load(folder, home)
        (cache,) = (home.data / "cache").glob("photos-*.safetensors")
        content = bytearray(cache.read_bytes())
        if damage == "one bit":
            content[-1] ^= 1
        cache.write_bytes({"cut short": content[:-1], "one bit": content, "emptied": b""}.get(damage, b"{}" * 99))
        messages: list[str] = []
        again = load_dataset(DataConfig(dataset=str(folder)), home, messages.append)
        assert messages == [f"Decoding 18 images of {folder}, once."]
        assert torch.equal(before.train.images, again.train.images)
        assert len(decoded) == 2
        load(folder, home)
        assert len(decoded) == 2

    def test_a_cache_file_that_is_named_gives_the_same_without_the_image_files(
        self, folder: Path, home: Home, decoded: list[int], monkeypatch: pytest.MonkeyPatch
    ):
        before = load(folder, home)
        monkeypatch.setattr(image_files, "cache_path", None)
        again = load_dataset(before.config, home, cache=before.cache)
        assert again.digest == before.digest
        assert hold_everything_once(again.train, before.train)
        assert (again.key, again.classes, again.source) == (before.key, before.classes, before.source)
        assert len(decoded) == 1

    def test_a_damaged_cache_file_that_is_named_is_not_used(self, folder: Path, home: Home, decoded: list[int]):
        before = load(folder, home)
        before.cache.write_bytes(before.cache.read_bytes()[:-1])
        assert load_dataset(before.config, home, cache=before.cache).digest == before.digest
        assert len(decoded) == 2

    def test_where_nothing_can_be_kept_it_says_so_once_and_goes_on(self, folder: Path, home: Home):
        home.data.mkdir(parents=True)
        (home.data / "cache").write_text("in the way")
        messages: list[str] = []
        assert len(load_dataset(DataConfig(dataset=str(folder)), home, messages.append).train) == 12
        assert [text for text in messages if "cannot be kept" in text] == messages[1:]
        assert len(messages) == 2

    def test_nothing_unfinished_is_left_beside_it(self, folder: Path, home: Home):
        load(folder, home)
        assert [file.suffix for file in (home.data / "cache").iterdir()] == [".safetensors"]


def cifar10_batch(path: Path, per_class: int, seed: int) -> None:
    labels = list(range(10)) * per_class
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    path.write_bytes(pickle.dumps({"data": pixels, "labels": labels}))


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive of CIFAR-10's form, which torchvision is told to expect, in a folder of its own."""
    from torchvision.datasets import CIFAR10

    batches = tmp_path / "site" / CIFAR10.base_folder
    batches.mkdir(parents=True)
    names = [name for name, _ in CIFAR10.train_list]
    for seed, name in enumerate([*names, "test_batch"]):
        cifar10_batch(batches / name, per_class=2, seed=seed)
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": CIFAR10_CLASSES}))
    archive = batches.parent / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(batches / name)] for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(batches / "test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(batches / "batches.meta")})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    # Nobody answers here: a test that may download asks for `site`.
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    return archive


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *of: object) -> None:
        pass


@pytest.fixture
def site(archive: Path, monkeypatch: pytest.MonkeyPatch):
    """Serves `archive`, as it is at the time, where torchvision looks for it."""
    from torchvision.datasets import CIFAR10

    handler = functools.partial(Quiet, directory=str(archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{archive.name}")
        yield archive
        server.shutdown()


def cifar10(home: Home) -> tuple[Dataset, list[str]]:
    messages: list[str] = []
    return load_dataset(DataConfig(dataset="cifar10"), home, messages.append), messages


class TestCIFAR10:
    def test_is_announced_downloaded_checked_and_loaded(self, site: Path, home: Home):
        dataset, messages = cifar10(home)
        assert len(messages) == 1
        assert "Downloading CIFAR-10 (170 MB)" in messages[0]
        assert (dataset.name, dataset.key, dataset.source) == ("cifar10", "cifar10", "CIFAR-10 (torchvision)")
        assert list(dataset.classes) == CIFAR10_CLASSES
        assert (len(dataset.train), len(dataset.test)) == (100, 20)
        batch = pickle.loads((home.data / BATCHES / "data_batch_1").read_bytes())
        assert np.array_equal(dataset.train.images[:20].numpy(), batch["data"].reshape(-1, 3, 32, 32))
        assert dataset.train.labels[:20].tolist() == batch["labels"]

    def test_is_resized_to_the_size_asked_for_with_a_cache_of_its_own(self, site: Path, home: Home):
        default, _ = cifar10(home)
        large = load("cifar10", home, image_size=40)
        assert (large.key, large.source) == ("cifar10-40px", "CIFAR-10 (torchvision), resized to 40×40")
        for row in (0, 99):
            pixels = Image.fromarray(default.train.images[row].permute(1, 2, 0).contiguous().numpy())
            expected = np.asarray(pixels.resize((40, 40), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
            assert np.array_equal(large.train.images[row].numpy(), expected)
        assert torch.equal(large.test.labels, default.test.labels)
        assert large.cache != default.cache
        assert load("cifar10", home, image_size=40).digest == large.digest

    def test_is_reused_without_a_network_and_without_torchvision(
        self, site: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ):
        first, _ = cifar10(home)
        monkeypatch.delattr("torchvision.datasets.CIFAR10")
        second, messages = cifar10(home)
        assert messages == []
        assert torch.equal(first.train.images, second.train.images)
        assert first.digest == second.digest

    def test_a_placed_archive_needs_no_network(self, archive: Path, home: Home):
        home.data.mkdir(parents=True)
        shutil.copy(archive, home.data)
        dataset, messages = cifar10(home)
        assert len(dataset.train) == 100
        assert messages == []

    def test_without_a_network_it_says_what_to_do_instead(self, archive: Path, home: Home):
        text = refusal("cifar10", home)
        assert "cannot be downloaded" in text
        assert "--dataset digits or an image folder" in text
        assert f"place cifar-10-python.tar.gz in {home.data}" in text
        assert list(home.data.iterdir()) == []

    def test_a_server_that_never_answers_is_given_up(self, archive: Path, home: Home, monkeypatch: pytest.MonkeyPatch):
        from torchvision.datasets import CIFAR10

        monkeypatch.setattr("study.sources.cifar10.DOWNLOAD_TIMEOUT", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/x")
            assert "cannot be downloaded (timed out)" in refusal("cifar10", home)
        assert socket.getdefaulttimeout() is None

    @pytest.mark.parametrize("damage", ["cut short", "altered"])
    def test_a_bad_download_is_removed_and_told(self, site: Path, home: Home, damage: str):
        whole = site.read_bytes()
        site.write_bytes(whole[:-100] if damage == "cut short" else whole[:-1] + b"?")
        assert "cut short or altered (its MD5 is not the published one) and is removed" in refusal("cifar10", home)
        assert list(home.data.iterdir()) == []
        site.write_bytes(whole)
        assert len(cifar10(home)[0].train) == 100

    def test_what_a_killed_download_left_is_not_taken_for_the_archive(self, site: Path, home: Home):
        home.data.mkdir(parents=True)
        ended = subprocess.Popen(["true"])
        ended.wait()
        left = [home.data / f".{name}.{ended.pid}@{socket.gethostname()}.part" for name in (site.name, BATCHES)]
        left[0].write_bytes(site.read_bytes()[:500])
        (left[1] / BATCHES).mkdir(parents=True)
        assert len(cifar10(home)[0].train) == 100
        assert {path.name for path in home.data.iterdir()} == {site.name, BATCHES, "cache"}

    def test_two_first_downloads_at_once_do_not_disturb_each_other(
        self, site: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ):
        from torchvision.datasets import utils

        retrieve, process, of_the_other = utils._urlretrieve, os.getpid(), []

        def both(url: str, filename: str) -> None:
            if os.getpid() == process:
                Path(filename).write_bytes(b"half")
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("os.getpid", os.getppid)
                    of_the_other.append(cifar10(home)[0].digest)
            retrieve(url, filename)

        monkeypatch.setattr(utils, "_urlretrieve", both)
        dataset, _ = cifar10(home)
        assert of_the_other == [dataset.digest]
        assert {path.name for path in home.data.iterdir()} == {site.name, BATCHES, "cache"}

    def test_a_damaged_archive_is_moved_aside_and_told(self, site: Path, home: Home):
        home.data.mkdir(parents=True)
        (home.data / site.name).write_bytes(site.read_bytes()[:500])
        dataset, messages = cifar10(home)
        assert len(dataset.train) == 100
        assert f"moved to {site.name}.damaged" in messages[0]
        assert (home.data / f"{site.name}.damaged").stat().st_size == 500

    @pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
    @pytest.mark.parametrize("damage", ["altered", "missing"])
    def test_a_damaged_batch_is_unpacked_again(self, site: Path, home: Home, name: str, damage: str):
        before, _ = cifar10(home)
        batch = home.data / BATCHES / name
        if damage == "altered":
            batch.write_bytes(batch.read_bytes()[:-1] + b"?")
        else:
            batch.unlink()
        after, messages = cifar10(home)
        assert after.digest == before.digest
        assert messages == []
        assert md5(batch) == md5(site.parent / BATCHES / name)

    def test_a_full_disk_leaves_nothing_half_and_names_the_room(
        self, site: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ):
        def fill(url: str, filename: str) -> None:
            Path(filename).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", fill)
        text = refusal("cifar10", home)
        assert f"No room for CIFAR-10 in {home.data}: free 600 MB" in text
        assert list(home.data.iterdir()) == []

    def test_a_disk_that_fills_while_unpacking_leaves_no_batches(
        self, site: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ):
        def fill(archive: tarfile.TarFile, folder: Path, filter: str) -> None:
            (folder / BATCHES).mkdir()
            (folder / BATCHES / "data_batch_1").write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(tarfile.TarFile, "extractall", fill)
        assert "No room for CIFAR-10" in refusal("cifar10", home)
        assert [file.name for file in home.data.iterdir()] == [site.name]

    @pytest.mark.parametrize("kind", ["above", "link", "device"])
    def test_no_member_of_an_archive_leaves_its_folder(
        self, kind: str, archive: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ):
        from torchvision.datasets import CIFAR10

        outside = home.root.parent / "outside"
        member = tarfile.TarInfo("../../outside" if kind == "above" else "inside")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, str(outside)
        if kind == "device":
            member.type = tarfile.CHRTYPE
        home.data.mkdir(parents=True)
        with tarfile.open(home.data / archive.name, "w:gz") as tar:
            tar.addfile(member)
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(home.data / archive.name))
        assert "cannot be unpacked" in refusal("cifar10", home)
        assert not outside.exists()
        assert not (home.data / "inside").exists()

    def test_a_folder_that_cannot_be_written_is_told(self, site: Path, home: Home):
        home.root.mkdir()
        home.data.write_text("in the way")
        assert f"CIFAR-10 cannot be stored in {home.data}" in refusal("cifar10", home)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_write_protected_folder_is_told(self, site: Path, home: Home):
        home.data.mkdir(parents=True)
        home.data.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert "Permission denied" in refusal("cifar10", home)


@pytest.fixture(scope="module")
def real_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of CIFAR-10 as an image folder: STUDY_TEST_IMAGES is that folder, or a tar archive of it."""
    given = os.environ.get("STUDY_TEST_IMAGES")
    if not given:
        pytest.skip("STUDY_TEST_IMAGES names no folder or archive of CIFAR-10's images")
    if Path(given).is_dir():
        return Path(given)
    unpacked = tmp_path_factory.mktemp("images")
    with tarfile.open(given) as tar:
        tar.extractall(unpacked, filter="data")
    return next(unpacked.rglob("train")).parent


@pytest.mark.slow
class TestRealImages:
    def test_are_all_there_balanced_and_kept(self, real_images: Path, home: Home):
        first = load(real_images, home)
        assert list(first.classes) == CIFAR10_CLASSES
        assert torch.bincount(first.train.labels).tolist() == [5000] * 10
        assert torch.bincount(first.test.labels).tolist() == [1000] * 10
        assert torch.bincount(first.splits.validation.labels).tolist() == [500] * 10
        peacock = np.asarray(Image.open(real_images / "train" / "bird" / "0000.jpg").convert("RGB"))
        assert np.array_equal(select_image(first, "").image.permute(1, 2, 0).numpy(), peacock)

        messages: list[str] = []
        second = load_dataset(DataConfig(dataset=str(real_images)), home, messages.append)
        assert messages == []
        assert second.digest == first.digest
        assert torch.equal(first.test.images, second.test.images)
