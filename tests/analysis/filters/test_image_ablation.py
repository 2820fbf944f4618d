import numpy as np
import pytest

from analysis.filters.image_ablation import MOST, caption, draw_image_effects, image_effects, leading, points, show
from analysis.results.classification import softmax
from tests.support.legibility import problems_on_screens

RNG = np.random.default_rng(1)
CLASSES = ["cat", "dog", "frog"]
LOGITS = np.array([1.0, 3.0, 0.5], np.float32)
WITHOUT = {
    "conv1": np.array([[1, 3, 0.5], [1, 0.25, 0.5], [1, 4, 0.5]], np.float32),
    "conv2": (LOGITS + RNG.normal(scale=0.4, size=(40, 3))).astype(np.float32),
}
TABLE = image_effects(LOGITS, WITHOUT, CLASSES, 1)
IMAGE = np.zeros((32, 32, 3), np.uint8)


PICTURES = {
    "conv1": (RNG.normal(size=(4, 3, 5, 5)), np.maximum(RNG.normal(size=(4, 8, 8)), 0)),
    "conv2": (RNG.normal(size=(40, 4, 5, 5)), np.maximum(RNG.normal(size=(40, 8, 8)), 0)),
}


def draw(table):
    figure = draw_image_effects(table, PICTURES, image=IMAGE, description="train:6 (dog)")
    figure.draw_without_rendering()
    return figure


def test_the_margin_is_over_the_strongest_rival_with_and_without_each_filter():
    first = TABLE[TABLE["layer"] == "conv1"]
    assert first["margin"].tolist() == [2.0] * 3
    assert first["margin_lost"].tolist() == [0.0, 2.75, -1.0]
    assert first["predicted_without"].tolist() == ["dog", "cat", "dog"]
    assert set(TABLE["predicted"]) == {"dog"}
    expected = softmax(LOGITS[None])[0, 1] - softmax(WITHOUT["conv2"])[:, 1]
    assert TABLE.loc[TABLE["layer"] == "conv2", "probability_lost"].to_numpy() == pytest.approx(expected)


def test_the_class_need_not_be_the_predicted_one():
    table = image_effects(LOGITS, WITHOUT, CLASSES, 2)
    assert table["margin"].iloc[0] == -2.5
    assert "is classified as dog, with a margin of frog over its strongest rival of −2.50" in caption(table)


def test_the_caption_names_the_filters_most_for_and_most_against_the_class():
    table = image_effects(LOGITS, {"conv1": WITHOUT["conv1"]}, CLASSES, 1)
    assert caption(table) == (
        "The image is classified as dog, with a margin of dog over its strongest rival of 2.00 (probability 82.1%); "
        "filter 1 of conv1 speaks most for dog: with its map replaced by its mean over the test images the margin is "
        "−0.75 (probability 22.7%), and the answer cat."
    )
    assert points(table) == [
        "Filter 2 of conv1 speaks most against dog: without it the margin is 3.00 (probability 92.6%).",
        "1 of the 3 filters decides the answer: without it the image is classified otherwise.",
    ]


def test_an_effect_that_the_margins_decimals_do_not_show_is_said_by_itself():
    table = image_effects(LOGITS, {"conv1": LOGITS + np.array([[0, 0.002, 0], [0, -0.001, 0]], np.float32)}, CLASSES, 1)
    assert caption(table).endswith("speaks most for dog: with its map replaced by its mean over the test images the "
                                   "margin falls by only 0.001.")  # fmt: skip
    assert points(table)[0] == ("Filter 0 of conv1 speaks most against dog: without it the margin grows by only 0.002.")


def test_bars_are_ranked_six_for_and_six_against_with_the_filters_numbers_and_maps():
    figure = draw(TABLE)
    sheet, first, second = figure.axes
    lost = TABLE.loc[TABLE["layer"] == "conv2", "margin_lost"].to_numpy()
    order = np.argsort(-lost, kind="stable")
    expected = [*order[:MOST], *order[-MOST:]]
    texts = [text.get_text() for text in sheet.texts]
    assert [int(text) for text in texts if text.isdigit()] == [1, 2, *expected]
    assert [bar.get_width() for bar in second.patches] == pytest.approx(lost[expected].tolist())
    assert f"conv2, {len(lost)} filters: the {MOST} most for it,\nthe {MOST} most against" in texts
    assert [text.get_text() for text in first.texts] == ["2.8\nthen cat", "−1.0"]
    assert first.get_xlim() == second.get_xlim()
    maps = [image.get_array() for image in sheet.images if image.get_array().ndim == 2]
    for drawn, (layer, number) in zip(
        maps, [("conv1", 1), ("conv1", 2), *(("conv2", n) for n in expected)], strict=True
    ):
        np.testing.assert_array_equal(drawn, PICTURES[layer][1][number])


def test_each_bar_stands_beside_its_kernel_and_its_map():
    figure = draw(TABLE)
    sheet, _, bars = figure.axes
    rows = [bar.get_window_extent() for bar in bars.patches]
    tiles = [image.get_window_extent() for image in sheet.images if image.get_array().ndim == 2][2:]
    for row, tile in zip(rows, tiles, strict=True):
        assert tile.y0 < row.y0 < row.y1 < tile.y1
        assert tile.x1 < row.x0


def test_a_side_of_few_filters_is_counted_and_its_number_stands_beside_the_map():
    changes = np.zeros((40, 3), np.float32)
    changes[:8, 1], changes[8, 1] = np.linspace(-1, -0.5, 8), 0.22
    table = image_effects(
        LOGITS, {"conv1": LOGITS - np.eye(3, dtype=np.float32)[[1]], "conv2": LOGITS + changes}, CLASSES, 1
    )
    figure = draw(table)
    sheet, _, bars = figure.axes
    texts = [text.get_text() for text in sheet.texts]
    assert f"conv2, 40 filters: the {MOST} most for it,\n1 against" in texts
    [number] = [text for text in bars.texts if text.get_text() == "−0.2"]
    tiles = [image.get_window_extent().x1 for image in sheet.images if image.get_array().ndim == 2][1:]
    assert number.get_window_extent().x0 > max(tiles)


def test_what_is_zero_to_the_digits_shown_has_no_bar_unless_it_decides_the_answer():
    logits = np.array([2.9999, 3.0, 0.5], np.float32)
    changes = np.zeros((40, 3), np.float32)
    changes[:5, 1] = -0.5, -0.4, -0.0002, 0.3, 0.006
    table = image_effects(logits, {"conv2": logits + changes}, CLASSES, 1)
    sheet, bars = draw(table).axes
    written = [text.get_text() for text in bars.texts]
    assert written == ["0.50\nthen cat", "0.40\nthen cat", "0.00\nthen cat", "−0.30"]
    assert "conv2, 40 filters: the 3 most for it,\n1 against" in [text.get_text() for text in sheet.texts]


def test_of_the_filters_that_fire_on_the_image_the_one_that_matters_most_is_followed():
    fires = {"conv1": np.array([True, True, True]), "conv2": np.ones(40, bool)}
    number, why = leading(TABLE, fires)["conv1"]
    assert number == 1
    assert why.endswith("by its mean over the test images the margin of dog goes from 2.00 to −0.75.")
    fires["conv1"][1] = False
    assert leading(TABLE, fires)["conv1"][0] == 2
    fires["conv1"][:] = False
    assert list(leading(TABLE, fires)) == ["conv2"]


def test_rounding_is_no_effect():
    table = image_effects(LOGITS, {"conv1": LOGITS[None] + np.float32(1e-6)}, CLASSES, 1)
    assert table["margin_lost"].tolist() == [0.0]


def test_with_every_filter_dead_there_is_one_line_and_no_figure():
    table = image_effects(LOGITS, {"conv1": np.stack([LOGITS] * 4), "conv2": np.stack([LOGITS] * 5)}, CLASSES, 1)
    exhibit = show(table, PICTURES, image=IMAGE, description="train:6 (dog)")
    assert exhibit.figure is None
    assert exhibit.tables["ablation_image"] is table
    assert caption(table).endswith(
        "and no filter speaks for dog when its map is replaced by its mean over the test images."
    )
    assert points(table) == []


def test_one_dead_layer_leaves_its_room_to_the_other():
    table = image_effects(LOGITS, {"conv1": WITHOUT["conv1"], "conv2": np.stack([LOGITS] * 5)}, CLASSES, 1)
    figure = draw(table)
    _, bars = figure.axes
    assert len(bars.patches) == 2
    assert bars.get_position().width > 0.5
    assert problems_on_screens(figure) == []
    assert "No filter of conv2 changes the margin." in points(table)


def test_long_names_leave_room_for_the_bars():
    names = [f"a class with a very long name, the {place}th of its {'kind' * 8}" for place in range(3)]
    figure = draw(image_effects(LOGITS, WITHOUT, names, 1))
    assert all(ax.get_position().width > 0.25 for ax in figure.axes[1:])
