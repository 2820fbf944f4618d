import numpy as np
import pytest

from analysis.drawing import style
from analysis.drawing.filter_rows import MOST_DRAWN
from analysis.drawing.screens import narrow_version
from analysis.inside.activations import (
    activation_evolution,
    activation_grid,
    caption,
    draw_activation_evolution,
    draw_activation_grid,
    grid_caption,
    show_evolution,
    show_grid,
)
from tests.support.legibility import problems

RNG = np.random.default_rng(0)
CONV = {epoch: RNG.normal(size=(8, 8)) for epoch in (4, 0, 2)}
MAPS = {
    "conv1": CONV,
    "relu1": {epoch: np.maximum(one, 0) for epoch, one in CONV.items()},
    "pool1": {epoch: np.zeros((4, 4)) for epoch in CONV},
}
IMAGE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def evolution(maps: dict[int, np.ndarray], layer: str = "conv1"):
    return draw_activation_evolution(activation_evolution({layer: maps}), image=IMAGE, title="one filter")


def tiles(figure):
    """The images, the titles and the labels of the tiles, without the image under study."""
    images = [image for image in figure.axes[0].images if image.get_array().ndim == 2]
    texts = [text.get_text() for text in figure.axes[0].texts]
    return images, [text for text in texts if text]


def test_the_table_keeps_the_order_of_layers_and_sorts_epochs():
    table = activation_evolution(MAPS)
    assert table["layer"].unique().tolist() == ["conv1", "relu1", "pool1"]
    assert table["epoch"].unique().tolist() == [0, 2, 4]
    for row in table[table["layer"] == "conv1"].sample(10, random_state=0).itertuples():
        assert row.value == CONV[row.epoch][row.row, row.column]


def test_every_epoch_is_drawn_on_the_common_scale_and_on_its_own():
    images, texts = tiles(evolution(CONV))
    common, own = images[:3], images[3:]
    largest = np.abs(np.stack(list(CONV.values()))).max()
    assert {image.get_clim() for image in common} == {(-largest, largest)}
    assert {image.get_clim() for image in own} == {(-1, 1)}
    np.testing.assert_array_equal(common[1].get_array(), CONV[2])
    np.testing.assert_allclose(own[1].get_array(), CONV[2] / np.abs(CONV[2]).max())
    assert texts.count("epoch 0") == 2
    assert {"One scale for all epochs", "Each map on its own scale"} <= set(texts)


def test_a_first_epoch_beyond_the_common_scale_is_marked_with_its_largest_value():
    figure = evolution({0: MAPS["relu1"][0] * 10, **{epoch: MAPS["relu1"][epoch] for epoch in (2, 4)}}, "relu1")
    images, texts = tiles(figure)
    assert images[0].get_clim() == (0, max(MAPS["relu1"][epoch].max() for epoch in (2, 4)))
    assert [text for text in texts if "beyond" in text] == [f"beyond the\nscale: {10 * MAPS['relu1'][0].max():.2g}"]


def test_the_sixteen_epochs_of_the_report_are_two_rows_of_eight():
    images, _ = tiles(evolution(dict.fromkeys(range(0, 32, 2), CONV[0])))
    corners = {(round(image.get_extent()[0], 3), round(image.get_extent()[3], 3)) for image in images}
    assert len(images) == len(corners) == 32
    assert len({left for left, _ in corners}) == 8
    assert len({top for _, top in corners}) == 4


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 8, 9, 11, 16])
def test_however_few_the_epochs_no_more_than_a_fifth_of_the_width_is_empty(epochs: int):
    figure = evolution(dict.fromkeys(range(epochs), CONV[0]))
    for drawn in (figure, narrow_version(figure)):
        assert drawn is not None
        assert problems(drawn) == []
        end = drawn.axes[1].yaxis.label.get_window_extent().x1
        assert end > 0.8 * drawn.bbox.x1 or epochs == 1


@pytest.mark.parametrize(("epochs", "rows"), [(9, [5, 4]), (17, [6, 6, 5])])
def test_the_rows_of_maps_are_about_equally_long(epochs: int, rows: list[int]):
    images, _ = tiles(evolution(dict.fromkeys(range(epochs), CONV[0])))
    tops = [round(image.get_extent()[3], 3) for image in images]
    assert [tops.count(top) for top in sorted(set(tops))] == 2 * rows


def test_the_colour_bars_say_what_the_values_are():
    assert [ax.get_ylabel() for ax in evolution(CONV).axes[1:]] == ["pre-activation", "share of max"]
    assert evolution(MAPS["relu1"], "relu1").axes[1].get_ylabel() == "activation"


def test_maps_of_which_nothing_is_seen_after_the_first_epoch_are_one_line():
    maps = MAPS | {"relu1": {0: MAPS["relu1"][0], 2: np.zeros((8, 8)), 4: np.zeros((8, 8))}}
    conv, empty = show_evolution(maps, "conv1", 12, image=IMAGE, description="a photo")
    assert conv.name == "maps_conv1_filter12"
    assert conv.figure
    assert (empty.figure, empty.table) == (None, None)
    assert empty.heading == "Filter 12 of conv1: ReLU (relu1) and pooling (pool1)"
    assert empty.text == (
        "On a photo nothing can be seen from epoch 2 to epoch 4, so these maps are not drawn: "
        "they are zero, constant or not finite."
    )
    assert list(empty.tables) == ["maps_relu1_filter12", "maps_pool1_filter12"]


def test_a_number_over_a_faint_map_is_explained_where_one_is_drawn():
    [plain] = show_evolution({"conv1": CONV}, "conv1", 12, image=IMAGE, description="a photo", followed="It leads.")
    assert plain.note == "It leads."
    faint = CONV | {2: CONV[2] / 100}
    [marked] = show_evolution({"conv1": faint}, "conv1", 12, image=IMAGE, description="a photo")
    label = marked.note.partition("as ")[2].partition(",")[0]
    assert marked.note == f"A number over a map, as {label}, is a bound of values too faint to see on the common scale."
    assert label in tiles(evolution(faint))[1]
    # After the last map that can be seen, none has a tile of its own.
    [dead] = show_evolution({"conv1": CONV | {4: CONV[4] * 0}}, "conv1", 12, image=IMAGE, description="a photo")
    assert dead.note == ""
    constant = CONV | {2: np.full((8, 8), 0.01)}
    [labelled] = show_evolution({"conv1": constant}, "conv1", 12, image=IMAGE, description="a photo")
    assert "constant\n0.01" in tiles(evolution(constant))[1]
    assert labelled.note == ""


def test_a_filter_that_dies_later_is_drawn_until_then():
    dying = {0: CONV[0], 2: CONV[2], **dict.fromkeys((4, 6, 8), np.full((8, 8), -1.0))}
    images, texts = tiles(evolution(dying))
    assert len(images) == 2 * 3
    assert texts.count("4 to 8") == 2
    assert texts.count("constant\n−1") == 2 - 1 + texts.count("constant\n−0.25")


def test_the_image_stands_beside_the_maps():
    (beside,) = [image for image in evolution(CONV).axes[0].images if image.get_array().ndim == 3]
    np.testing.assert_array_equal(beside.get_array(), IMAGE)


def test_the_caption_has_the_range_of_each_layer_at_the_last_epoch():
    text = caption(activation_evolution(MAPS))
    assert text.startswith("At epoch 4")
    assert f"feature map (conv1) goes from −{-CONV[4].min():.2g} to {CONV[4].max():.2g}" in text
    assert text.endswith("pooling (pool1) is zero throughout.")


def test_a_map_of_rounding_errors_is_not_given_a_range():
    fading = {0: np.arange(16.0).reshape(4, 4), 4: np.full((4, 4), -9.5e-28)}
    assert caption(activation_evolution({"conv2": fading})) == "At epoch 4 the feature map (conv2) is near zero."
    stuck = {0: np.arange(16.0).reshape(4, 4), 4: np.full((4, 4), 2.0)}
    assert caption(activation_evolution({"conv2": stuck})) == "At epoch 4 the feature map (conv2) is constant."


@pytest.mark.parametrize("count", [1, 6, 33])
def test_every_filter_that_varies_has_a_numbered_tile_on_one_scale(count):
    maps = np.maximum(RNG.normal(size=(count, 4, 4)), 0)
    images, texts = tiles(draw_activation_grid(activation_grid(maps), layer="relu1", title="all filters"))
    assert texts == ["all filters", *map(str, range(count))]
    assert {image.get_clim() for image in images} == {(0, maps.max())}
    np.testing.assert_array_equal(images[-1].get_array(), maps[-1])


FLAT = np.stack([np.zeros((4, 4)), np.full((4, 4), 0.5), np.arange(16.0).reshape(4, 4), np.full((4, 4), 1e-9)])


def test_the_sentence_and_the_picture_count_the_same_maps_as_flat():
    table = activation_grid(np.concatenate([FLAT, FLAT[:1]]))
    images, texts = tiles(draw_activation_grid(table, layer="relu2", title="t"))
    assert len(images) == 1
    assert texts == ["t", "2", "2 zero throughout: 0, 4\n1 near zero: 3\n1 constant: 1"]
    assert grid_caption(table, "relu2", 3) == (
        "At epoch 3, 1 of 5 maps is drawn, 2 zero throughout, 1 near zero, 1 constant."
    )


def test_maps_too_faint_to_see_are_named_unless_each_has_a_scale_of_its_own():
    table = activation_grid(np.stack([np.eye(4), np.eye(4) / 100]))
    images, texts = tiles(draw_activation_grid(table, layer="relu2", title="t"))
    assert (len(images), texts[-1]) == (1, "1 too faint to see: 1")
    assert grid_caption(table, "relu2", 3).endswith("1 of 2 maps is drawn, 1 too faint to see.")
    images, _ = tiles(draw_activation_grid(table, layer="relu2", title="t", per_map=True))
    assert len(images) == 2
    assert grid_caption(table, "relu2", 3, per_map=True).endswith("2 of 2 maps are drawn.")


def test_a_layer_without_a_map_to_see_is_one_line():
    shown = show_grid(np.zeros((3, 4, 4)), "relu2", 3, description="a photo")
    assert (shown.figure, shown.table) == (None, None)
    assert shown.text == "At epoch 3, 0 of 3 maps are drawn, 3 zero throughout."
    assert len(shown.tables["grid_relu2"]) == 3 * 16


def test_a_map_with_nan_is_named_and_not_drawn():
    maps = np.stack([np.full((4, 4), np.nan), np.eye(4)])
    images, texts = tiles(draw_activation_grid(activation_grid(maps), layer="relu2", title="t"))
    assert len(images) == 1
    assert texts[-1] == "1 not finite: 0"


def test_drawing_leaves_the_callers_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_activation_grid(activation_grid(RNG.normal(size=(2, 4, 4))), layer="relu2", title="t").draw_without_rendering()
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


def test_each_map_of_the_grid_on_its_own_scale_reaches_its_end():
    faint = np.zeros((4, 4))
    faint[1, 2] = 1e-3
    maps = np.stack([faint * 2000, faint, np.zeros((4, 4)), np.full((4, 4), 0.5)])
    images, texts = tiles(draw_activation_grid(activation_grid(maps), layer="relu1", title="t", per_map=True))
    assert [float(image.get_array().max()) for image in images] == [1, 1]
    assert texts[0] == "t; each map on its own scale"
    images, _ = tiles(evolution({0: faint, 1: -faint * 2000}))
    assert images[2].get_array().max() == pytest.approx(1)
    assert images[3].get_array().min() == pytest.approx(-1)


def test_of_many_maps_the_first_are_drawn_and_the_others_counted():
    maps = np.random.default_rng(0).random((MOST_DRAWN + 3, 2, 2))
    shown = show_grid(maps, "relu9", 2, description="an image")
    assert shown.table is not None
    assert shown.table["filter"].max() == MOST_DRAWN - 1
    assert shown.heading.startswith("The first 128 of 131 maps")
    assert "the first 128 of the 131 filters" in shown.note
    few = show_grid(maps[:3], "relu9", 2, description="an image")
    assert (few.note, few.heading) == ("", "All maps: ReLU (relu9)")
