import io
from contextlib import nullcontext

import matplotlib
import numpy as np
import pytest
from PIL import Image

from analysis.drawing import style
from analysis.drawing.tiles import draw_tile
from analysis.inside import animation
from analysis.inside.activations import activation_evolution
from analysis.inside.animation import LAST_MILLISECONDS, MILLISECONDS, caption, frames, gif, show
from analysis.inside.kernels import kernel_evolution
from tests.support.legibility import watched

RNG = np.random.default_rng(0)
EPOCHS = (0, 2, 3)
IMAGE = np.stack([*np.indices((32, 32)) * 8, np.full((32, 32), 90)], axis=2).astype(np.uint8)
ACCURACY = {0: 0.1, 2: 0.5, 3: 0.625}


def tables(conv: dict[int, np.ndarray], channels: int = 3):
    kernel = kernel_evolution({epoch: RNG.normal(size=(2, channels, 5, 5)) for epoch in conv}, 1)
    rectified = {epoch: np.maximum(epoch_maps, 0) for epoch, epoch_maps in conv.items()}
    pooled = {epoch: epoch_maps.reshape(8, 2, 8, 2).max(axis=(1, 3)) for epoch, epoch_maps in rectified.items()}
    return kernel, activation_evolution({"conv1": conv, "relu1": rectified, "pool1": pooled})


def drawn(conv, accuracy=ACCURACY, channels=3, title="Filter 1") -> list[np.ndarray]:
    return frames(*tables(conv, channels), accuracy, layer="conv1", image=IMAGE, title=title)


CONV = {epoch: RNG.normal(size=(16, 16)) * (1 + epoch) for epoch in EPOCHS}


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return drawn(CONV)


@pytest.fixture(scope="module")
def animated(pictures) -> bytes:
    return gif(pictures)


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def test_there_is_a_picture_for_every_epoch_and_all_have_one_size(pictures):
    assert len(pictures) == len(EPOCHS)
    assert len({picture.shape for picture in pictures}) == 1
    assert pictures[0].dtype == np.uint8


@pytest.mark.parametrize(("channels", "rows"), [(3, 1), (32, 2)])
@pytest.mark.parametrize("page", [nullcontext, style.narrow_page])
def test_three_colours_of_a_kernel_stand_in_a_row(channels: int, rows: int, page, monkeypatch: pytest.MonkeyPatch):
    tops = []

    def noted(ax, values, left, top, side, scale, title=""):
        if values.shape == (5, 5):
            tops.append(top)
        return draw_tile(ax, values, left, top, side, scale, title)

    monkeypatch.setattr(animation, "draw_tile", noted)
    with page():
        drawn({0: CONV[0]}, channels=channels)
    assert len(set(tops)) == rows


@pytest.mark.slow
def test_the_maps_have_their_colours_on_the_scale_of_all_epochs(pictures):
    limits = style.limits_around_zero(np.stack(list(CONV.values())))
    cmap = matplotlib.colormaps[style.DIVERGING]
    for epoch, picture in zip(EPOCHS, pictures, strict=True):
        share = (CONV[epoch] - limits[0]) / (limits[1] - limits[0])
        expected = {tuple(colour) for colour in cmap(share, bytes=True)[..., :3].reshape(-1, 3).tolist()}
        assert expected <= colours(picture)


def test_only_what_changes_changes(pictures):
    title, image = np.s_[:20], np.s_[60:180, 20:150]
    for place in (title, image):
        np.testing.assert_array_equal(pictures[0][place], pictures[-1][place])
    assert (pictures[0][240:] != pictures[-1][240:]).any()


def test_the_gif_shows_every_epoch_and_the_last_one_longer(animated, pictures):
    with Image.open(io.BytesIO(animated)) as opened:
        assert (opened.n_frames, opened.info["loop"]) == (len(EPOCHS), 0)
        times = []
        for place, picture in enumerate(pictures):
            opened.seek(place)
            times.append(opened.info["duration"])
            off = np.abs(np.asarray(opened.convert("RGB")).astype(int) - picture)
            assert off.max() <= 30
            assert off.mean() < 2
            white = (picture == 255).all(axis=2)
            assert not off[white].any()
        assert times == [MILLISECONDS] * 2 + [LAST_MILLISECONDS]
    assert len(animated) < 1_000_000


def test_flat_areas_stay_flat(animated, pictures):
    # A square of a map is one colour; dithering would make it several.
    with Image.open(io.BytesIO(animated)) as opened:
        shown = np.asarray(opened.convert("RGB"))
    flat = (pictures[0][1:] == pictures[0][:-1]).all(axis=2)
    np.testing.assert_array_equal(shown[1:][flat], shown[:-1][flat])


def test_one_epoch_is_a_still_picture():
    only = gif(drawn({1: CONV[2]}, {1: 0.5}))
    with Image.open(io.BytesIO(only)) as opened:
        assert getattr(opened, "n_frames", 1) == 1


def test_dead_maps_deep_kernels_missing_accuracies_and_odd_titles_are_drawn():
    dead = drawn({0: np.full((16, 16), -1.0), 1: np.zeros((16, 16))}, {}, channels=8, title="$_{$ <b> " + "long " * 9)
    assert len(dead) == 2
    assert (dead[0] != dead[1]).any()


def test_a_few_colours_are_kept_as_they_are():
    picture = np.full((4, 4, 3), 255, np.uint8)
    picture[0] = (10, 20, 30)
    with Image.open(io.BytesIO(gif([picture]))) as opened:
        np.testing.assert_array_equal(np.asarray(opened.convert("RGB")), picture)


def test_the_caption_follows_the_strongest_activation():
    first, peak, last = (CONV[epoch].max() for epoch in EPOCHS)
    assert first < last
    caption_text = caption(tables(CONV)[1])
    assert caption_text.startswith(
        f"On this image its largest activation is {first:.3g} at epoch 0 and {last:.3g} at epoch 3"
    )
    assert ("peak" in caption_text) == (peak > last)
    assert caption_text.endswith("it is zero everywhere at none of the 3 epochs.")
    dying = caption(tables({0: CONV[0], 1: -np.ones((16, 16))})[1])
    assert dying.endswith("0 at epoch 1; it is zero everywhere at 1 of the 2 epochs.")
    assert (
        caption(tables({0: -np.ones((16, 16))})[1])
        == "On this image its ReLU is zero everywhere at every epoch from 0 to 0."
    )


def test_it_says_which_input_channels_are_shown():
    maps = {"conv2": CONV, "relu2": {epoch: np.maximum(shown, 0) for epoch, shown in CONV.items()}}
    maps["pool2"] = {epoch: shown[::2, ::2] for epoch, shown in maps["relu2"].items()}
    for channels, said in ((8, "Shown are the 4 of the 8 input channels"), (4, "")):
        weights = {epoch: RNG.normal(size=(2, channels, 5, 5)) for epoch in CONV}
        exhibit = show(weights, maps, ACCURACY, "conv2", 1, image=IMAGE, description="an image")
        assert exhibit.note.startswith(said)
        assert bool(exhibit.note) == bool(said)


def test_drawing_leaves_the_callers_settings_alone():
    before = dict(matplotlib.rcParams)
    drawn({0: CONV[0]})
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("page", [nullcontext, style.narrow_page])
@pytest.mark.parametrize("size", [0.9, 1.5, 1.52, 2.0, 11.0])
def test_numbers_of_two_colour_bars_do_not_run_into_each_other(size: float, page):
    largest = np.abs(CONV[0]).max()
    with watched() as found, page():
        drawn({0: CONV[0] / largest * size}, dict.fromkeys(range(31), 0.5))
    assert list(found.values()) == [[]]


def test_on_a_narrow_screen_the_maps_stand_below_each_other():
    shown = {0: CONV[0], 2: CONV[2]}
    with style.narrow_page():
        [picture, _] = drawn(shown, {0: 0.1, 2: 0.5})
        kernel, maps = tables(shown)
        unpooled = maps[maps["layer"] != "pool1"]
        two_maps = frames(kernel, unpooled, {0: 0.1, 2: 0.5}, layer="conv1", image=IMAGE, title="Filter 1")
    height, width, _ = picture.shape
    assert width == int(style.NARROW * style.DOTS_PER_INCH)
    assert height > 1.8 * width
    # Without a pooled map the accuracy still has a row of its own.
    assert two_maps[0].shape == picture.shape
