"""One image is chosen by its number, its class or its file; what is not there is answered with the choices."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from study.data import Dataset
from study.errors import StudyError
from study.home import Home
from study.selection import select_image
from tests.study.test_data import balanced, load, one_sentence, write_folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(root=tmp_path / "home")


class TestSelectImage:
    @pytest.fixture
    def dataset(self, tmp_path: Path, home: Home) -> Dataset:
        return load(write_folder(tmp_path / "animals", classes=("ant", "bird", "cat")), home)

    @pytest.mark.parametrize(
        ("spec", "part", "index", "description"),
        [
            ("", "train", 6, "train image 6 (bird)"),
            ("train:0", "train", 0, "train image 0 (ant)"),
            ("test:8", "test", 8, "test image 8 (cat)"),
            ("cat", "train", 12, "train image 12 (cat)"),
            ("bird/3", "train", 9, "train image 9 (bird)"),
            ("9", "train", 9, "train image 9 (bird)"),
        ],
    )
    def test_an_index_or_a_class_selects(self, dataset: Dataset, spec: str, part: str, index: int, description: str):
        selected = select_image(dataset, spec)
        images = getattr(dataset, part)
        assert torch.equal(selected.image, images.images[index])
        assert selected.label == int(images.labels[index])
        assert (selected.description, selected.spec) == (description, f"{part}:{index}")

    def test_a_file_of_the_folder_is_the_image_of_the_data_set(self, dataset: Dataset):
        selected = select_image(dataset, "bird/3")
        assert selected.file == "train/bird/0003.png"
        for spec in (selected.file, f"{dataset.config.dataset}/{selected.file}"):
            again = select_image(dataset, spec)
            assert (again.spec, again.label, again.file) == ("train:9", selected.label, selected.file)

    def test_a_file_is_that_of_the_data_set_also_by_a_way_through_links(self, dataset: Dataset, tmp_path: Path):
        (tmp_path / "link").symlink_to(dataset.config.dataset)
        assert select_image(dataset, str(tmp_path / "link/train/bird/0003.png")).spec == "train:9"

    def test_without_birds_the_first_class_is_the_default(self):
        assert select_image(balanced(classes=3, per_class=2), "").description == "train image 0 (class 0)"

    def test_a_file_is_resized_and_has_no_label(self, dataset: Dataset, tmp_path: Path):
        Image.new("RGB", (100, 50), (10, 20, 30)).save(tmp_path / "photo.png")
        selected = select_image(dataset, str(tmp_path / "photo.png"))
        assert selected.image.shape == (3, 32, 32)
        assert selected.image[:, 5, 5].tolist() == [10, 20, 30]
        assert selected.label is None
        assert selected.description == str(tmp_path / "photo.png")

    @pytest.mark.parametrize(
        ("spec", "reason"),
        [
            ("train:18", "There is no image train:18: choose a number from 0 to 17."),
            ("test:-1", "There is no image test:-1: choose a number from 0 to 8."),
            ("bird/6", "There is no image bird/6: choose a number from 0 to 5."),
            (
                "wolf",
                "Unknown image 'wolf': choose train:N, test:N, a class (ant, bird, cat), CLASS/N or the path of "
                "an image file.",
            ),
        ],
    )
    def test_what_is_not_there_is_answered_with_the_choices(self, dataset: Dataset, spec: str, reason: str):
        with pytest.raises(StudyError) as raised:
            select_image(dataset, spec)
        assert one_sentence(raised.value) == reason

    def test_a_file_that_is_no_image_is_named(self, dataset: Dataset, tmp_path: Path):
        (tmp_path / "notes.png").write_text("no image")
        with pytest.raises(StudyError, match=r"notes\.png cannot be read as an image \(its format is not known\)\."):
            select_image(dataset, str(tmp_path / "notes.png"))
