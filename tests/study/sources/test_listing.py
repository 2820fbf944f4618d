"""What lies in an image folder and is not read: said in one line, whatever could be an image; else nothing is."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from study.config import DataConfig
from study.data import load_dataset
from study.errors import StudyError
from study.home import Home
from study.sources.folders import folder_of
from study.sources.listing import MOST_REASONS, list_folder
from tests.study.test_data import load, write_image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X"


def left_out(folder: Path) -> str:
    listing = list_folder(folder)
    assert len(listing.every) == 18
    assert "\n" not in listing.left_out
    return listing.left_out


def image(path: Path) -> Path:
    write_image(path.with_name("new.png"), seed=99)
    return path.with_name("new.png").rename(path)


def test_of_a_folder_in_order_nothing_is_said(folder: Path) -> None:
    assert left_out(folder) == ""


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "LICENSE", "classes.txt", "labels.csv", "train.json", ".DS_Store", "Thumbs.db", "desktop.ini"),
        *(
            "train/.DS_Store",
            "train/cat/.DS_Store",
            "train/cat/Thumbs.db",
            "train/cat/0000.xml",
            "train/cat/._0000.png",
        ),
        *("__MACOSX/train/cat/._0000.png", "annotations/0000.xml", "train/.git/config", "split.py", "model.ckpt"),
    ],
)
def test_of_what_no_one_takes_for_an_image_nothing_is_said(name: str, folder: Path) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(APPLE_DOUBLE)
    assert left_out(folder) == ""


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a", "a.JPG_large", "a.heic", "a.avif", "a.jp2", "a.ico", "a.txt"])
def test_an_image_is_read_whatever_it_is_called(name: str, folder: Path, home: Home) -> None:
    before = load(folder, home)
    image(folder / "train" / "cat" / name)
    after = load(folder, home)
    assert len(after.train) == 13
    assert after.digest != before.digest
    assert after.left_out == ""


def test_another_image_under_a_name_without_an_ending_is_noticed(folder: Path, home: Home) -> None:
    image(folder / "train" / "cat" / "a")
    before = load(folder, home)
    (folder / "train" / "cat" / "a").write_bytes((folder / "train" / "bird" / "0000.png").read_bytes())
    assert load(folder, home).digest != before.digest


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("train/cat/a.heic", "unsupported HEIC images (1: train/cat/a.heic)"),
        ("train/cat/a", "unsupported HEIC images (1: train/cat/a)"),
        ("train/cat/a\nb.heic", "unsupported HEIC images (1: train/cat/a\\nb.heic)"),
        ("test/bird/a.HEIF", "unsupported HEIC images (1: test/bird/a.HEIF)"),
        ("train/a.heic", "unsupported HEIC images in no class folder (1: train/a.heic)"),
        ("train/cat/.a.heic", "hidden unsupported HEIC images (1: train/cat/.a.heic)"),
        ("dev/cat/a.heic", "unsupported HEIC images in dev/, since validation images are those in val/: rename it"),
    ],
)
def test_an_image_of_an_unsupported_format_is_counted(name: str, line: str, folder: Path) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(HEIC)
    assert left_out(folder).startswith(f"Not read in photos: {line}")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("train/a.png", "images in no class folder (1: train/a.png)"),
        ("test/a", "images in no class folder (1: test/a)"),
        ("a.jfif", "images in no class folder (1: a.jfif)"),
        ("train/cat/.a.png", "hidden images (1: train/cat/.a.png)"),
        ("train/cat/.a", "hidden images (1: train/cat/.a)"),
        ("train/cat/.thumbnails/a.png", "hidden images (1: train/cat/.thumbnails/a.png)"),
        ("train/cat/.ipynb_checkpoints/sub/a.png", "hidden images (1: train/cat/.ipynb_checkpoints/sub/a.png)"),
        ("train/cat/@eaDir/a.png", "hidden images (1: train/cat/@eaDir/a.png)"),
        ("train/@eaDir/a.png", "hidden images (1: train/@eaDir/a.png)"),
        ("train/.dog/a.png", "hidden images (1: train/.dog/a.png)"),
        ("__MACOSX/a.png", "hidden images (1: __MACOSX/a.png)"),
        (".cache/a.png", "hidden images (1: .cache/a.png)"),
        ("extra/deep/a", "images in extra/ (1: extra/deep/a)"),
    ],
)
def test_an_image_that_is_not_where_it_is_read_is_counted(name: str, line: str, folder: Path) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image(folder / name)
    assert left_out(folder) == f"Not read in photos: {line}."


@pytest.mark.parametrize("name", ["dev", "DEV"])
def test_of_validation_images_under_another_name_it_is_said_how_they_would_be_used(name: str, folder: Path) -> None:
    for number in range(2):
        write_image(folder / name / "cat" / f"{number}.png", seed=number)
    assert left_out(folder) == (
        f"Not read in photos: images in {name}/, since validation images are those in val/: rename it to use them "
        f"(2, e.g. {name}/cat/0.png)."
    )


@pytest.mark.parametrize("name", ["Test", "testing", "eval"])
def test_of_test_images_under_another_name_it_is_said_how_they_would_be_used(name: str, folder: Path) -> None:
    write_image(folder / name / "cat" / "0.png", seed=1)
    assert f"images in {name}/, since test images are those in test/: rename it to use them (1: " in left_out(folder)


@pytest.mark.parametrize("place", ["", "train", "train/cat", "old"])
def test_archives_are_counted_wherever_they_lie(place: str, folder: Path) -> None:
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "more.zip").write_bytes(b"PK\x03\x04")
    name = str(Path(place, "more.zip"))
    assert left_out(folder) == f"Not read in photos: archives or data files (1: {name})."


def test_other_files_are_counted_within_a_class(folder: Path) -> None:
    (folder / "train" / "cat" / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    assert left_out(folder) == "Not read in photos: other files (1: train/cat/film.mp4)."


def test_a_link_to_nowhere_does_not_take_a_class_away_without_a_word(folder: Path) -> None:
    (folder / "train" / "dog").symlink_to("/nowhere")
    (folder / "train" / "cat" / "a").symlink_to("/nowhere")
    os.mkfifo(folder / "train" / "cat" / "pipe")
    line = left_out(folder)
    assert "broken links in no class folder (1: train/dog)" in line
    assert "broken links (1: train/cat/a)" in line
    assert "pipes, sockets or devices (1: train/cat/pipe)" in line


def test_links_to_folders_that_are_read_or_that_hold_the_data_set_are_not_followed_again(folder: Path) -> None:
    for name, target in {"a": folder / "train" / "bird", "b": folder / "train" / "bird"}.items():
        (folder / "train" / "bird" / name).symlink_to(target)
    for name, target in {"up": folder.parent, "same": folder, "top": Path("/"), "again": folder / "train"}.items():
        (folder / name).symlink_to(target)
    (folder / "train" / "cat" / "top").symlink_to(folder)
    assert left_out(folder) == "Not read in photos: links to folders that are read already (7, e.g. train/bird/a)."


def test_a_folder_that_cannot_be_opened_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, scandir = str(folder / "train" / "cat" / "closed"), os.scandir

    def refuse(path: str) -> object:
        if str(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    (folder / "train" / "cat" / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    reason = "folders that cannot be opened, permission denied"
    assert left_out(folder) == f"Not read in photos: {reason} (1: train/cat/closed)."


def test_images_in_sub_folders_are_read_and_said(folder: Path) -> None:
    write_image(folder / "train" / "bird" / "zoo" / "a.png", seed=1)
    listing = list_folder(folder)
    assert folder / "train" / "bird" / "zoo" / "a.png" in listing.files["train"]["bird"]
    assert listing.left_out == (
        "Images in sub-folders (1: train/bird/zoo/a.png) belong to the class folder above them."
    )


def test_a_class_of_unsupported_images_alone_is_refused_with_the_reason(folder: Path) -> None:
    shutil.rmtree(folder / "train" / "cat")
    (folder / "train" / "cat").mkdir()
    (folder / "train" / "cat" / "a.heic").write_bytes(HEIC)
    with pytest.raises(
        StudyError, match=r"classes: cat; not read: unsupported HEIC images \(1: train/cat/a\.heic\)\.$"
    ):
        list_folder(folder)


def test_many_reasons_are_cut_short(folder: Path) -> None:
    for number in range(MOST_REASONS + 3):
        write_image(folder / f"extra{number:02}" / "a.png", seed=number)
    line = left_out(folder)
    assert line.count("images in extra") == MOST_REASONS
    assert line.endswith("; and 3 more for 3 other reasons.")


def test_a_folder_that_only_needs_another_name_is_named_before_larger_ones(folder: Path) -> None:
    write_image(folder / "Dev" / "cat" / "a.png", seed=0)
    for number in range(MOST_REASONS):
        for name in ("a.png", "b.png"):
            write_image(folder / f"extra{number:02}" / name, seed=number)
    assert left_out(folder).startswith("Not read in photos: images in Dev/, since validation images are those in val/")


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"\x00\x00\x08\x03", "archives or data files"),
        (b"\x80\x02}q\x01", "archives or data files"),
        (b"\x0a\x05\x01\x08", "unsupported PCX images in no class folder"),
        (b"\x01\xda\x01\x01", "unsupported SGI images in no class folder"),
    ],
)
def test_images_under_a_name_without_an_ending_are_counted_by_their_first_bytes(
    head: bytes, line: str, folder: Path
) -> None:
    (folder / "data_batch_1").write_bytes(head)
    assert left_out(folder) == f"Not read in photos: {line} (1: data_batch_1)."


def test_what_this_program_writes_is_no_part_of_the_folder(folder: Path) -> None:
    inside = Home(root=folder)
    image(folder / "a.png")
    for own in (inside.reports, inside.store, inside.data):
        write_image(own / "page" / "figure.png", seed=1)
    dataset = load_dataset(DataConfig(dataset=str(folder)), inside)
    assert dataset.left_out == "Not read in photos: images in no class folder (1: a.png)."


def test_the_line_is_said_of_cached_images_too(folder: Path, home: Home) -> None:
    write_image(folder / "extra" / "cat" / "0.png", seed=1)
    first, second = load(folder, home), load(folder, home)
    assert "images in extra/" in first.left_out
    assert second.left_out == first.left_out


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_that_are_kept_apart_are_the_validation_split(name: str, folder: Path, home: Home) -> None:
    drawn = load(folder, home)
    for number, label in enumerate(["cat", "bird", "cat"]):
        write_image(folder / name / label / f"{number}.png", seed=100 + number)
    for dataset in (load(folder, home), load(folder, home)):  # decoded, then cached
        assert dataset.left_out == ""
        assert dataset.splits.validation.labels.tolist() == [0, 1, 1]
        assert dataset.splits.train.images.equal(drawn.train.images)
        assert len(dataset.train) == len(drawn.train) + 3
        assert dataset.digest != drawn.digest
        assert "validation images of its own" in dataset.source


def test_two_folders_of_validation_images_are_refused(folder: Path) -> None:
    for name in ("val", "valid"):
        write_image(folder / name / "cat" / "0.png", seed=1)
    with pytest.raises(StudyError, match=r"holds val/ and valid/: keep the validation images in one of them\.$"):
        list_folder(folder)


def test_a_class_of_the_validation_images_alone_is_refused(folder: Path) -> None:
    write_image(folder / "val" / "dog" / "0.png", seed=1)
    with pytest.raises(StudyError, match="val holds classes that train/ does not: dog"):
        list_folder(folder)


def test_a_folder_for_each_class_is_taken_as_it_is(folder: Path, home: Home) -> None:
    classes = (folder / "train").rename(folder.parent / "classes")
    image(classes / "loose.png")
    for own in (Home(root=classes).reports, Home(root=classes).store):
        write_image(own / "page" / "figure.png", seed=1)
    dataset = load_dataset(DataConfig(dataset=str(classes)), Home(root=classes))
    assert dataset.classes == ("bird", "cat")
    assert "test = seeded stratified fifth of train" in dataset.source
    assert dataset.left_out == "Not read in classes: images in no class folder (1: loose.png)."


def test_parts_are_taken_in_any_case(folder: Path) -> None:
    write_image(folder / "Val" / "cat" / "0.png", seed=1)
    for name in ("train", "test"):
        (folder / name).rename(folder / name.upper())
    listing = list_folder(folder)
    assert {part: sum(map(len, classes.values())) for part, classes in listing.files.items()} == {
        "train": 12, "validation": 1, "test": 6,
    }  # fmt: skip
    assert listing.left_out == ""


def test_a_file_in_place_of_a_folder_is_refused_and_an_archive_to_be_unpacked(tmp_path: Path) -> None:
    write_image(tmp_path / "cat.png", seed=1)
    (tmp_path / "images.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(StudyError, match=r"images\.zip is a file: unpack it and give the folder"):
        folder_of(str(tmp_path / "images.zip"))
    with pytest.raises(StudyError, match=r"cat\.png is a file: give the folder"):
        folder_of(str(tmp_path / "cat.png"))


@pytest.mark.parametrize(
    ("name", "similar"), [("imagse", " (is it 'images'?)"), ("My", " (is it 'My photos'?)"), ("zzz", "")]
)
def test_a_missing_folder_is_named_with_one_that_is_called_almost_so(name: str, similar: str, tmp_path: Path) -> None:
    for folder in ("images", "My photos"):
        (tmp_path / folder).mkdir()
    with pytest.raises(StudyError) as raised:
        folder_of(str(tmp_path / name))
    assert str(raised.value).startswith(f"There is no folder {tmp_path / name}{similar}: choose one of cifar10")
    assert str(raised.value).endswith("; give the present path if the images were moved.")


def test_images_in_no_class_folder_are_counted_with_the_layout_that_they_need(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / "cats" / f"{number}.png", seed=number)
    with pytest.raises(StudyError, match=r"holds 3 images in no class folder: .* as cats/<class>/0\.png\.$"):
        list_folder(tmp_path / "cats")


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "0.png", seed=1)
    with pytest.raises(StudyError, match=r"holds the one class 'cat': training needs two\.$"):
        list_folder(tmp_path)


@pytest.mark.parametrize("name", ["training", "val", "test"])
def test_parts_under_other_names_are_not_taken_for_classes(name: str, tmp_path: Path) -> None:
    for part in (name, "other"):
        write_image(tmp_path / part / "cat" / "0.png", seed=1)
    with pytest.raises(StudyError, match=r"has no train/: an image folder holds train/<class>/"):
        list_folder(tmp_path)
