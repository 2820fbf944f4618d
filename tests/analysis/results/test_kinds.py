import numpy as np
import pytest

from analysis.results import kinds as g
from analysis.results.confusion import confusion
from tests.support.legibility import problems_on_screens

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def table(pairs: list[tuple[str, str]]):
    labels = np.array([NAMES.index(true) for true, _ in pairs])
    return g.grouped(confusion(np.eye(10)[[NAMES.index(taken) for _, taken in pairs]], labels, NAMES))


def test_only_the_ten_classes_have_groups_in_whatever_order():
    assert g.has_groups(NAMES[::-1])
    assert not g.has_groups(NAMES[:9])
    assert not g.has_groups([*NAMES, "whale"])


def test_confusions_are_counted_by_kind_and_hits_are_not():
    counts = table(
        [("cat", "dog"), ("cat", "frog"), ("ship", "truck"), ("bird", "airplane"), ("truck", "horse"), ("cat", "cat")]
    )
    assert counts["kind"].tolist() == ["within animals", "within vehicles", "across"]
    assert counts["count"].tolist() == [2, 1, 2]
    assert counts["share"].tolist() == pytest.approx([0.4, 0.2, 0.4])
    assert (counts["low"] < counts["share"]).all()
    assert (counts["share"] < counts["high"]).all()


def test_chance_spreads_each_classes_mistakes_evenly_over_the_others():
    """An animal has five other animals among nine classes, a vehicle three other vehicles."""
    counts = table([("cat", "dog"), ("cat", "dog"), ("cat", "ship"), ("ship", "truck")])
    expected = [3 * 5 / 9 / 4, 1 * 3 / 9 / 4, (3 * 4 / 9 + 6 / 9) / 4]
    assert counts["chance"].tolist() == pytest.approx(expected)
    assert counts["chance"].sum() == pytest.approx(1)


def test_blind_guessing_gives_what_chance_says():
    rng = np.random.default_rng(0)
    grouped = g.grouped(confusion(rng.normal(size=(20_000, 10)), rng.integers(0, 10, 20_000), NAMES))
    np.testing.assert_allclose(grouped["share"], grouped["chance"], atol=0.01)
    np.testing.assert_allclose(grouped["chance"], [0.6 * 5 / 9, 0.4 * 3 / 9, 0.4 + 0.4 / 3], atol=0.01)


def test_the_captions_divide_each_models_confusions():
    text = g.caption({"cnn": table([("cat", "dog"), ("cat", "ship")])})
    assert text.startswith(
        "Of the CNN's 2 confusions 50% are within animals (chance 56%), 0% are within vehicles (chance 0%) and 50% are "
        "across (chance 44%)."
    )


def test_a_model_without_mistakes_has_no_shares():
    right = table([(name, name) for name in NAMES])
    assert right[["share", "low", "high", "chance"]].isna().all(axis=None)
    assert g.caption({"cnn": right}).startswith("The CNN confuses no classes.")
    g.draw_grouped({"cnn": right}).draw_without_rendering()


def test_bars_are_shares_with_chance_beside_them():
    counts = table([("cat", "dog"), ("cat", "ship"), ("truck", "ship")])
    figure = g.draw_grouped({"cnn": counts, "ffnn": counts})
    assert problems_on_screens(figure) == []
    [ax] = figure.axes
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([*100 * counts["share"]] * 2)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(g.KINDS)
    assert ax.get_ylabel() == "share of the model's confusions (%)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "CNN, 3 confusions",
        "FFNN, 3 confusions",
        "by chance",
        "95% interval",
    ]
