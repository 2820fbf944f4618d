import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import matplotlib
import numpy as np
import pytest

from analysis.drawing import style
from analysis.explorer import page as explorer
from analysis.explorer.page import Trace, caption, page, value_ranges
from pipelines.report.measurements import pictures, trace
from study.architectures import CNNConfig
from study.data import Dataset
from tests.support.explored import DEAD, Expected, chosen, trained

CLASSES = ("ape", "\"&'", "</script><script>alert(1)</script>")
EPOCHS = 4


@pytest.fixture(scope="module")
def expected(tiny: Dataset) -> Expected:
    network = trained(CNNConfig(filters=(4, 6)), tiny.train, CLASSES, EPOCHS)
    return Expected.of(network, chosen(tiny.test, 3, CLASSES))


@pytest.fixture(scope="module")
def traced(expected: Expected) -> Trace:
    return trace(expected.network, expected.images)


def written(expected: Expected, traced: Trace, **settings) -> str:
    return page(traced, pictures(expected.images), CLASSES, title="A <title>", start=("conv2", 1), **settings)


@pytest.fixture(scope="module")
def html(expected: Expected, traced: Trace) -> str:
    return written(expected, traced)


def inside(html: str, name: str) -> str:
    match = re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert match
    return match[1]


def unpacked(html: str) -> dict[str, np.ndarray]:
    """The arrays that the page holds."""
    data = gzip.decompress(base64.b64decode(inside(html, "arrays")))
    arrays, start = {}, 0
    for name, (kind, *shape) in json.loads(inside(html, "meta"))["shapes"].items():
        size = np.dtype(kind).itemsize * int(np.prod(shape))
        planes = np.frombuffer(data[start : start + size], np.uint8).reshape(np.dtype(kind).itemsize, -1)
        arrays[name] = np.ascontiguousarray(planes.T).view(f"<{kind}").reshape(shape)
        start += size
    assert start == len(data)
    return arrays


def test_the_page_holds_the_weights_pictures_and_probabilities(html: str, traced: Trace, expected: Expected):
    arrays = unpacked(html)
    for name in ("conv1.weight", "conv1.bias", "conv2.bias"):
        np.testing.assert_allclose(arrays[name], traced.weights[name], rtol=0, atol=1e-30)
    levels, steps = arrays["conv2.levels"].astype(np.int64), arrays["conv2.steps"].astype(float)
    signed = (levels >> 1) ^ -(levels & 1)
    off = np.abs(signed * steps[..., None, None, None] - traced.weights["conv2.weight"])
    assert (off <= steps[..., None, None, None] / 2 * 1.001).all()
    np.testing.assert_array_equal(arrays["pixels"][1], expected.images[1].image.permute(1, 2, 0).numpy())
    np.testing.assert_allclose(arrays["probabilities"].sum(axis=2), 1, rtol=1e-6)
    np.testing.assert_array_equal(arrays["relu2.largest"], traced.ranges["relu2"][..., 1])


def test_a_class_in_a_name_is_quoted_so_that_it_is_no_number_of_an_image(traced: Trace, expected: Expected):
    shown = [replace(picture, name=f"test image 12 ({CLASSES[0]})", label=0) for picture in pictures(expected.images)]
    shown[1] = replace(shown[1], name="test image 0 (1)", label=1)
    shown[2] = replace(shown[2], name="photo (1).png", label=None)
    html = page(traced, shown, ("ape", "1", "2"), title="A title", start=("conv2", 1))
    names = [picture["name"] for picture in json.loads(inside(html, "meta"))["pictures"]]
    assert names == ["test image 12 (ape)", "test image 0 (“1”)", "photo (1).png"]


def test_the_limits_are_those_of_the_figures_over_all_epochs_and_images(html: str, expected: Expected):
    limits = json.loads(inside(html, "meta"))["limits"]
    everywhere = {
        name: np.stack([maps[name] for maps in expected.activations.values()]) for name in ("conv2", "relu2", "pool1")
    }
    for filter in range(4):
        assert tuple(limits["conv2"][filter]) == style.limits_around_zero(everywhere["conv2"][:, :, filter])
        assert tuple(limits["relu2"][filter]) == style.limits_from_zero(everywhere["relu2"][:, :, filter])
        assert tuple(limits["pool1"][filter]) == style.limits_from_zero(everywhere["pool1"][:, :, filter])
    kernels = np.stack([expected.network.weights(epoch)["conv2.weight"][5].numpy() for epoch in range(EPOCHS + 1)])
    assert tuple(limits["conv2.weight"][5]) == style.limits_around_zero(kernels)


@pytest.mark.parametrize("name", [style.DIVERGING, style.SEQUENTIAL])
def test_the_mean_of_two_colours_is_within_two_of_both(html: str, name: str):
    table = unpacked(html)["diverging" if name == style.DIVERGING else "sequential"].astype(int)
    cmap = matplotlib.colormaps[name]
    np.testing.assert_array_equal(table[::2], cmap(np.arange(256), bytes=True)[:, :3])
    for colours in (cmap(np.arange(256), bytes=True)[:, :3], np.round(cmap(np.arange(256))[:, :3] * 255)):
        assert np.abs(table[1::2] - colours[1:]).max() <= 2
        assert np.abs(table[1::2] - colours[:-1]).max() <= 2


class AddressParser(HTMLParser):
    """Collects the tags of a page, and every address that it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str | None] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_page_fetches_nothing_and_holds_its_style_and_scripts(html: str):
    read = AddressParser(html)
    assert read.addresses == []
    assert not {"link", "img", "iframe"} & set(read.tags)
    assert not re.search(r"{[{%]", html)
    folder = files("analysis.explorer")
    for name in ("explorer.css", "network.js", "drawing.js", "explorer.js"):
        assert (folder / name).read_text(encoding="utf-8") in html
    assert "localStorage" not in html
    assert re.findall(r"https?://[^\"' ]+", html) == ["http://www.w3.org/2000/svg"]  # a name, not a place


def test_what_others_named_is_escaped(html: str):
    assert html.count("</script>") == 3
    assert "<title>A &lt;title&gt;</title>" in html
    assert json.loads(inside(html, "meta"))["classes"] == list(CLASSES)
    assert json.loads(inside(html, "meta"))["title"] == "A <title>"


def test_a_page_that_is_too_large_holds_fewer_epochs_and_always_the_last(expected: Expected, traced: Trace, html: str):
    less = written(expected, traced, most_bytes=len(html.encode()) - 1)
    meta = json.loads(inside(less, "meta"))
    assert meta["epochs"] == [0, 2, 4]
    assert meta["accuracy"] == pytest.approx([0.1, 0.4, 0.7])
    assert meta["limits"] == json.loads(inside(html, "meta"))["limits"]
    np.testing.assert_array_equal(unpacked(less)["conv2.bias"], traced.weights["conv2.bias"][::2])
    assert json.loads(inside(written(expected, traced, most_bytes=len(less.encode()) - 1), "meta"))["epochs"] == [1, 4]


def test_a_page_that_cannot_be_small_enough_is_refused(expected: Expected, traced: Trace):
    with pytest.raises(ValueError, match="larger than 1,000 bytes"):
        written(expected, traced, most_bytes=1000)


def test_the_same_network_gives_the_same_page(expected: Expected, traced: Trace, html: str):
    assert written(expected, traced) == html


def test_an_accuracy_that_was_not_measured_is_left_out(expected: Expected, traced: Trace):
    page = written(expected, replace(traced, accuracy=[np.nan, 0.2, 0.3, 0.4, 0.5]))
    assert json.loads(inside(page, "meta"))["accuracy"] == [None, 0.2, 0.3, 0.4, 0.5]


def test_a_network_whose_filters_are_all_dead_is_shown(expected: Expected, traced: Trace):
    dead = replace(
        traced,
        weights={name: np.zeros_like(values) for name, values in traced.weights.items()},
        ranges={name: np.zeros_like(values) for name, values in traced.ranges.items()},
        inputs=np.zeros_like(traced.inputs),
    )
    arrays = unpacked(written(expected, dead))
    assert not arrays["conv2.levels"].any()
    assert all(np.isfinite(values).all() for values in arrays.values())
    assert "4 of 4 filters of conv1 and 6 of 6 filters of conv2 are silent" in caption(dead)


def test_the_ranges_are_the_smallest_and_largest_values_of_each_filter():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    ranges = value_ranges({"conv1": maps})["conv1"]
    assert ranges.shape == (3, 2)
    assert ranges[1].tolist() == [maps[:, 1].min(), maps[:, 1].max()]


def test_the_caption_counts_filters_pictures_epochs_and_the_silent(traced: Trace, expected: Expected):
    silent = {layer: (traced.ranges[maps[1]][-1, :, 1] <= 0).sum() for layer, maps in explorer.MAPS.items()}
    assert all(silent[layer] >= 1 for layer in DEAD)
    assert "any of the 10 filters" in explorer.note(traced)
    assert "3 images side by side, from epoch 0 to 4" in explorer.note(traced)
    assert caption(traced) == (
        f"At epoch 4, {silent['conv1']} of 4 filters of conv1 and {silent['conv2']} of 6 filters of conv2 are silent "
        "on all of the 3 images shown."
    )


@pytest.mark.slow
def test_fifty_images_and_every_epoch_of_a_whole_training_fit_the_page(tiny: Dataset):
    network = trained(CNNConfig(), tiny.test, CLASSES, 30)
    images = chosen(tiny.train, 40, CLASSES) + chosen(tiny.test, 10, CLASSES)
    html = page(trace(network, images), pictures(images), CLASSES, title="Fifty", start=("conv1", 12))
    assert len(html.encode()) < 4_000_000
    meta = json.loads(inside(html, "meta"))
    assert meta["epochs"] == list(range(31))
    assert len(meta["pictures"]) == 50
