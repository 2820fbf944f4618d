import numpy as np
import pytest
from matplotlib.text import Text

from analysis.filters.image_ablation import MOST, caption, draw_image_effects, image_effects, points
from analysis.results.classification import softmax

RNG = np.random.default_rng(1)
CLASSES = ["cat", "dog", "frog"]
LOGITS = np.array([1.0, 3.0, 0.5], np.float32)
WITHOUT = {
    "conv1": np.array([[1, 3, 0.5], [1, 0.25, 0.5], [1, 4, 0.5]], np.float32),
    "conv2": (LOGITS + RNG.normal(scale=0.4, size=(40, 3))).astype(np.float32),
}
TABLE = image_effects(LOGITS, WITHOUT, CLASSES, 1)
IMAGE = np.zeros((32, 32, 3), np.uint8)


def draw(table):
    figure = draw_image_effects(table, image=IMAGE, description="train:6 (dog)")
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


def test_bars_are_ranked_ten_for_and_ten_against_with_the_filters_numbers():
    figure = draw(TABLE)
    second = figure.axes[2]
    lost = TABLE.loc[TABLE["layer"] == "conv2", "margin_lost"].to_numpy()
    order = np.argsort(-lost, kind="stable")
    expected = [*order[:MOST], *order[-MOST:]]
    assert [int(tick.get_text()) for tick in second.get_yticklabels()] == expected
    assert [bar.get_width() for bar in second.patches] == pytest.approx(lost[expected].tolist())
    assert (
        second.get_title(loc="left") == f"conv2, {len(lost)} filters\nthe {MOST} most for it, the {MOST} most against"
    )
    first = figure.axes[1]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["1", "2"]
    assert [text.get_text() for text in first.texts] == ["2.8, then cat", "−1.0"]
    assert first.get_xlim() == second.get_xlim()


def test_no_title_leaves_the_figure():
    figure = draw(TABLE)
    titles = {ax.get_title(loc="left") for ax in figure.axes}
    extents = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text() in titles - {""}]
    assert len(extents) == len(titles) == 3
    assert all(0 <= extent.x0 < extent.x1 <= figure.bbox.x1 for extent in extents)


def test_rounding_is_no_effect():
    table = image_effects(LOGITS, {"conv1": LOGITS[None] + np.float32(1e-6)}, CLASSES, 1)
    assert table["margin_lost"].tolist() == [0.0]


def test_with_every_filter_dead_the_figure_and_the_caption_say_so():
    table = image_effects(LOGITS, {"conv1": np.stack([LOGITS] * 4), "conv2": np.stack([LOGITS] * 5)}, CLASSES, 1)
    figure = draw(table)
    assert [ax.texts[0].get_text() for ax in figure.axes[1:]] == ["no filter changes anything"] * 2
    assert caption(table).endswith(
        "and no filter speaks for dog when its map is replaced by its mean over the test images."
    )
    assert points(table) == []


def test_one_dead_layer_leaves_the_other():
    figure = draw(image_effects(LOGITS, {"conv1": WITHOUT["conv1"], "conv2": np.stack([LOGITS] * 5)}, CLASSES, 1))
    assert len(figure.axes[1].patches) == 2
    assert figure.axes[2].texts[0].get_text() == "no filter changes anything"


def test_long_names_leave_room_for_the_bars():
    names = [f"a class with a very long name, the {place}th of its {'kind' * 8}" for place in range(3)]
    figure = draw(image_effects(LOGITS, WITHOUT, names, 1))
    assert all(ax.get_position().width > 0.25 for ax in figure.axes[1:])
