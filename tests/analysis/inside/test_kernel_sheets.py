import numpy as np
import pytest

from analysis.drawing import style
from analysis.drawing.filter_rows import MOST_DRAWN
from analysis.drawing.screens import narrow_version
from analysis.inside import kernel_sheets
from tests.support.legibility import problems_on_screens

RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(4, 3, 5, 5)).astype(np.float32)
SECOND = RNG.normal(size=(4, 8, 5, 5)).astype(np.float32)
SHEET = kernel_sheets.layer_weights(FIRST)


def pictures(figure):
    """The kernels' pictures, and the texts of the sheet without its title."""
    sheet = figure.axes[0]
    return [image.get_array() for image in sheet.images], [text.get_text() for text in sheet.texts[1:]]


def test_a_layers_table_holds_every_weight():
    assert list(SHEET) == ["filter", "channel", "row", "column", "weight"]
    assert len(SHEET) == FIRST.size
    for row in SHEET.sample(20, random_state=0).itertuples():
        assert row.weight == FIRST[row.filter, row.channel, row.row, row.column]


def test_the_sheet_has_one_scale_for_all_filters_and_mid_grey_is_zero():
    figure = kernel_sheets.draw_kernel_sheet(SHEET, title="t")
    drawn, texts = pictures(figure)
    largest = style.limits_of_most(FIRST)[1]
    for kernel, picture in zip(FIRST, drawn, strict=True):
        expected = np.rint(255 * (kernel / (2 * largest) + 0.5).clip(0, 1)).transpose(1, 2, 0)
        assert np.abs(picture.astype(int) - expected).max() <= 1
    assert texts[:4] == ["0", "1", "2", "3"]
    assert kernel_sheets.rgb(np.zeros((3, 1, 1)), (-2.0, 2.0)).ravel().tolist() == [128, 128, 128]
    legend = figure.axes[-1]
    assert [label.get_text() for label in legend.get_yticklabels()] == [f"−{largest:.2g}", "0", f"+{largest:.2g}"]


def test_one_large_weight_does_not_make_the_other_kernels_grey():
    weights = FIRST.copy()
    weights[0, 0, 0, 0] = 1000
    drawn, _ = pictures(kernel_sheets.draw_kernel_sheet(kernel_sheets.layer_weights(weights), title="t"))
    assert min(np.ptp(picture.astype(int)) for picture in drawn) > 100


@pytest.mark.parametrize("count", [1, 9, 33])
def test_any_number_of_kernels_is_laid_out_without_overlap(count):
    figure = kernel_sheets.draw_kernel_sheet(kernel_sheets.layer_weights(RNG.normal(size=(count, 3, 3, 3))), title="t")
    figure.draw_without_rendering()
    boxes = [image.get_window_extent() for image in figure.axes[0].images] + [
        ax.get_window_extent() for ax in figure.axes[1:]
    ]
    assert all(not one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 for box in boxes)


def test_a_sheet_of_other_channels_than_colours_is_refused():
    table = kernel_sheets.layer_weights(SECOND)
    for refused in (
        lambda: kernel_sheets.draw_kernel_sheet(table, title="t"),
        lambda: kernel_sheets.sheet_caption(table, "conv2", 1),
    ):
        with pytest.raises(ValueError, match="8 input channels are no picture"):
            refused()


def test_the_sheet_names_as_many_collapsed_kernels_as_its_sentence_counts():
    table = kernel_sheets.layer_weights(np.stack([np.zeros((3, 5, 5)), FIRST[1], FIRST[2] * 1e-20]))
    drawn, texts = pictures(kernel_sheets.draw_kernel_sheet(table, title="t"))
    assert len(drawn) == 1
    assert (texts[0], texts[-1]) == ("1", "2 collapsed: 0, 2")
    assert "2 have collapsed" in kernel_sheets.sheet_caption(table, "conv1", 3)


def test_a_layer_whose_every_kernel_collapsed_is_one_line():
    for show, weights in ((kernel_sheets.show_sheet, FIRST * 0), (kernel_sheets.show_mosaic, SECOND * 1e-9)):
        shown = show(weights, "conv1", 3)
        assert (shown.figure, shown.table) == (None, None)
        assert len(shown.tables["kernels_conv1"]) == weights.size
        assert "collapsed" in shown.text


def test_grey_kernels_are_told_from_coloured_ones():
    grey = np.ones((1, 3, 5, 5)) * RNG.normal(size=(1, 1, 5, 5))
    opponent = np.stack([grey[0, 0], -grey[0, 0], 0 * grey[0, 0]])[None]
    text = kernel_sheets.sheet_caption(kernel_sheets.layer_weights(np.concatenate([grey, grey, opponent])), "conv1", 3)
    assert "2 of the 3 kernels of conv1 are mostly grey" in text
    assert "1 weighs the colours differently" in text


@pytest.mark.parametrize(("shape", "labels"), [
    ((4, 8, 5, 5), ("input channel", "filter")), ((12, 3, 5, 5), ("filter", "input channel")),
])  # fmt: skip
def test_the_mosaic_holds_every_slice_with_the_longer_side_across(shape: tuple[int, ...], labels: tuple[str, str]):
    weights = RNG.normal(size=shape)
    figure = kernel_sheets.draw_kernel_mosaic(kernel_sheets.layer_weights(weights), title="t")
    ax = figure.axes[1]
    sheet = np.ma.masked_array(ax.images[0].get_array())
    assert (ax.get_xlabel(), ax.get_ylabel()) == labels
    for filter_, channel in np.ndindex(*shape[:2]):
        down, across = (filter_, channel) if labels[1] == "filter" else (channel, filter_)
        piece = sheet[down * 6 :, across * 6 :][:5, :5]
        np.testing.assert_array_equal(piece, weights[filter_, channel])
    assert sheet.mask[5].all()
    assert ax.images[0].get_clim() == style.limits_of_most(weights)
    numbers = {"filter": shape[0], "input channel": shape[1]}
    for axis, name in zip((ax.xaxis, ax.yaxis), labels, strict=True):
        assert [label.get_text() for label in axis.get_ticklabels()] == [str(n) for n in range(numbers[name])]


@pytest.mark.parametrize(("channels", "rows", "label"), [
    (8, 1, "input channels 0–7"), (20, 2, "input channels 0–15, then 16–19"), (64, 4, "16 input channels in a row"),
])  # fmt: skip
def test_on_a_narrow_screen_the_slices_of_a_filter_continue_below(channels: int, rows: int, label: str):
    weights = RNG.normal(size=(5, channels, 5, 5))
    wide = kernel_sheets.draw_kernel_mosaic(kernel_sheets.layer_weights(weights), title="t")
    assert problems_on_screens(wide) == []
    narrow = narrow_version(wide)
    ax = narrow.axes[1]
    sheet = np.ma.masked_array(ax.images[0].get_array())
    for filter_, channel in np.ndindex(*weights.shape[:2]):
        down, across = filter_ * rows + channel // 16, channel % 16
        np.testing.assert_array_equal(sheet[down * 6 :, across * 6 :][:5, :5], weights[filter_, channel])
    assert ax.get_xlabel() == label
    assert [text.get_text() for text in ax.get_yticklabels()] == [str(number) for number in range(5)]


def test_filters_that_cannot_be_seen_are_named_below_the_mosaic_and_counted():
    weights = SECOND.copy()
    text = kernel_sheets.mosaic_caption(kernel_sheets.layer_weights(weights), "conv2", 1)
    assert "0 of the 4 filters of conv2 have collapsed and 0 more are too faint to see" in text
    weights[1:] *= np.array([1e-2, 1e-5, 0])[:, None, None, None]
    table = kernel_sheets.layer_weights(weights)
    text = kernel_sheets.mosaic_caption(table, "conv2", 1)
    assert "2 of the 4 filters of conv2 have collapsed and 1 more is too faint to see" in text
    figure = kernel_sheets.draw_kernel_mosaic(table, title="t")
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["0"]
    assert pictures(figure)[1][-1] == "2 collapsed: 2, 3\n1 too faint to see: 1"


def test_of_a_large_layer_the_first_filters_and_inputs_are_drawn_and_all_are_counted():
    weights = RNG.normal(size=(MOST_DRAWN + 2, MOST_DRAWN + 1, 1, 1)).astype(np.float32)
    shown = kernel_sheets.show_mosaic(weights, "conv9", 3)
    assert shown.table is not None
    assert (shown.table["filter"].max(), shown.table["channel"].max()) == (MOST_DRAWN - 1, MOST_DRAWN - 1)
    assert "the first 128 of the 130 filters and the first 128 of the 129 input channels of each." in shown.note
    assert "of the 130 filters of conv9" in shown.text
    assert "its 16,770 weights" in shown.text
    assert "first" not in kernel_sheets.show_mosaic(SECOND, "conv2", 3).note
