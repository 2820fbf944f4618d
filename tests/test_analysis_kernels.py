import numpy as np
import pytest

from analysis.kernels import caption, channel_names, draw_kernel_evolution, kernel_evolution

RNG = np.random.default_rng(0)
FIRST = {epoch: RNG.normal(size=(4, 3, 5, 5)).astype(np.float32) for epoch in (0, 2, 4)}
SECOND = {epoch: RNG.normal(size=(4, 8, 5, 5)).astype(np.float32) for epoch in (0, 1)}


def panels(made):
    return [ax for ax in made.axes if ax.images]


def test_the_table_holds_the_filters_weights():
    table = kernel_evolution(FIRST, 2)
    assert list(table) == ["epoch", "channel", "row", "column", "weight"]
    for row in table.sample(20, random_state=0).itertuples():
        assert row.weight == FIRST[row.epoch][2, row.channel, row.row, row.column]
    assert len(table) == 3 * 3 * 25


def test_a_deep_layer_shows_the_four_channels_with_the_largest_norm_at_the_last_epoch():
    norms = np.linalg.norm(SECOND[1][3].reshape(8, -1), axis=1)
    assert sorted(kernel_evolution(SECOND, 3)["channel"].unique()) == sorted(np.argsort(norms)[-4:])


def test_channels_can_be_chosen():
    assert kernel_evolution(SECOND, 0, [5, 1])["channel"].unique().tolist() == [5, 1]


def test_an_unknown_filter_is_refused():
    with pytest.raises(IndexError):
        kernel_evolution(FIRST, 4)


def test_panels_are_the_kernels_row_by_row_on_one_scale_around_zero():
    made = draw_kernel_evolution(kernel_evolution(FIRST, 1), layer="conv1", filter=1)
    shown = panels(made)
    assert len(shown) == 9
    largest = max(float(np.abs(weights[1]).max()) for weights in FIRST.values())
    assert {ax.images[0].get_clim() for ax in shown} == {(-largest, largest)}
    np.testing.assert_array_equal(shown[4].images[0].get_array(), FIRST[2][1, 1])
    assert [ax.get_title() for ax in shown[:3]] == ["epoch 0", "2", "4"]
    assert [ax.get_ylabel() for ax in shown[::3]] == ["red", "green", "blue"]
    assert [ax.get_ylabel() for ax in made.axes if not ax.images] == ["weight"]


def test_deeper_channels_are_called_inputs():
    assert channel_names("conv2", [0, 2]) == ["input 0", "input 2"]
    assert channel_names("conv1", [0, 2]) == ["red", "blue"]


def test_more_epochs_than_a_row_holds_go_on_below():
    weights = dict.fromkeys(range(31), FIRST[0])
    made = draw_kernel_evolution(kernel_evolution(weights, 0), layer="conv1", filter=0)
    assert len(panels(made)) == 31 * 3
    assert [ax.get_title() for ax in panels(made) if ax.get_title().startswith("epoch")] == ["epoch 0", "epoch 16"]


def test_one_epoch_of_a_dead_filter_is_flat_and_labelled():
    table = kernel_evolution({7: np.zeros((1, 3, 5, 5))}, 0)
    made = draw_kernel_evolution(table, layer="conv1", filter=0)
    assert [ax.texts[0].get_text() for ax in panels(made)] == ["all 0"] * 3
    made.draw_without_rendering()


def test_a_collapsed_kernel_is_told_from_zero_and_from_a_faint_one():
    weights = {0: FIRST[0], 1: FIRST[0] * 1e-20, 2: FIRST[0] * 1e-3}
    made = draw_kernel_evolution(kernel_evolution(weights, 0, [0]), layer="conv1", filter=0)
    first, collapsed, faint = panels(made)
    assert not first.texts
    assert collapsed.texts[0].get_text() == "≈ 0"
    largest = float(np.abs(FIRST[0][0, 0]).max()) * 1e-3
    assert largest <= float(faint.texts[0].get_text().removeprefix("±")) < 2 * largest


def test_the_caption_has_both_norms_and_the_cosine():
    weights = {0: np.full((1, 1, 2, 2), 1.0), 3: np.full((1, 1, 2, 2), -2.0)}
    assert caption(kernel_evolution(weights, 0), "conv1", 0) == (
        "Filter 0 of conv1: the norm of the weights shown is 2 at epoch 0 and 4 at epoch 3;"
        " the cosine between the two is -1.00."
    )


def test_the_cosine_with_a_vanished_kernel_is_undefined():
    weights = {0: FIRST[0], 1: np.zeros_like(FIRST[0])}
    assert "is undefined." in caption(kernel_evolution(weights, 0), "conv1", 0)
    assert "at epoch 0." in caption(kernel_evolution({0: FIRST[0]}, 0), "conv1", 0)
