import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from analysis.drawing.style import COLLAPSED
from analysis.filters.health_picture import MEANINGS, STATES, ZERO, draw_filter_health, note
from tests.analysis.filters.test_health import SILENT, health
from tests.support.legibility import problems_on_screens

ACCURACY = {0: 0.1, 1: 0.5, 3: 0.6}


def draw(table, followed=()):
    """The panels of the states, of the weights, of the counts and of the accuracy."""
    figure = draw_filter_health(table, ACCURACY, {"conv2": followed})
    figure.draw_without_rendering()
    return figure.axes[1:]


def test_the_states_are_those_of_the_table_with_the_living_on_top():
    table = health(SILENT, collapsed=1)
    states, *_ = draw(table)
    order = [int(label.get_text()) for label in states.get_yticklabels()]
    assert order == [0, 2, 3, 1, 4]
    expected = table.pivot(index="filter", columns="epoch", values="state").loc[order].map(list(STATES).index)
    np.testing.assert_array_equal(states.images[0].get_array(), expected)


def one_silent(filters: int, epochs: int = 3):
    silent = np.zeros((filters, epochs), bool)
    silent[-1] = True
    return health(silent)


@pytest.mark.parametrize(("filters", "most"), [(8, 8), (64, 24), (512, 25)])
def test_as_many_rows_have_numbers_as_have_room_among_them_the_followed_and_the_dead(filters: int, most: int):
    figure = draw_filter_health(one_silent(filters), ACCURACY, {"conv2": [4]})
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert {"★ 4", str(filters - 1)} <= set(labels)
    assert most / 2 <= len(labels) <= most
    assert problems_on_screens(figure) == []


def test_the_followed_filters_are_marked_at_their_rows_and_at_their_weights():
    table = health(SILENT)
    states, weights, *_ = draw(table, followed=[1, 12])
    assert [label.get_text() for label in states.get_yticklabels() if "★" in label.get_text()] == ["★ 1"]
    followed = weights.lines[-1].get_ydata()
    assert followed.tolist() == table.query("filter == 1").sort_values("epoch")["largest_weight"].tolist()
    assert "1" in [text.get_text() for text in weights.texts]


def test_followed_filters_whose_weights_end_close_together_share_a_label():
    table = health(np.zeros((3, 4), bool))
    table["largest_weight"] = table["filter"].map({0: 0.1, 1: 0.2, 2: 0.101})
    weights, *_ = draw(table, followed=[0, 2])
    assert "0, 2" in [text.get_text() for text in weights.texts]


def test_the_number_of_a_followed_filter_stands_where_its_line_ends():
    table = health(SILENT)
    table.loc[table["filter"] == 0, "largest_weight"] = 0.37
    _, weights, *_ = draw(table, followed=[0])
    (name,) = [text for text in weights.texts if text.get_text() == "0"]
    low, high = weights.get_ylim()
    assert name.get_position()[1] == pytest.approx((0.37 - low) / (high - low))
    table.loc[table["filter"] == 4, "largest_weight"] = 1e-6
    _, weights, *_ = draw(table, followed=[0])
    low, high = np.log10(weights.get_ylim())
    assert weights.texts[0].get_position()[1] == pytest.approx((np.log10(0.37) - low) / (high - low))


def test_weights_decay_on_a_logarithmic_scale_down_to_zero():
    table = health(SILENT)
    table.loc[(table["filter"] == 4) & (table["epoch"] > 0), "largest_weight"] = [1e-20, 1e-39, 0]
    _, weights, *_ = draw(table)
    lines, colours = weights.collections[0].get_segments(), weights.collections[0].get_colors()
    assert weights.get_yscale() == "log"
    assert lines[-1][1:, 1].tolist() == [1e-20, ZERO, ZERO]
    assert weights.get_ylim()[0] < ZERO
    assert weights.get_yticklabels()[-1].get_text() == "0"
    assert [to_hex(colours[0]), to_hex(colours[-1])] == [STATES["active"], STATES["silent"]]
    assert list(weights.lines[0].get_ydata()) == [COLLAPSED] * 2


def test_the_accuracy_has_a_panel_of_its_own():
    *_, counts, accuracy = draw(health(SILENT))
    tops = [bar.get_y() + bar.get_height() for bar in counts.patches]
    assert max(tops) == 5
    assert list(accuracy.lines[-1].get_ydata()) == list(ACCURACY.values())
    assert accuracy.get_ylim() == (0, 1)
    assert not accuracy.patches
    assert not counts.get_window_extent().overlaps(accuracy.get_window_extent())


def test_weights_far_from_zero_have_an_axis_that_shows_how_they_differ():
    table = health(np.zeros((3, 4), bool))
    table["largest_weight"] = np.linspace(0.11, 0.13, len(table))
    weights = draw_filter_health(table, ACCURACY, {"conv2": [2]}).axes[1]
    low, high = weights.get_ylim()
    assert weights.get_yscale() == "linear"
    assert 0.02 / (high - low) > 0.8
    assert "logarithmic" not in note(table, {})
    assert "logarithmic" in note(health(SILENT, collapsed=1), {})


def test_the_legend_has_the_states_that_there_are():
    [legend] = draw_filter_health(one_silent(3), ACCURACY, {}).legends
    assert [text.get_text() for text in legend.get_texts()] == [MEANINGS["active"], MEANINGS["silent"]]


def test_a_layer_without_a_dead_filter_has_no_panel_of_one_colour():
    figure = draw_filter_health(health(np.zeros((3, 4), bool)), ACCURACY, {"conv2": [1]})
    _, weights, accuracy = figure.axes
    assert weights.get_title("left").endswith("all 3 filters are active at every epoch")
    assert not figure.legends
    assert not accuracy.patches
    assert list(accuracy.lines[-1].get_ydata()) == list(ACCURACY.values())


def test_the_accuracy_is_drawn_once():
    healthy, ill = health(np.zeros((3, 4), bool), layer="conv1"), health(SILENT)
    for layers, panels in (((healthy, ill), 6), ((healthy, healthy.assign(layer="conv2")), 4)):
        axes = draw_filter_health(pd.concat(layers), ACCURACY, {}).axes
        assert len(axes) == panels
        assert [ax.get_title("left") for ax in axes].count("Test accuracy") == 1


def test_the_last_epoch_is_ticked_in_every_panel():
    for ax in draw(one_silent(3, 24)):
        assert ax.get_xticks()[-1] == 23
        assert min(np.diff(ax.get_xticks())) > 1


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("dead", [True, False])
def test_all_dead_none_dead_and_one_epoch_are_drawn(epochs: int, dead: bool):
    panels = draw(health(np.full((3, epochs), dead), size=0.0 if dead else 0.1))
    assert len(panels[0].images) == dead
    assert len(panels[int(dead)].collections[0].get_segments()) == 3


def test_an_epoch_that_was_not_kept_is_a_gap():
    states, *_ = draw(health(SILENT).query("epoch != 1"))
    assert np.ma.getmaskarray(states.images[0].get_array()).all(axis=0).tolist() == [False, True, False, False]


@pytest.mark.parametrize("smallest", [5e-3, 1e-4, 1e-9, 1e-15, 1e-25, 0])
@pytest.mark.parametrize("silent", [True, False])
def test_the_limit_of_collapse_is_a_tick_where_no_line_hides_it(smallest: float, silent: bool):
    table = health(SILENT) if silent else health(np.zeros((3, 4), bool))
    table.loc[table["epoch"] == 3, "largest_weight"] = smallest
    figure = draw_filter_health(table, ACCURACY, {"conv2": [1]})
    assert problems_on_screens(figure) == []
    (weights,) = [ax for ax in figure.axes if ax.get_yscale() == "log"]
    ticks = dict(zip([label.get_text() for label in weights.get_yticklabels()], weights.get_yticks(), strict=True))
    assert ticks["0.001"] == COLLAPSED
