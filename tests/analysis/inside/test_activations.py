import numpy as np
import pytest

from analysis.drawing import style
from analysis.inside.activations import (
    activation_evolution,
    activation_grid,
    caption,
    draw_activation_evolution,
    draw_activation_grid,
    grid_caption,
)

RNG = np.random.default_rng(0)
CONV = {epoch: RNG.normal(size=(8, 8)) for epoch in (4, 0, 2)}
MAPS = {
    "conv1": CONV,
    "relu1": {epoch: np.maximum(one, 0) for epoch, one in CONV.items()},
    "pool1": {epoch: np.zeros((4, 4)) for epoch in CONV},
}
IMAGE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def panels(figure):
    return [ax for ax in figure.axes if ax.images and ax.get_title() != "image"]


def test_the_table_keeps_the_order_of_layers_and_sorts_epochs():
    table = activation_evolution(MAPS)
    assert table["layer"].unique().tolist() == ["conv1", "relu1", "pool1"]
    assert table["epoch"].unique().tolist() == [0, 2, 4]
    for row in table[table["layer"] == "conv1"].sample(10, random_state=0).itertuples():
        assert row.value == CONV[row.epoch][row.row, row.column]


def test_each_layer_has_one_scale_for_all_epochs():
    figure = draw_activation_evolution(activation_evolution(MAPS), image=IMAGE, title="one filter")
    shown = panels(figure)
    rows = {shown[start].get_ylabel(): shown[start : start + 3] for start in (0, 3, 6)}
    values = np.stack(list(CONV.values()))
    assert {ax.images[0].get_clim() for ax in rows["feature map\n(conv1)"]} == {
        (-np.abs(values).max(), np.abs(values).max())
    }
    assert {ax.images[0].get_clim() for ax in rows["ReLU\n(relu1)"]} == {(0, values.max())}
    np.testing.assert_array_equal(rows["ReLU\n(relu1)"][1].images[0].get_array(), np.maximum(CONV[2], 0))


def test_the_colour_bars_say_what_the_values_are():
    figure = draw_activation_evolution(activation_evolution(MAPS), image=IMAGE, title="one filter")
    bars = [ax.get_ylabel() for ax in figure.axes if not ax.images and ax.get_ylabel()]
    assert bars == ["pre-activation", "activation", "activation"]


def test_a_silent_row_is_flat_and_labelled_and_never_nan():
    figure = draw_activation_evolution(activation_evolution({"pool1": MAPS["pool1"]}), image=None, title="dead")
    assert len(panels(figure)) == 3
    for ax in panels(figure):
        assert ax.texts[0].get_text() == "all 0"
        assert np.asarray(ax.images[0].get_array()).tolist() == np.zeros((4, 4)).tolist()
    figure.draw_without_rendering()


def test_the_image_stands_beside_the_maps():
    figure = draw_activation_evolution(activation_evolution(MAPS), image=IMAGE, title="one filter")
    (beside,) = [ax for ax in figure.axes if ax.get_title() == "image"]
    np.testing.assert_array_equal(beside.images[0].get_array(), IMAGE)


@pytest.mark.parametrize(("epochs", "layers"), [(1, 3), (17, 1)])
def test_any_number_of_epochs_and_layers_is_laid_out(epochs, layers):
    maps = {f"conv{layer}": dict.fromkeys(range(epochs), CONV[0]) for layer in range(layers)}
    figure = draw_activation_evolution(activation_evolution(maps), image=IMAGE, title="t")
    figure.draw_without_rendering()
    sizes = np.array([ax.get_position().size for ax in panels(figure)])
    assert len(sizes) == epochs * layers
    assert (sizes > 0).all()


def test_the_caption_has_the_range_of_each_layer_at_the_last_epoch():
    text = caption(activation_evolution(MAPS))
    assert text.startswith("At epoch 4")
    assert f"feature map (conv1) from −{-CONV[4].min():.2g} to {CONV[4].max():.2g}," in text
    assert "max pooling (pool1) from 0 to 0 (100% zero)" in text


@pytest.mark.parametrize("count", [1, 6, 33])
def test_every_filter_has_a_numbered_panel_on_one_scale(count):
    maps = np.maximum(RNG.normal(size=(count, 4, 4)), 0)
    figure = draw_activation_grid(activation_grid(maps), layer="relu1", title="all filters")
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in shown] == [str(number) for number in range(count)]
    assert {ax.images[0].get_clim() for ax in shown} == {(0, maps.max())}
    np.testing.assert_array_equal(shown[-1].images[0].get_array(), maps[-1])


def test_silent_and_constant_filters_are_marked_and_counted():
    maps = np.stack([np.zeros((4, 4)), np.full((4, 4), 0.5), np.arange(16.0).reshape(4, 4), np.full((4, 4), 1e-9)])
    table = activation_grid(maps)
    figure = draw_activation_grid(table, layer="relu2", title="t")
    labels = ["".join(text.get_text() for text in ax.texts) for ax in figure.axes if ax.images]
    assert labels == ["all 0", "constant\n0.5", "", "≈ 0"]
    assert grid_caption(table, "relu2", 3) == "4 maps, ReLU (relu2), at epoch 3: 1 zero throughout, 2 constant."


def test_a_map_with_nan_is_labelled_and_masked():
    maps = np.stack([np.full((4, 4), np.nan), np.eye(4)])
    figure = draw_activation_grid(activation_grid(maps), layer="relu2", title="t")
    first = figure.axes[0]
    assert first.texts[0].get_text() == "not\nfinite"
    assert np.ma.getmaskarray(first.images[0].get_array()).all()
    figure.draw_without_rendering()


def test_drawing_leaves_the_callers_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_activation_grid(activation_grid(np.ones((2, 4, 4))), layer="relu2", title="t").draw_without_rendering()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("cmap", [style.SEQUENTIAL, style.DIVERGING, style.SHARES])
def test_ink_is_readable_on_every_colour(cmap):
    import matplotlib
    from matplotlib.colors import to_rgb

    def luminance(colour) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for share in np.linspace(0, 1, 51):
        under, over = luminance(matplotlib.colormaps[cmap](share)), luminance(style.ink_on(cmap, share))
        assert (max(under, over) + 0.05) / (min(under, over) + 0.05) > 3.4


def test_each_map_on_its_own_scale_reaches_its_end_and_flat_ones_stay_flat():
    faint = np.zeros((4, 4))
    faint[1, 2] = 1e-3
    maps = np.stack([faint * 2000, faint, np.zeros((4, 4)), np.full((4, 4), 0.5)])
    figure = draw_activation_grid(activation_grid(maps), layer="relu1", title="t", per_map=True)
    drawn = [ax.images[0].get_array() for ax in figure.axes[:4]]
    assert [float(values.max()) for values in drawn] == pytest.approx([1, 1, 0, 0.25])
    assert [ax.texts[0].get_text() if ax.texts else "" for ax in figure.axes[:4]] == ["", "", "all 0", "constant\n0.25"]
    evolution = activation_evolution({"conv1": {0: faint, 1: -faint * 2000}})
    figure = draw_activation_evolution(evolution, image=None, title="t", per_map=True)
    assert figure.axes[0].images[0].get_array().max() == pytest.approx(1)
    assert figure.axes[1].images[0].get_array().min() == pytest.approx(-1)
