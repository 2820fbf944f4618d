"""A folder as people have them, from the command line: what is not read and what is there twice is said and shown."""

import shutil
from pathlib import Path
from shlex import quote

import pandas as pd
import pytest

from study.home import Home
from study.tracking.store import Store
from tests.study.test_data import write_folder, write_image
from tests.support.process import Ended, study_here

TUNE = ("--model", "ffnn", "--trials", "1", "--epochs", "1", "--retrain-epochs", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of six test images are also training images, and an image stands in both classes."""
    root = write_folder(tmp_path_factory.mktemp("of others") / "photos", train=12, test=3)
    cats = root / "train" / "cat"
    for number in range(3):
        shutil.copy(cats / f"{number:04}.png", root / "test" / "cat" / f"{number:04}.png")
    shutil.copy(cats / "0005.png", root / "train" / "bird" / "copy.png")
    (cats / "0006.png").rename(cats / "without ending")
    (cats / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    write_image(root / "extra" / "cat" / "0.jfif.png", seed=5)
    return root


@pytest.fixture(scope="module")
def tuned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Ended]:
    home = Home(root=tmp_path_factory.mktemp("tuned") / "home")
    return home, study_here("tune", "--dataset", str(folder), *TUNE, home=home.root)


def test_data_says_what_is_not_read_and_how_many_images_are_there_twice(folder: Path, tmp_path: Path) -> None:
    ended = study_here("data", "--dataset", str(folder), home=tmp_path)
    assert ended.code == 0, ended.err
    [left_out] = [line for line in ended.out.splitlines() if line.startswith("Not read in photos: ")]
    assert "unsupported HEIC images (1: train/cat/photo.heic)" in left_out
    assert "images in extra/" in left_out
    assert "Exact duplicates (equal pixels at 32×32): 3 of 6 test images equal to a training" in ended.out
    assert "2 of 31 images in two or more classes" in ended.out


@pytest.mark.slow
def test_tune_says_once_what_is_not_read(tuned: tuple[Home, Ended]) -> None:
    _, ended = tuned
    assert ended.code == 0, ended.err
    assert ended.out.count("Not read in photos: ") == 1


def test_the_next_command_says_how_many_notices_there_are_and_where(folder: Path, tuned: tuple[Home, Ended]) -> None:
    home, first = tuned
    assert "There are only 3 validation images" in first.out
    ended = study_here("analyse", "--run", "best:ffnn", "--only", "samples", home=home.root)
    assert ended.code == 0, ended.err
    assert "There are only" not in ended.out
    shows = f"`study data --dataset {quote(str(folder))} --home {home.root}`"
    assert f" notices about these images: {shows}." in ended.out


def test_the_retrained_run_records_how_many_test_images_are_training_images(tuned: tuple[Home, Ended]) -> None:
    store = Store(tuned[0])
    [run] = store.runs(stage="retrain")
    assert store.load_json(run.id, "dataset.json")["test_images_equal_to_a_training_image"] == 3


def test_the_report_has_the_accuracy_without_duplicates(tuned: tuple[Home, Ended]) -> None:
    home, _ = tuned
    ended = study_here("analyse", "--run", "best:ffnn", "--only", "duplicates", home=home.root)
    assert ended.code == 0, ended.err
    [table] = home.reports.rglob("duplicates_accuracy.csv")
    assert pd.read_csv(table)["images"].tolist() == [6, 3]
    images = pd.read_csv(table.with_name("duplicate_images.csv"))
    assert images["image"].tolist().count("test:3") == 1
    assert len(images) == 2 * 3 + 2
    assert images.set_index("image")["file"]["test:3"].startswith("test/cat/")
    page = next(home.reports.rglob("only/*.html")).read_text()
    assert "without them the accuracy is" in page


def test_report_and_explanation_name_the_file_of_the_image(folder: Path, tuned: tuple[Home, Ended]) -> None:
    home, _ = tuned
    file = "test/cat/0002.png"
    chosen = ("--run", "best:ffnn", "--image", str(folder / file))
    ended = study_here("analyse", *chosen, "--only", "samples", home=home.root)
    assert ended.code == 0, ended.err
    assert f"test image 5 (cat), {file}, --image test:5" in next(home.reports.rglob("only/*.html")).read_text()
    ended = study_here("explain", *chosen, home=home.root)
    assert ended.code == 0, ended.err
    assert f"The explained image is the file {file}." in ended.out
    [page] = home.reports.rglob("explanations/test-5/index.html")
    assert file in page.read_text()
    assert (pd.read_csv(page.with_name("influence.csv"))["file"].str.startswith("train/")).all()
