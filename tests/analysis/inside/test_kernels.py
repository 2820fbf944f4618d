import numpy as np
import pytest

from analysis.inside import kernels
from analysis.inside.kernels import caption, channel_names, draw_kernel_evolution, kernel_evolution

RNG = np.random.default_rng(0)
FIRST = {epoch: RNG.normal(size=(4, 3, 5, 5)).astype(np.float32) for epoch in (0, 2, 4)}
SECOND = {epoch: RNG.normal(size=(4, 8, 5, 5)).astype(np.float32) for epoch in (0, 1)}


def tiles(figure):
    """The maps and the texts of the figure, without its title."""
    return figure.axes[0].images, [text.get_text() for text in figure.axes[0].texts[1:] if text.get_text()]


def test_the_table_holds_the_filters_weights():
    table = kernel_evolution(FIRST, 2)
    assert list(table) == ["epoch", "channel", "row", "column", "weight"]
    for row in table.sample(20, random_state=0).itertuples():
        assert row.weight == FIRST[row.epoch][2, row.channel, row.row, row.column]
    assert len(table) == 3 * 3 * 25


def test_a_deep_layer_shows_the_four_channels_with_the_largest_norm_at_any_epoch():
    weights = {0: SECOND[0].copy(), 1: np.zeros_like(SECOND[0]), 2: np.zeros_like(SECOND[0])}
    weights[1][3, 6] = 100
    norms = np.linalg.norm(SECOND[0][3].reshape(8, -1), axis=1)
    norms[6] = np.inf
    expected = sorted(np.argsort(norms)[-4:])
    assert expected != [0, 1, 2, 3], "the first four, of a filter that is zero at the end"
    assert sorted(kernel_evolution(weights, 3)["channel"].unique()) == expected


def test_the_note_says_how_many_channels_are_left_out():
    assert kernels.note(kernel_evolution(SECOND, 3), 8).startswith("Shown are the 4 of the 8 input channels")
    assert kernels.note(kernel_evolution(FIRST, 2), 3) == ""


def test_channels_can_be_chosen():
    assert kernel_evolution(SECOND, 0, [5, 1])["channel"].unique().tolist() == [5, 1]


def test_an_unknown_filter_is_refused():
    with pytest.raises(IndexError):
        kernel_evolution(FIRST, 4)


def test_tiles_are_the_kernels_row_by_row_on_one_scale_around_zero():
    figure = draw_kernel_evolution(kernel_evolution(FIRST, 1), layer="conv1", filter=1)
    images, texts = tiles(figure)
    assert len(images) == 9
    largest = max(float(np.abs(weights[1]).max()) for weights in FIRST.values())
    assert {image.get_clim() for image in images} == {(-largest, largest)}
    np.testing.assert_array_equal(images[4].get_array(), FIRST[2][1, 1])
    assert texts == ["epoch", "red", "0", "2", "4", "green", "blue"]
    assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["weight"]


def test_deeper_channels_are_called_by_the_filters_they_come_from():
    assert channel_names("conv2", [0, 2]) == ["from filter 0\nof conv1", "from filter 2\nof conv1"]
    assert channel_names("conv1", [0, 2]) == ["red", "blue"]


def test_more_epochs_than_a_row_holds_go_on_below():
    weights = dict.fromkeys(range(31), FIRST[0])
    images, texts = tiles(draw_kernel_evolution(kernel_evolution(weights, 0), layer="conv1", filter=0))
    assert len(images) == 31 * 3
    assert texts.count("red") == 2
    assert len({image.get_extent()[0] for image in images}) == 16


def test_one_epoch_of_a_dead_filter_is_flat_and_labelled():
    _, texts = tiles(draw_kernel_evolution(kernel_evolution({7: np.zeros((1, 3, 5, 5))}, 0), layer="conv1", filter=0))
    assert texts.count("all 0") == 3


def test_a_kernel_that_vanishes_is_drawn_until_then():
    weights = {epoch: FIRST[0] * 10.0**-epoch for epoch in range(6)}
    images, texts = tiles(draw_kernel_evolution(kernel_evolution(weights, 0, [0]), layer="conv1", filter=0))
    assert [text for text in texts if text[0] not in "r±"] == ["epoch", "0", "1", "2 to 5"]
    assert len(images) == 3


def test_a_kernel_that_vanishes_at_once_is_one_line():
    weights = {epoch: FIRST[0] * 1e-20**epoch for epoch in range(3)}
    shown = kernels.show_evolution(weights, "conv1", 0)
    assert (shown.figure, shown.table) == (None, None)
    assert shown.text.endswith("no weight can be seen from epoch 1 on, so it is not drawn.")
    assert len(shown.tables["kernel_conv1_filter0"]) == 3 * 75


def test_why_a_filter_is_followed_is_in_the_note():
    assert kernels.show_evolution(FIRST, "conv1", 0, followed="It is the report's.").note == "It is the report's."


def test_the_caption_has_both_norms_and_the_cosine():
    weights = {0: np.full((1, 1, 2, 2), 1.0), 3: np.full((1, 1, 2, 2), -2.0)}
    assert caption(kernel_evolution(weights, 0), "conv1", 0) == (
        "Filter 0 of conv1: the norm of the weights shown is 2 at epoch 0 and 4 at epoch 3;"
        " the cosine between the two is −1.00."
    )


def test_the_cosine_with_a_vanished_kernel_is_undefined():
    weights = {0: FIRST[0], 1: np.zeros_like(FIRST[0])}
    assert "is undefined." in caption(kernel_evolution(weights, 0), "conv1", 0)
    assert "at epoch 0." in caption(kernel_evolution({0: FIRST[0]}, 0), "conv1", 0)
