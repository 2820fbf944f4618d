import numpy as np
import pytest

from analysis.inside import kernels
from analysis.inside.kernels import caption, channel_names, draw_kernel_evolution, kernel_evolution

RNG = np.random.default_rng(0)
FIRST = {epoch: RNG.normal(size=(4, 3, 5, 5)).astype(np.float32) for epoch in (0, 2, 4)}
SECOND = {epoch: RNG.normal(size=(4, 8, 5, 5)).astype(np.float32) for epoch in (0, 1)}


def panels(figure):
    return [ax for ax in figure.axes if ax.images]


def test_the_table_holds_the_filters_weights():
    table = kernel_evolution(FIRST, 2)
    assert list(table) == ["epoch", "channel", "row", "column", "weight"]
    for row in table.sample(20, random_state=0).itertuples():
        assert row.weight == FIRST[row.epoch][2, row.channel, row.row, row.column]
    assert len(table) == 3 * 3 * 25


def test_a_deep_layer_shows_the_four_channels_with_the_largest_norm_at_the_last_epoch():
    norms = np.linalg.norm(SECOND[1][3].reshape(8, -1), axis=1)
    assert sorted(kernel_evolution(SECOND, 3)["channel"].unique()) == sorted(np.argsort(norms)[-4:])


def test_the_note_says_how_many_channels_are_left_out():
    assert kernels.note(kernel_evolution(SECOND, 3), 8).startswith("Shown are the 4 of 8 input channels")
    assert kernels.note(kernel_evolution(FIRST, 2), 3) == ""


def test_channels_can_be_chosen():
    assert kernel_evolution(SECOND, 0, [5, 1])["channel"].unique().tolist() == [5, 1]


def test_an_unknown_filter_is_refused():
    with pytest.raises(IndexError):
        kernel_evolution(FIRST, 4)


def test_panels_are_the_kernels_row_by_row_on_one_scale_around_zero():
    figure = draw_kernel_evolution(kernel_evolution(FIRST, 1), layer="conv1", filter=1)
    shown = panels(figure)
    assert len(shown) == 9
    largest = max(float(np.abs(weights[1]).max()) for weights in FIRST.values())
    assert {ax.images[0].get_clim() for ax in shown} == {(-largest, largest)}
    np.testing.assert_array_equal(shown[4].images[0].get_array(), FIRST[2][1, 1])
    assert [ax.get_title() for ax in shown[:3]] == ["epoch 0", "2", "4"]
    assert [ax.get_ylabel() for ax in shown[::3]] == ["red", "green", "blue"]
    assert [ax.get_ylabel() for ax in figure.axes if not ax.images] == ["weight"]


def test_deeper_channels_are_called_by_the_filters_they_come_from():
    assert channel_names("conv2", [0, 2]) == ["from filter 0\nof conv1", "from filter 2\nof conv1"]
    assert channel_names("conv1", [0, 2]) == ["red", "blue"]


def test_more_epochs_than_a_row_holds_go_on_below():
    weights = dict.fromkeys(range(31), FIRST[0])
    figure = draw_kernel_evolution(kernel_evolution(weights, 0), layer="conv1", filter=0)
    assert len(panels(figure)) == 31 * 3
    assert [ax.get_title() for ax in panels(figure) if ax.get_title().startswith("epoch")] == ["epoch 0", "epoch 16"]


def test_one_epoch_of_a_dead_filter_is_flat_and_labelled():
    table = kernel_evolution({7: np.zeros((1, 3, 5, 5))}, 0)
    figure = draw_kernel_evolution(table, layer="conv1", filter=0)
    assert [ax.texts[0].get_text() for ax in panels(figure)] == ["all 0"] * 3
    figure.draw_without_rendering()


def test_a_collapsed_kernel_is_told_from_zero_and_from_a_faint_one():
    weights = {0: FIRST[0], 1: FIRST[0] * 1e-20, 2: FIRST[0] * 1e-3}
    figure = draw_kernel_evolution(kernel_evolution(weights, 0, [0]), layer="conv1", filter=0)
    first, collapsed, faint = panels(figure)
    assert not first.texts
    assert collapsed.texts[0].get_text() == "≈ 0"
    largest = float(np.abs(FIRST[0][0, 0]).max()) * 1e-3
    assert largest <= float(faint.texts[0].get_text().removeprefix("±")) < 2 * largest


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


SHEET = kernels.layer_weights(FIRST[4])


def test_a_layers_table_holds_every_weight():
    assert list(SHEET) == ["filter", "channel", "row", "column", "weight"]
    assert len(SHEET) == FIRST[4].size
    for row in SHEET.sample(20, random_state=0).itertuples():
        assert row.weight == FIRST[4][row.filter, row.channel, row.row, row.column]


def test_the_sheet_has_one_scale_for_all_filters_and_mid_grey_is_zero():
    figure = kernels.draw_kernel_sheet(SHEET, title="t")
    shown = [ax for ax in figure.axes if ax.get_title("left") in ("0", "1", "2", "3")]
    largest = float(np.abs(FIRST[4]).max())
    for number, ax in enumerate(shown):
        expected = np.rint(255 * (FIRST[4][number] / (2 * largest) + 0.5)).transpose(1, 2, 0)
        np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    assert kernels.rgb(np.zeros((3, 1, 1)), (-2.0, 2.0)).ravel().tolist() == [128, 128, 128]
    legend = [ax for ax in figure.axes if ax.get_title("left") in ("R", "G", "B")]
    assert [label.get_text() for label in legend[2].get_yticklabels()] == [f"−{largest:.2g}", "0", f"+{largest:.2g}"]
    figure.draw_without_rendering()


@pytest.mark.parametrize("count", [1, 9, 33])
def test_any_number_of_kernels_is_laid_out_without_overlap(count):
    sheet = kernels.draw_kernel_sheet(kernels.layer_weights(RNG.normal(size=(count, 3, 3, 3))), title="t")
    sheet.draw_without_rendering()
    boxes = [ax.get_window_extent() for ax in sheet.axes]
    assert all(not first.overlaps(other) for place, first in enumerate(boxes) for other in boxes[:place])
    figure = sheet.bbox
    assert all(figure.x0 <= box.x0 and box.x1 <= figure.x1 and figure.y0 <= box.y0 for box in boxes)


def test_a_sheet_of_other_channels_than_colours_is_refused():
    table = kernels.layer_weights(SECOND[1])
    for refused in (
        lambda: kernels.draw_kernel_sheet(table, title="t"),
        lambda: kernels.sheet_caption(table, "conv2", 1),
    ):
        with pytest.raises(ValueError, match="8 input channels are no picture"):
            refused()


def test_dead_kernels_on_the_sheet_are_labelled_and_counted():
    weights = np.stack([np.zeros((3, 5, 5)), FIRST[0][1], FIRST[0][2] * 1e-20])
    table = kernels.layer_weights(weights)
    figure = kernels.draw_kernel_sheet(table, title="t")
    labels = ["".join(text.get_text() for text in ax.texts) for ax in figure.axes[:3]]
    assert labels == ["all 0", "", "≈ 0"]
    assert "2 have collapsed" in kernels.sheet_caption(table, "conv1", 3)
    dead = kernels.layer_weights(np.zeros((2, 3, 5, 5)))
    kernels.draw_kernel_sheet(dead, title="t").draw_without_rendering()
    assert "0 of the 2 kernels of conv1 are mostly grey" in kernels.sheet_caption(dead, "conv1", 3)


def test_grey_kernels_are_told_from_coloured_ones():
    grey = np.ones((1, 3, 5, 5)) * RNG.normal(size=(1, 1, 5, 5))
    opponent = np.stack([grey[0, 0], -grey[0, 0], 0 * grey[0, 0]])[None]
    text = kernels.sheet_caption(kernels.layer_weights(np.concatenate([grey, grey, opponent])), "conv1", 3)
    assert "2 of the 3 kernels of conv1 are mostly grey" in text
    assert "1 weigh the colours differently" in text


def test_the_mosaic_holds_every_slice_in_its_filters_column_and_its_channels_row():
    figure = kernels.draw_kernel_mosaic(kernels.layer_weights(SECOND[1]), title="t")
    sheet = np.ma.masked_array(figure.axes[0].images[0].get_array())
    assert sheet.shape == (8 * 6 - 1, 4 * 6 - 1)
    for filter_, channel in np.ndindex(4, 8):
        piece = sheet[channel * 6 :, filter_ * 6 :][:5, :5]
        np.testing.assert_array_equal(piece, SECOND[1][filter_, channel])
    assert sheet.mask[5].all()
    largest = float(np.abs(SECOND[1]).max())
    assert figure.axes[0].images[0].get_clim() == (-largest, largest)
    figure.draw_without_rendering()


def test_empty_columns_and_collapsed_filters_of_the_mosaic_are_counted():
    weights = SECOND[1].copy()
    text = kernels.mosaic_caption(kernels.layer_weights(weights), "conv2", 1)
    assert "0 of the 4 columns of conv2 look empty" in text
    assert " and 0 filters have collapsed" in text
    weights[1:] *= np.array([1e-2, 1e-5, 0])[:, None, None, None]
    text = kernels.mosaic_caption(kernels.layer_weights(weights), "conv2", 1)
    assert "3 of the 4 columns of conv2 look empty" in text
    assert " and 2 filters have collapsed" in text
    dead = kernels.layer_weights(np.zeros((2, 4, 3, 3)))
    kernels.draw_kernel_mosaic(dead, title="t").draw_without_rendering()
    assert "2 of the 2 columns of conv2 look empty" in kernels.mosaic_caption(dead, "conv2", 1)
