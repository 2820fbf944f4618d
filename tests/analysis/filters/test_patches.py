import numpy as np
import pandas as pd
import pytest

from analysis.drawing import style
from analysis.filters.kernel_pictures import kernel_pictures, slice_pictures, strongest_inputs
from analysis.filters.patch_sheet import draw_top_patches, responding
from analysis.filters.patches import PATCHES, _notes, caption, chance, crop_patches, note, top_patches
from tests.support.legibility import problems_on_screens

RNG = np.random.default_rng(3)
CLASSES = ["cat", "dog"]
LABELS = np.arange(20) % 2
IMAGES = RNG.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
PEAK = RNG.random((20, 5))
MEAN = PEAK / 3
PEAK[:, 1] = MEAN[:, 1] = 0
PEAK[:, 2] = MEAN[:, 2] = 0.7
PEAK[:, 3] = MEAN[:, 3] = 1e-9 * RNG.random(20)
PEAK[3:, 4] = 0
TOP, LEFT = RNG.integers(-6, 25, (2, 20, 5))
SLICES = np.full((64, 3, 5, 5, 3), 0.5)
TABLE = top_patches(PEAK, MEAN, (TOP, LEFT), LABELS, CLASSES)


def draw(table=TABLE, kernels=None, **changed):
    crops = crop_patches(table, IMAGES, 14)
    look = {"title": "conv2", "key": "AUC lost: × 100", "notes": {0: ["most for cat", "inputs 1, 2"]}, **changed}
    figure = draw_top_patches(table, crops, kernels=SLICES if kernels is None else kernels, **look)
    figure.draw_without_rendering()
    return figure


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_each_filter_has_its_most_activating_images_best_first_and_each_once():
    part = TABLE[TABLE["filter"] == 0]
    assert part["rank"].tolist() == list(range(1, PATCHES + 1))
    assert part["image"].tolist() == np.argsort(-PEAK[:, 0])[:PATCHES].tolist()
    assert part["activation"].tolist() == sorted(PEAK[:, 0], reverse=True)[:PATCHES]
    for row in part.to_dict("records"):
        image = int(row["image"])
        assert (row["top"], row["left"]) == (TOP[image, 0], LEFT[image, 0])
        assert row["class"] == CLASSES[LABELS[image]]


def test_a_silent_a_constant_and_a_vanishing_filter_get_no_patches():
    states = TABLE.drop_duplicates("filter").set_index("filter")["state"]
    assert states.to_dict() == {0: "responds", 1: "silent", 2: "constant", 3: "faint", 4: "responds"}
    assert TABLE.loc[TABLE["filter"].isin([1, 2, 3]), ["rank", "image", "activation"]].isna().all(axis=None)
    assert set(responding(TABLE)["filter"]) == {0, 4}


def test_images_that_leave_a_filter_silent_are_no_patches_of_it():
    assert sorted(TABLE.loc[TABLE["filter"] == 4, "image"]) == [0, 1, 2]


def test_a_crop_is_the_images_pixels_and_see_through_beyond_its_edge():
    crops, shown = crop_patches(TABLE, IMAGES, 14), responding(TABLE)
    assert crops.shape == (len(shown), 14, 14, 4)
    padded = np.pad(IMAGES, ((0, 0), (0, 0), (14, 14), (14, 14)))
    inside = np.pad(np.ones((32, 32), bool), 14)
    for crop, row in zip(crops, shown.to_dict("records"), strict=True):
        place = np.s_[row["top"] + 14 : row["top"] + 28, row["left"] + 14 : row["left"] + 28]
        np.testing.assert_array_equal(crop[..., :3], padded[row["image"]].transpose(1, 2, 0)[place])
        np.testing.assert_array_equal(crop[..., 3] > 0, inside[place])
    assert not crops[..., 3].all()


def test_kernels_share_one_scale_around_grey():
    weights = RNG.normal(size=(4, 3, 5, 5))
    weights[1] = 0
    pictures = kernel_pictures(weights)
    assert pictures.shape == (4, 1, 5, 5, 3)
    largest = style.limits_of_most(weights)[1]
    expected = weights.transpose(0, 2, 3, 1).clip(-largest, largest)
    np.testing.assert_allclose((pictures[:, 0] - 0.5) * 2 * largest, expected, atol=1e-12)
    assert (pictures[1] == 0.5).all()
    assert (pictures.min(), pictures.max()) == pytest.approx((0, 1), abs=0.5)
    assert (kernel_pictures(np.zeros((2, 3, 5, 5))) == 0.5).all()


def test_a_dilated_kernel_lies_over_the_pixels_that_it_weighs():
    weights = RNG.normal(size=(1, 3, 3, 3))
    wide = kernel_pictures(weights, dilation=2)
    assert wide.shape == (1, 1, 5, 5, 3)
    np.testing.assert_array_equal(wide[:, :, ::2, ::2], kernel_pictures(weights))
    assert (wide[:, :, 1::2] == 0.5).all()
    between = slice_pictures(weights, [[0]], dilation=2)[0, 0, 1::2]
    np.testing.assert_allclose(between, between[0, 0, 0], atol=0.01)


def test_slices_are_those_of_the_inputs_red_where_positive_and_blue_where_negative():
    weights = np.array([1.0, -1, 0.5])[None, :, None, None] * np.ones((2, 3, 5, 5))
    pictures = slice_pictures(weights, [[1, 0], [2, 1]])
    assert pictures.shape == (2, 2, 5, 5, 3)
    red_over_blue = pictures[..., 0] - pictures[..., 2]
    assert (red_over_blue[0, 0] < 0).all()
    assert (red_over_blue[0, 1] > 0).all()
    np.testing.assert_array_equal(pictures[1, 1], pictures[0, 0])


def test_the_strongest_inputs_have_the_largest_kernels():
    weights = np.ones((2, 4, 3, 3)) * np.array([[1, -4, 2, 3], [0, 0, 1, 0]])[..., None, None]
    assert strongest_inputs(weights) == [[1, 3, 2], [2, 0, 1]]


def test_the_caption_has_the_numbers_of_the_table():
    assert note(14).startswith("Patches of 14 × 14 pixels")


@pytest.mark.parametrize(("classes", "filters", "most"), [(1, 3, 9), (100, 1, 1), (2, 60, 8)])
def test_how_far_patches_at_random_would_agree_depends_on_classes_and_filters(classes: int, filters: int, most: int):
    rng, labels = np.random.default_rng(0), np.arange(1000) % classes
    peak = rng.random((1000, filters)) + 1
    places = np.zeros((1000, filters), int)
    names = [f"class {number}" for number in range(classes)]
    table = top_patches(peak, peak - 0.5, (places, places), labels, names)
    assert chance(table, labels).startswith(f"Of as many filters with patches at random, one would agree on {most} (")
    silent = top_patches(0 * peak, 0 * peak, (places, places), labels, names)
    assert chance(silent, labels) == ""
    counts = responding(TABLE).groupby("filter")["class"].value_counts()
    filter, name = counts.idxmax()
    assert caption(TABLE) == (
        f"The patches of filter {filter} agree most on a class: {counts.max()} of 9 show {name}; of 5 filters, "
        "1 is silent, 1 is faint and 1 is constant on all images."
    )


def test_filters_whose_patches_agree_as_much_are_all_named():
    tied = pd.DataFrame({"filter": [0, 0, 1, 1, 2, 2], "class": ["cat", "cat", "dog", "dog", "cat", "dog"]})
    assert caption(tied.assign(state="responds", rank=0, image=0, top=0, left=0)) == (
        "At most 2 of a filter's 2 patches show one class, in 2 cases: filter 0 on cat and filter 1 on dog."
    )


def test_filters_with_few_patches_do_not_agree_more_than_those_with_many():
    kinds = ["cat"] * 3 + ["dog"] * 5 + ["cat"] * 4
    table = pd.DataFrame({"filter": [0] * 3 + [1] * 9, "class": kinds, "state": "responds"})
    assert caption(table.assign(rank=0, image=0, top=0, left=0)) == (
        "The patches of filter 1 agree most on a class: 5 of 9 show dog."
    )


def test_responding_filters_are_drawn_with_their_patches_and_the_others_named():
    figure = draw()
    crops = crop_patches(TABLE, IMAGES, 14)
    assert len(figure.axes) == 1
    shown = [image for image in figure.axes[0].images if image.get_array().shape[0] == 14]
    assert len(shown) == len(crops) == 9 + 3
    for image, crop in zip(shown, crops, strict=True):
        np.testing.assert_array_equal(image.get_array(), crop)
    written = texts(figure)
    assert {"0", "4", "most for cat", "inputs 1, 2"} <= set(written)
    assert not {"1", "2", "3"} & set(written)
    assert written[1].split("\n") == [
        "AUC lost: × 100",
        "1 filter silent on all test images: 1",
        "1 filter faint on all test images: 3",
        "1 filter the same everywhere on all test images: 2",
    ]
    assert any(text.endswith("hatched is what lies outside the image") for text in written)


def test_kernels_stand_beside_the_patches():
    pictures = kernel_pictures(RNG.normal(size=(5, 3, 5, 5)))
    shown = draw(kernels=pictures).axes[0].images
    assert len(shown) == 2 + 12
    np.testing.assert_array_equal(shown[0].get_array(), pictures[0, 0])
    assert len(draw().axes[0].images) == 2 * 3 + 12


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [SLICES, SLICES[:, :1]])
def test_the_classes_names_of_cifar_10_are_written_in_full(kernels):
    peak = RNG.random((20, 64))
    many = top_patches(peak, peak / 2, (np.zeros((20, 64), int),) * 2, LABELS, CLASSES)
    lines = ["most for automobile", "AUC lost 0.2: automobile"]
    figure = draw(many, kernels, notes=dict.fromkeys(range(64), lines))
    assert sum(text in lines for text in texts(figure)) == 2 * 64


@pytest.mark.slow
def test_every_patch_and_line_lies_within_the_figure():
    many = top_patches(RNG.random((20, 16)), np.zeros((20, 16)), (np.zeros((20, 16), int),) * 2, LABELS, CLASSES)
    notes = {filter: [f"most for {'a class with a long name' * 3}"] * 3 for filter in range(16)}
    figure = draw(many, notes=notes)
    box = figure.bbox
    for artist in (*figure.axes[0].texts, *figure.axes[0].images):
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1


@pytest.mark.parametrize(("lost", "written"), [(0.0213, "2.1"), (0.0002, "0.02"), (2e-6, "<0.01")])
def test_a_loss_is_written_with_a_digit_that_is_not_zero(lost: float, written: str):
    ablation = pd.DataFrame(
        {"layer": "conv1", "filter": 0, "class": CLASSES, "logit_change": 1.0, "auc_lost": [lost, -1.0]}
    )
    selectivity = pd.DataFrame({"layer": ["conv1"], "filter": [0], "class": ["dog"]})
    assert _notes("conv1", selectivity, ablation, None) == {0: ["most for dog", f"AUC lost {written}: cat"]}


def test_with_every_filter_dead_all_are_named_and_nothing_is_shown():
    none, corners = np.zeros((20, 64)), np.zeros((20, 64), int)
    table = top_patches(none, none, (corners, corners), LABELS, CLASSES)
    figure = draw(table)
    assert not figure.axes[0].images
    assert any("\n64 filters silent on all test images: 0, 1, 2" in text for text in texts(figure))
    assert caption(table) == "Of 64 filters, 64 are silent on all images."


def test_fewer_images_than_places_are_all_shown():
    few = top_patches(PEAK[:4], MEAN[:4], (TOP[:4], LEFT[:4]), LABELS[:4], CLASSES)
    assert (few["filter"] == 0).sum() == 4
    draw(few)


@pytest.mark.slow
def test_no_line_above_the_patches_runs_into_the_next_ones():
    many = top_patches(RNG.random((20, 16)), np.zeros((20, 16)), (np.zeros((20, 16), int),) * 2, LABELS, CLASSES)
    for name in (
        "common_european_kingfisher",
        "MINIMUM MAMMALIAN WOMBATS",
        "翠鳥翠鳥翠鳥翠鳥翠鳥翠鳥",
        "\U00014fff" * 12,
    ):
        lines = [f"most for {name}", f"AUC lost 0.2: {name}"]
        assert problems_on_screens(draw(many, notes=dict.fromkeys(range(16), lines))) == []
