import numpy as np
import pytest

from analysis.explanations import methods
from analysis.explanations.methods import Attribution
from tests.support.legibility import problems_on_screens

MAP = np.linspace(-1, 2, 1024).reshape(32, 32)
IMAGE = np.zeros((32, 32, 3), np.uint8)
ITEMS = [
    Attribution("one", "One", MAP, True, float(MAP.sum()) + 0.25, "the grey margin"),
    Attribution("two", "Two", np.abs(MAP), False),
    Attribution("three", "Three", -MAP, True),
]


def show(**more):
    return methods.show(ITEMS, image=IMAGE, description="test:3", margin="a over b", **more)


def test_table_and_caption_state_each_sum_and_the_largest_difference():
    exhibit = show()

    table = exhibit.table.set_index("method")
    assert table["sum"]["three"] == pytest.approx(-MAP.sum())
    assert table["expected"].notna().tolist() == [True, False, False]
    assert "1 of the 3 methods divide" in exhibit.text
    assert "is 0.25 logits (One)" in exhibit.text
    assert len(exhibit.tables["methods_maps"]) == 3 * 1024
    [words] = [text.get_text() for text in exhibit.figure.axes[0].texts if f"sum −{MAP.sum():,.2f}" in text.get_text()]
    assert " ".join(words.split()) == f"largest {MAP.max():.2g}, sum −{MAP.sum():,.2f}, which has no meaning of its own"


def test_no_map_is_clipped_and_signed_ones_are_white_at_zero():
    figure = show().figure

    scales = [image.get_clim() for image in figure.axes[0].images[1:]]
    assert scales == [(-2.0, 2.0), (0.0, 2.0), (-2.0, 2.0)]


def test_the_colours_have_a_scale_for_maps_with_a_sign_and_one_for_those_without():
    _, with_sign, without = show().figure.axes
    assert [label.get_text() for label in with_sign.get_xticklabels()] == ["−largest", "0", "+largest"]
    assert [label.get_text() for label in without.get_xticklabels()] == ["0", "largest"]
    texts = [text.get_text() for text in show().figure.axes[0].texts]
    assert sum("largest 2," in text for text in texts) == len(ITEMS)
    signed = methods.show(ITEMS[:1], image=IMAGE, description="test:3", margin="a over b")
    assert len(signed.figure.axes) == 2


def test_a_ranking_orders_the_methods_and_stands_beside_them():
    exhibit = show(ranking={"three": "Believe it.", "one": "No better than an edge detector."})

    assert list(exhibit.table["method"]) == ["three", "one", "two"]
    assert "Agreement: " in exhibit.note
    assert "Agreement: " not in show().note
    texts = [text.get_text() for text in exhibit.figure.axes[0].texts]
    assert any("Believe it." in text for text in texts)
    assert any("No better than an edge detector." in text for text in texts)


def test_the_figure_is_legible_on_wide_and_narrow_screens():
    verdict = "do not believe it: agreement 0.31 (the middle of the image: 0.44)"
    assert problems_on_screens(show(ranking={"three": verdict, "one": verdict, "two": verdict}).figure) == []
