import numpy as np
import pytest
from sklearn import metrics

from analysis.drawing.screens import narrow_version
from analysis.results import per_class as c
from analysis.results.proportions import wilson
from tests.support.legibility import problems

NAMES = ["cat", "dog", "ship"]


def predictions(strength: float = 1.0, images: int = 300, size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, size, images)
    return rng.normal(size=(images, size)) + strength * np.eye(size)[labels], labels


def test_every_class_agrees_with_scikit_learn():
    logits, labels = predictions()
    table = c.per_class(logits, labels, NAMES)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, logits.argmax(axis=1))
    for name, expected in {"precision": precision, "recall": recall, "f1": f1, "support": support}.items():
        np.testing.assert_allclose(table[name], expected)
    hits = (table["recall"] * table["support"]).round().astype(int)
    for measure, totals in {"recall": "support", "precision": "predicted"}.items():
        np.testing.assert_allclose(
            table[[f"{measure}_low", f"{measure}_high"]].to_numpy().T, wilson(hits.tolist(), table[totals].tolist())
        )


def test_what_cannot_be_measured_is_undefined_and_said_so():
    logits, labels = predictions()
    logits[:, 1] = -9
    kept = labels != 2
    tables = {"cnn": c.per_class(logits[kept], labels[kept], NAMES)}
    table = tables["cnn"].set_index("class")
    assert np.isnan(table.loc["dog", "precision"])
    assert table.loc["dog", "recall"] == 0
    assert np.isnan(table.loc["ship", "recall"])
    assert table.loc["ship", "precision"] == 0
    text = c.caption(tables)
    assert "; CNN never predicts dog (precision undefined); " in text
    assert text.endswith("recall is undefined without images: ship.")
    figure = c.draw_per_class(tables)
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["undefined"] * 2
    assert c.side_by_side(tables)["CNN recall"].iloc[2] == "undefined"
    figure.draw_without_rendering()


def test_the_caption_names_the_hardest_and_the_easiest_class():
    logits = np.eye(3)[[0, 0, 1, 0, 2, 2]]
    table = c.per_class(logits, np.array([0, 0, 1, 1, 2, 2]), NAMES)
    assert c.caption({"cnn": table}) == (
        "CNN: from dog with recall 0.500 (0.095–0.905) to cat and ship with recall 1.000, which the images do not tell "
        "apart."
    )
    distinct = c.per_class(np.eye(3)[[0, 1, 1, 0, 2, 0]], np.array([0, 1, 1, 1, 2, 2]), NAMES)
    assert c.caption({"cnn": distinct}) == (
        "CNN: from ship with recall 0.500 (0.095–0.905) to cat with recall 1.000 (0.207–1.000), which the images do "
        "not tell apart."
    )


def test_a_class_that_is_hardest_in_nearly_all_resamples_is_tied_with_none():
    labels = np.repeat([0, 1, 2], 500)
    chosen = np.where(np.arange(1500) % 500 < np.repeat([300, 200, 20], 500), (labels + 1) % 3, labels)
    sure = c.caption({"cnn": c.per_class(np.eye(3)[chosen], labels, NAMES)})
    assert sure.startswith("CNN: hardest cat with recall 0.400")
    assert "tied" not in sure
    chosen = np.where(np.arange(1500) % 500 < np.repeat([205, 200, 20], 500), (labels + 1) % 3, labels)
    unsure = c.caption({"cnn": c.per_class(np.eye(3)[chosen], labels, NAMES)})
    assert "hardest cat with recall 0.590" in unsure
    assert ", tied with dog, and easiest ship" in unsure


def test_classes_that_are_all_as_hard_are_named_together():
    names = [f"class {number}" for number in range(10)]
    table = c.per_class(np.eye(10), np.arange(10), names)
    assert c.caption({"cnn": table}) == "CNN: “class 0”, “class 1”, “class 2” and 7 more with recall 1.000."


def test_one_class_alone_is_neither_hard_nor_easy():
    text = c.caption({"cnn": c.per_class(np.eye(3)[[1, 1]], np.array([1, 1]), NAMES)})
    assert text.startswith("CNN: dog with recall 1.000 (0.342–1.000); ")
    assert "hardest" not in text


def test_models_stand_side_by_side_with_bounds():
    table = c.side_by_side({"cnn": c.per_class(*predictions(), NAMES), "ffnn": c.per_class(*predictions(0.1), NAMES)})
    assert list(table) == ["class", "images", "CNN recall", "CNN precision", "FFNN recall", "FFNN precision"]
    assert table["class"].tolist() == NAMES
    assert table["CNN recall"].str.fullmatch(r"0\.\d{3} \(0\.\d{3}–0\.\d{3}\)").all()


def test_classes_are_drawn_with_their_images_the_easiest_on_top():
    table = c.per_class(*predictions(), NAMES)
    figure = c.draw_per_class({"cnn": table, "ffnn": c.per_class(*predictions(0.1), NAMES)})
    recall, precision = figure.axes
    labels = [label.get_text() for label in recall.get_yticklabels()]
    assert sorted(labels) == sorted(f"{name} ({n})" for name, n in zip(NAMES, table["support"], strict=True))
    line = recall.lines[0]
    first = labels[0].split(" ")[0]
    assert line.get_xdata()[0] == table.set_index("class").loc[first, "recall"]
    assert recall.get_ylim()[0] > recall.get_ylim()[1]
    assert precision.get_title(loc="left") == "Precision"


@pytest.mark.parametrize(("wrong", "left"), [(10, 0.9), (250, 0.4), (400, 0.0)])
def test_the_axes_begin_below_the_lowest_interval_where_much_would_be_empty(wrong: int, left: float):
    labels = np.repeat([0, 1, 2], 500)
    chosen = np.where(np.arange(1500) % 500 < wrong, (labels + 1) % 3, labels)
    for ax in c.draw_per_class({"cnn": c.per_class(np.eye(3)[chosen], labels, NAMES)}).axes:
        assert ax.get_xlim() == pytest.approx((left - 0.02 * (1 - left), 1 + 0.02 * (1 - left)))


def test_of_many_classes_the_ends_are_drawn_and_long_names_wrap():
    names = [f"class {number} " + "of many words and of more of them " * 2 for number in range(40)]
    figure = c.draw_per_class({"cnn": c.per_class(*predictions(2.0, 800, 40), names)})
    labels = figure.axes[0].get_yticklabels()
    assert len(labels) == c.MOST_SHOWN
    assert all(len(line) <= c.LINE for label in labels for line in label.get_text().split("\n"))
    assert figure.legends[0].get_title().get_text() == "the 15 easiest and the 15 hardest of 40 classes"


def test_a_class_called_like_mathematics_is_drawn():
    figure = c.draw_per_class({"cnn": c.per_class(*predictions(), ["$_{$", "a_b^", "\\frac"])})
    figure.draw_without_rendering()


def test_equal_recalls_keep_the_order_of_the_classes():
    table = c.per_class(np.eye(3), np.arange(3), NAMES)
    figure = c.draw_per_class({"cnn": table})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [f"{name} (1)" for name in NAMES]
    assert table["recall"].tolist() == pytest.approx([1, 1, 1])


def test_beside_wide_names_nothing_is_cut_off_on_a_narrow_screen():
    wide = [f"{'W' * 40}{name}" for name in NAMES]
    narrow = narrow_version(c.draw_per_class({"cnn": c.per_class(*predictions(), wide)}))
    assert narrow is not None
    assert problems(narrow) == []
