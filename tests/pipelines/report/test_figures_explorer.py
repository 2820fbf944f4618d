import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.explorer import page
from analysis.results.kinds import GROUPS
from pipelines.config import AnalysisConfig
from pipelines.report import measurements
from pipelines.report.exhibits import MANIFEST, NARROW, Report
from pipelines.report.material import Material
from pipelines.report.measurements import other_images, pictures, trace
from pipelines.report.network import Network, pull
from study.data import Dataset
from study.errors import StudyError
from study.selection import SelectedImage, select_image
from tests.support.material import written


@pytest.fixture(scope="module")
def network(finished_study) -> Network:
    store = finished_study.context.store
    return pull(store, store.get(finished_study.retrained["cnn"]))


@pytest.fixture(scope="module")
def image(tiny: Dataset) -> SelectedImage:
    return select_image(tiny, "train:6")


@pytest.fixture(scope="module")
def report(network: Network, image: SelectedImage, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Report:
    config = AnalysisConfig(filter=3)
    material = Material(network, {}, {"conv1": 3, "conv2": 5}, tiny, image, config=config)
    return written(material, tmp_path_factory.mktemp("report"), ("animation_conv1", "animation_conv2", "explorer"))


def test_the_animations_and_the_explorer_are_written_and_on_the_page(report: Report, network: Network):
    names = {"animation_conv1_filter3.gif", "animation_conv2_filter5.gif", "explorer.html"}
    assert {file.name for file in report.folder.iterdir()} == names | {MANIFEST, NARROW}
    first, second, last = report.sections
    assert first.gif == "animation_conv1_filter3.gif"
    animation, frame = (
        Image.open(io.BytesIO(content or b"")) for content in ((report.folder / first.gif).read_bytes(), first.png)
    )
    animation.seek(len(network.files) - 1)
    assert frame.convert("RGB").tobytes() == animation.convert("RGB").tobytes()
    assert first.narrow_gif == f"{NARROW}/{first.gif}"
    assert first.narrow is not None
    with Image.open(report.folder / first.narrow_gif) as narrow, Image.open(report.folder / first.narrow[0]) as still:
        assert narrow.size == still.size
        assert narrow.height > narrow.width
    assert second.heading == "Filter 5 of conv2, animated"
    assert last.link
    assert last.link[1] == "explorer.html"
    assert "any of the 10 filters" in last.note


@pytest.mark.parametrize("name", ["animation_conv1_filter3", "animation_conv2_filter5"])
def test_an_animation_has_a_frame_for_every_epoch(report: Report, network: Network, name: str):
    data = (report.folder / f"{name}.gif").read_bytes()
    assert len(data) < 1_000_000
    with Image.open(io.BytesIO(data)) as opened:
        assert getattr(opened, "n_frames", 1) == len(network.files)


def test_the_report_follows_its_filter_and_the_living_one_that_matters_most(
    network: Network, image: SelectedImage, tiny: Dataset
):
    material = Material(network, {}, {"conv1": 0, "conv2": 0}, tiny, image)
    effects, maps = material.image_effects, network.maps(network.last, image)
    for layer in ("conv1", "conv2"):
        part = effects[effects["layer"] == layer].set_index("filter")["margin_lost"].abs()
        fires = maps[f"relu{layer[-1]}"].max(axis=(1, 2)) > 0
        expected = part[fires].idxmax()
        assert list(material.followed(layer)) == list(dict.fromkeys([0, expected]))
        assert "changes the margin most" in material.followed(layer)[expected]
        assert "the report's" not in " ".join(material.followed(layer).values())
    assert material.start == ("conv1", list(material.followed("conv1"))[-1])
    names = tuple(sorted(name for names in GROUPS.values() for name in names))
    of_report = replace(material, network=replace(network, classes=names))
    assert of_report.followed("conv1")[0].startswith("Filter 0 is the last one, in place of the report's 12")
    chosen = replace(material, config=AnalysisConfig(filter=0))
    assert list(chosen.followed("conv1")) == [0]
    assert list(replace(material, dataset=None).followed("conv1")) == [0]


def test_of_a_network_of_dead_filters_the_reports_one_is_followed(
    network: Network, image: SelectedImage, tiny: Dataset
):
    weights = {name: torch.zeros_like(tensor) for name, tensor in network.weights(network.last).items()}
    dead = replace(network, _pulled={network.last: weights})
    material = Material(dead, {}, {"conv1": 2, "conv2": 3}, tiny, image)
    assert [list(material.followed(layer)) for layer in ("conv1", "conv2")] == [[2], [3]]
    assert material.start == ("conv1", 2)


def test_the_image_under_study_is_shown_once(network: Network, tiny: Dataset, tmp_path: Path):
    material = Material(network, {}, {"conv1": 0}, tiny, select_image(tiny, "test:0"))
    report = written(material, tmp_path, ["explorer"])
    assert f"{len(tiny.classes)} images side by side" in report.sections[-1].note


def test_one_test_image_of_each_class_is_chosen(tiny: Dataset):
    assert [image.label for image in other_images(tiny, None)] == list(range(10))
    assert all(image.spec.startswith("test:") for image in other_images(tiny, None))


def test_a_class_without_test_images_is_left_out(tiny: Dataset):
    only = tiny.test.subset(tiny.test.labels == 4)
    assert [image.label for image in other_images(replace(tiny, test=only), None)] == [4]


def test_of_many_classes_only_as_many_are_shown_as_fit(tiny: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measurements, "FITTING", 4)
    assert [image.label for image in other_images(tiny, None)] == [0, 1, 2]


def test_so_many_images_as_are_asked_for_are_shown_the_classes_in_turn(tiny: Dataset, network: Network, tmp_path: Path):
    assert [image.label for image in other_images(tiny, 12)] == [*range(10), 0, 1]
    assert len({image.description for image in other_images(tiny, 40)}) == 40
    assert len(other_images(tiny, 50)) == 40, "there are no more"
    for study, count in (("train:6", 5), ("test:0", 5), ("train:6", 1)):
        config = AnalysisConfig(explorer_images=count)
        material = Material(network, {}, {"conv1": 0}, tiny, select_image(tiny, study), config=config)
        report = written(material, tmp_path / f"{study}-{count}", ["explorer"])
        page = (report.folder / "explorer.html").read_text()
        assert page.count('"label": ') == count


def test_the_trace_is_what_the_network_made_of_the_images(network: Network, image: SelectedImage, tiny: Dataset):
    images = [image, *other_images(tiny, None)[:2]]
    traced = trace(network, images)
    assert list(traced.epochs) == [0, 1, 2]
    accuracy = network.history.set_index("epoch")["test_accuracy"]
    assert list(traced.accuracy) == accuracy.loc[[0, 1, 2]].tolist()
    for place, epoch in enumerate(traced.epochs):
        alone = network.maps(epoch, image)
        np.testing.assert_allclose(traced.inputs[place, 0], alone["pool1"], rtol=1e-5, atol=1e-6)
        shares = torch.softmax(torch.from_numpy(alone["fc"]), dim=0).numpy()
        np.testing.assert_allclose(traced.probabilities[place, 0], shares, rtol=1e-4)
        every = np.stack([network.maps(epoch, one)["conv2"] for one in images])
        np.testing.assert_allclose(traced.ranges["conv2"][place, :, 0], every.min(axis=(0, 2, 3)), rtol=1e-4)
        np.testing.assert_array_equal(traced.weights["conv2.bias"][place], network.weights(epoch)["conv2.bias"])


def test_a_picture_is_the_image_with_its_description_and_class(image: SelectedImage):
    (picture,) = pictures([image])
    np.testing.assert_array_equal(picture.pixels, image.image.permute(1, 2, 0).numpy())
    assert (picture.name, picture.label) == (image.description, image.label)


def test_an_explorer_that_cannot_be_small_enough_is_a_mendable_failure(
    network: Network, image: SelectedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def too_large(*args: object, **settings: object) -> str:
        raise ValueError("One epoch's weights make the page larger than 4,000,000 bytes.")

    monkeypatch.setattr(page, "page", too_large)
    material = Material(network, {}, {"conv1": 0}, selected=image)
    with pytest.raises(StudyError, match=r"^The explorer cannot be written\. One epoch's .* bytes\.$"):
        written(material, tmp_path, ["explorer"])
