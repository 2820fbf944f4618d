import numpy as np
import pytest

from analysis.filters.selectivity import caption, class_selectivity, draw_selectivity, points
from tests.support.legibility import problems_on_screens

RNG = np.random.default_rng(2)
CLASSES = ["cat", "dog", "frog"]
LABELS, MANY = np.repeat([0, 1, 2], [10, 20, 30]), np.repeat(np.arange(12), 5)
MEANS = {"conv1": RNG.random((60, 5)), "conv2": RNG.random((60, 70))}
MEANS["conv2"][:, 3] = 0
MEANS["conv2"][:, 4] = 0.005
MEANS["conv2"][:, 5] = LABELS == 1
TABLE = class_selectivity(MEANS, LABELS, CLASSES)


def of(table, layer: str, filter: int):
    return table[(table["layer"] == layer) & (table["filter"] == filter)].iloc[0]


def test_the_index_is_that_of_the_paper():
    for layer, values in MEANS.items():
        for filter in (0, 1, 2):
            by_class = [values[label == LABELS, filter].mean() for label in range(3)]
            best = int(np.argmax(by_class))
            rest = np.mean(np.delete(by_class, best))
            row = of(TABLE, layer, filter)
            assert row["class"] == CLASSES[best]
            assert row["selectivity"] == pytest.approx((by_class[best] - rest) / (by_class[best] + rest))


def test_a_filter_of_one_class_alone_has_1_and_one_of_all_classes_0():
    assert of(TABLE, "conv2", 5)["selectivity"] == 1
    assert of(class_selectivity({"conv1": np.ones((60, 1))}, LABELS, CLASSES), "conv1", 0)["selectivity"] == 0


def test_classes_count_equally_however_many_images_they_have():
    means = (LABELS[:, None] == 2) * 4.0 + (LABELS[:, None] == 0) * 2.0
    row = of(class_selectivity({"conv1": means}, LABELS, CLASSES), "conv1", 0)
    assert (row["mean_highest"], row["mean_rest"], row["selectivity"]) == (4, 1, 0.6)


def test_silent_filters_and_ones_at_the_level_of_rounding_have_no_class_and_no_index():
    for filter in (3, 4):
        row = of(TABLE, "conv2", filter)
        assert row["class"] == ""
        assert np.isnan(row["selectivity"])
    assert points(TABLE)[1].endswith("; 2 of its 70 filters are too weak to be rated.")


def test_the_caption_has_the_median_and_the_most_selective_filter():
    median = TABLE.loc[TABLE["layer"] == "conv2", "selectivity"].median()
    assert caption(TABLE).startswith("Filter 5 of conv2 is the most selective with 1.00, for ")
    assert caption(TABLE).endswith(f" and {median:.2f} in conv2.")
    assert points(TABLE)[1].startswith("In conv2 filter 5 is the most selective with 1.00: its mean activation is ")
    assert ", tied with " not in caption(TABLE)


def test_a_filter_that_other_images_would_not_leave_the_most_selective_is_tied():
    means = RNG.random((60, 3)) + np.array([0, 1, 1]) * (LABELS == 1)[:, None]
    table = class_selectivity({"conv1": means}, LABELS, CLASSES)
    [first, other] = table.iloc[1:].sort_values("selectivity", ascending=False)["filter"]
    assert f"Filter {first} of conv1 is the most selective" in caption(table)
    assert f", for dog, tied with filter {other} of conv1; the median" in caption(table)
    assert f", tied with filter {other}: its mean activation is " in points(table)[0]
    assert table["leads"].tolist() == table["leads_layer"].tolist()
    assert table["leads"][0] == 0


def test_how_often_a_filter_leads_is_what_resampled_images_give():
    """The oracle draws the images of each class anew, and asks the function itself."""
    rng, members = np.random.default_rng(1), [np.flatnonzero(label == LABELS) for label in range(3)]
    leaders = []
    for _ in range(100):
        drawn = np.concatenate([rng.choice(rows, len(rows)) for rows in members])
        again = class_selectivity({"conv1": MEANS["conv1"][drawn]}, LABELS[drawn], CLASSES)
        leaders.append(again["selectivity"].argmax())
    shares = TABLE.loc[TABLE["layer"] == "conv1", "leads_layer"]
    np.testing.assert_allclose(shares, np.bincount(leaders, minlength=5) / 100, atol=0.15)


def test_bars_are_the_indices_most_selective_first_and_go_on_below():
    figure = draw_selectivity(TABLE, CLASSES)
    figure.draw_without_rendering()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["conv1", "conv2", "conv2, continued"]
    heights = [bar.get_height() for ax in figure.axes[1:] for bar in ax.patches if bar.get_width() == 0.8]
    assert heights == sorted(TABLE.loc[TABLE["layer"] == "conv2", "selectivity"].dropna(), reverse=True)
    assert figure.axes[1].get_xticklabels()[0].get_text() == "5"
    assert [figure.axes[place].get_xlabel() for place in (1, 2)] == [
        "filter",
        "filter\n2 filters too weak to be rated: 3, 4",
    ]


def test_a_class_without_images_is_left_out_and_a_single_class_leaves_nothing_to_compare():
    absent = class_selectivity(MEANS, np.minimum(LABELS, 1), CLASSES)
    assert "frog" not in set(absent["class"])
    assert absent["selectivity"].notna().any()
    single = class_selectivity(MEANS, np.full(60, 2), CLASSES)
    assert single["selectivity"].isna().all()
    assert set(single["class"]) == {"frog", ""}
    figure = draw_selectivity(single, CLASSES)
    figure.draw_without_rendering()
    assert figure.axes[0].texts[0].get_text() == "undefined for every filter"
    assert caption(single) == "No filter's selectivity is defined."


def test_with_every_filter_dead_the_figure_is_drawn():
    table = class_selectivity({"conv1": np.zeros((60, 4))}, LABELS, CLASSES)
    draw_selectivity(table, CLASSES).draw_without_rendering()
    assert points(table) == [
        "In conv1 no filter's selectivity is defined; 4 of its 4 filters are too weak to be rated."
    ]


def test_a_few_classes_have_a_legend_and_their_bars_no_names():
    figure = draw_selectivity(TABLE, CLASSES)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == CLASSES
    colours = dict(zip(CLASSES, (patch.get_facecolor() for patch in legend.get_patches()), strict=True))
    rated = TABLE[TABLE["layer"] == "conv1"].sort_values("selectivity", ascending=False)
    assert [bar.get_facecolor() for bar in figure.axes[0].patches] == [colours[name] for name in rated["class"]]
    assert not any(ax.texts for ax in figure.axes)


@pytest.mark.parametrize("highest", [1.0, 0.74, 0.2, 0.003])
def test_the_axis_ends_at_a_tick_not_far_above_the_highest_bar(highest: float):
    figure = draw_selectivity(TABLE.assign(selectivity=TABLE["selectivity"] * highest), CLASSES)
    for ax in figure.axes:
        top = ax.get_ylim()[1]
        assert ax.get_yticks()[-1] == pytest.approx(top)
        assert 0.6 * top < highest <= top * (1 + 1e-9)


def test_long_names_are_cut():
    names = [f"a class with a very long name, number {place}" for place in range(3)]
    figure = draw_selectivity(class_selectivity(MEANS, LABELS, names), names)
    assert {len(text.get_text()) for text in figure.legends[0].get_texts()} == {18}
    assert problems_on_screens(figure) == []
    many = [f"a class with a very long name, number {place}" for place in range(12)]
    figure = draw_selectivity(class_selectivity(MEANS, MANY, many), many)
    assert not figure.legends
    assert {len(text.get_text()) for text in figure.axes[0].texts} == {18}
    assert problems_on_screens(figure) == []


def test_names_of_many_classes_take_no_more_room_above_the_bars_than_they_need():
    for names in ([*"abcdefghijkl"], [f"north_american_green_tree_frog_{place}" for place in range(12)]):
        table = class_selectivity(MEANS, MANY, names)
        for shrink in (1, 0.25):
            shrunk = table.assign(selectivity=table["selectivity"] * shrink)
            assert problems_on_screens(draw_selectivity(shrunk, names)) == []
    short = draw_selectivity(class_selectivity(MEANS, MANY, [*"abcdefghijkl"]), [*"abcdefghijkl"])
    assert {text.get_rotation() for text in short.axes[0].texts} == {0}
