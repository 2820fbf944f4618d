import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from analysis.results import classification as c
from analysis.results import confusion, leads, roc

CLASSES = ["cat", "dog", "ship"]


def predictions(images: int = 300, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, images)
    return (rng.normal(size=(images, 3)) + strength * np.eye(3)[labels]).astype(np.float32), labels


def test_softmax_sums_to_one_and_survives_large_logits():
    probabilities = c.softmax(np.array([[1000.0, 1000.0, -1000.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(probabilities, [[0.5, 0.5, 0], [1 / 3] * 3])


def test_softmax_of_float32_logits_is_computed_in_float64():
    logits, _ = predictions()
    powers = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(c.softmax(logits), powers / powers.sum(axis=1, keepdims=True), rtol=1e-12)


def test_confusion_agrees_with_scikit_learn_and_keeps_every_pair():
    logits, labels = predictions()
    table = confusion.confusion(logits, labels, CLASSES)
    assert list(table) == ["true", "predicted", "count", "leads"]
    assert table["leads"].sum() == pytest.approx(1)
    expected = metrics.confusion_matrix(labels, logits.argmax(axis=1))
    np.testing.assert_array_equal(table["count"].to_numpy().reshape(3, 3), expected)
    assert len(confusion.confusion(logits[:1], labels[:1], CLASSES)) == 9


def test_the_matrix_is_drawn_as_shares_with_the_counts_written_in():
    logits, labels = predictions()
    weak, _ = predictions(strength=0.1)
    figure = confusion.draw_confusion(
        {"cnn": confusion.confusion(logits, labels, CLASSES), "ffnn": confusion.confusion(weak, labels, CLASSES)}
    )
    left, right, bar = figure.axes
    counts = metrics.confusion_matrix(labels, logits.argmax(axis=1))
    np.testing.assert_allclose(left.images[0].get_array(), 100 * counts / counts.sum(axis=1, keepdims=True))
    assert [text.get_text() for text in left.texts] == [str(count) for count in counts.ravel()]
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 100)
    assert [label.get_text() for label in left.get_yticklabels()] == CLASSES
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("CNN", "FFNN")
    assert bar.get_ylabel() == "share of the true class (%)"


def test_a_class_without_images_is_drawn_without_dividing_by_zero():
    logits, labels = predictions()
    kept = labels != 2
    figure = confusion.draw_confusion({"cnn": confusion.confusion(logits[kept], labels[kept], CLASSES)})
    assert figure.axes[0].images[0].get_array()[2].tolist() == [0, 0, 0]


def test_the_confusion_caption_names_the_most_frequent_mistake():
    logits = np.eye(3)[[0, 1, 1, 1, 2]]
    table = confusion.confusion(logits, np.array([0, 0, 0, 1, 2]), CLASSES)
    assert confusion.confusion_caption({"cnn": table}) == "CNN most often takes cat for dog (2 of 3)."
    tied = confusion.confusion(np.eye(3)[[1, 2, 1, 1]], np.array([0, 0, 2, 1]), CLASSES)
    assert confusion.confusion_caption({"cnn": tied}) == (
        "CNN most often takes cat for dog, cat for ship and ship for dog (1 image each)."
    )
    right = confusion.confusion(logits, logits.argmax(axis=1), CLASSES)
    assert confusion.confusion_caption({"cnn": right}) == "CNN confuses no classes."


@pytest.mark.parametrize(("ships", "said"), [(45, ", tied with dog for ship."), (10, "(50 of 200).")])
def test_a_mistake_that_is_nearly_as_frequent_is_tied_with_the_most_frequent(ships: int, said: str):
    labels = np.repeat([0, 1, 2], 200)
    chosen = labels.copy()
    chosen[:50] = 1  # cats for dogs
    chosen[200 : 200 + ships] = 2  # dogs for ships
    text = confusion.confusion_caption({"cnn": confusion.confusion(np.eye(3)[chosen], labels, CLASSES)})
    assert text.startswith("CNN most often takes cat for dog (50 of 200)")
    assert text.endswith(said)


def test_a_mistake_that_was_never_made_is_tied_with_none():
    labels = np.repeat([0, 1, 2], 100)
    once = confusion.confusion(np.eye(3)[np.where(np.arange(300) == 0, 1, labels)], labels, CLASSES)
    assert confusion.confusion_caption({"cnn": once}) == "CNN most often takes cat for dog (1 of 100)."


def test_many_classes_are_resampled_in_small_parts(monkeypatch: pytest.MonkeyPatch):
    logits, labels = predictions()
    whole = confusion.confusion(logits, labels, CLASSES)["leads"]
    monkeypatch.setattr(leads, "DRAWN_AT_ONCE", 900)
    np.testing.assert_allclose(confusion.confusion(logits, labels, CLASSES)["leads"], whole, atol=0.05)


def test_auc_agrees_with_scikit_learn():
    logits, labels = predictions(3000)
    table = roc.roc(logits, labels, CLASSES)
    probabilities = c.softmax(logits)
    for place, name in enumerate(CLASSES):
        expected = metrics.roc_auc_score(labels == place, probabilities[:, place])
        assert roc.class_auc(table)[name] == pytest.approx(expected, abs=1e-12)
    expected = metrics.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert roc.class_auc(table).mean() == pytest.approx(expected, abs=1e-12)


def test_a_thinned_curve_is_short_keeps_its_ends_and_lies_on_the_full_one():
    logits, labels = predictions(20_000)
    curve = roc.roc(logits, labels, CLASSES).query("`class` == 'dog'")
    assert 300 < len(curve) <= roc.CURVE_POINTS
    rates = curve[["false_positive_rate", "true_positive_rate"]].to_numpy()
    assert rates[0].tolist() == [0, 0]
    assert rates[-1].tolist() == [1, 1]
    assert metrics.auc(*rates.T) == pytest.approx(curve["auc"].iloc[0], abs=1e-3)
    false, true, _ = metrics.roc_curve(labels == 1, c.softmax(logits)[:, 1])
    assert set(map(tuple, rates)) <= set(zip(false, true, strict=True))


def test_a_class_without_positives_or_negatives_is_undefined():
    logits, labels = predictions()
    table = roc.roc(logits[labels != 2], labels[labels != 2], CLASSES)
    assert len(table[table["class"] == "ship"]) == 1
    areas = roc.class_auc(table)
    assert np.isnan(areas["ship"])
    assert roc.class_auc(table).mean() == pytest.approx(areas[["cat", "dog"]].mean())
    ax = roc.draw_roc({"cnn": table}).axes[0]
    assert ax.get_legend().get_texts()[-1].get_text() == "ship undefined"
    assert ax.get_title(loc="left") == f"CNN: mean AUC {roc.class_auc(table).mean():.3f} over 2 of 3 classes"
    assert roc.roc_caption({"cnn": table, "ffnn": table}).endswith("; undefined without images: ship.")


def test_the_roc_note_gives_the_mean_auc_of_the_logits_and_their_best_class_where_it_is_another():
    labels = np.arange(300) % 3
    logits = predictions()[0] + 3 * np.eye(3)[labels]
    # What is added to all logits of an image leaves its probabilities as they are.
    shifted = logits + 9.0 * (labels == 2)[:, None]
    tables = {"cnn": roc.roc(shifted, labels, CLASSES), "ffnn": roc.roc(logits, labels, CLASSES)}
    here = roc.class_auc(tables["cnn"]).mean()
    assert here == pytest.approx(roc.class_auc(tables["ffnn"]).mean(), abs=1e-9)
    mean = np.mean([metrics.roc_auc_score(labels == place, shifted[:, place]) for place in range(3)])
    assert f"{mean:.3f} for the CNN (here {here:.3f}; best ship)" in roc.note(tables)


def test_the_roc_note_is_silent_on_the_best_class_where_both_scores_have_the_same():
    labels = np.arange(300) % 3
    logits = np.random.default_rng(1).normal(size=(300, 3)) + np.eye(3)[labels] * [1.0, 1.0, 5.0]
    note = roc.note({"cnn": roc.roc(logits, labels, CLASSES)})
    assert "The mean AUC of the logits is" in note
    assert "best" not in note
    assert roc.note({"cnn": roc.roc(logits, np.zeros(300, int), CLASSES)}) == f"{roc.FROM_PROBABILITIES} {leads.NOTE}"


def test_the_roc_caption_names_every_class_that_is_best_or_worst():
    labels = np.array([0, 0, 1, 1, 2, 2])
    logits = np.eye(3)[[0, 0, 1, 1, 2, 2]] * 9
    assert roc.roc_caption({"cnn": roc.roc(logits, labels, CLASSES)}) == (
        "CNN has a mean AUC of 1.000 (1.000 for every class)."
    )
    logits[5] = [0, 12, 3]
    text = roc.roc_caption({"ffnn": roc.roc(logits, labels, CLASSES)})
    assert text == (
        "FFNN has a mean AUC of 0.917 (from 0.750 for dog, tied with cat and ship, to 1.000 for cat and ship, tied "
        "with dog)."
    )


@pytest.mark.parametrize(("gap", "is_sure"), [(0.0, False), (2.0, True)])
def test_an_auc_that_other_images_would_not_leave_the_highest_is_tied(gap: float, is_sure: bool):
    labels = np.repeat([0, 1, 2], 100)
    logits = np.random.default_rng(0).normal(size=(300, 3)) + np.eye(3)[labels] * [1, 1 + gap, 1 + 2 * gap]
    text = roc.roc_caption({"cnn": roc.roc(logits, labels, CLASSES)})
    assert ("tied with" not in text) is is_sure
    if is_sure:
        assert " for ship)." in text


@pytest.mark.parametrize("classes", [1, 3])
def test_images_of_one_class_alone_have_no_curve_at_all_and_the_words_say_why(classes: int):
    names = CLASSES[:classes]
    table = roc.roc(np.random.default_rng(0).normal(size=(4, classes)), np.zeros(4, int), names)
    assert table["auc"].isna().all()
    assert np.isnan(roc.class_auc(table).mean())
    assert roc.roc_caption({"cnn": table}).startswith("The AUC is undefined, as all images are of one class")
    figure = roc.draw_roc({"cnn": table})
    assert figure.axes[0].get_title(loc="left") == "CNN: mean AUC undefined"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        f"{name} undefined" for name in names
    ]
    figure.draw_without_rendering()


def test_curves_are_drawn_best_first_with_their_auc():
    logits, labels = predictions()
    table = roc.roc(logits, labels, CLASSES)
    figure = roc.draw_roc({"cnn": table, "ffnn": table})
    assert len(figure.axes) == 2
    areas = roc.class_auc(table)
    assert areas.is_monotonic_decreasing
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == [f"{name} {area:.3f}" for name, area in areas.items()]
    lines = figure.axes[0].lines[1:]
    curve = table[table["class"] == areas.index[0]]
    np.testing.assert_array_equal(lines[0].get_ydata(), curve["true_positive_rate"])


def test_many_classes_are_drawn_with_the_ends_of_the_ranking_named():
    classes = [f"class {number}" for number in range(20)]
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(400, 20)), np.arange(400) % 20
    figure = roc.draw_roc({"cnn": roc.roc(logits, labels, classes)})
    assert len(figure.axes[0].get_legend().get_texts()) == 12
    assert not confusion.draw_confusion({"cnn": confusion.confusion(logits, labels, classes)}).axes[0].texts


def test_of_very_many_classes_only_some_are_named_beside_the_matrix():
    classes = [f"class {number}" for number in range(90)]
    table = confusion.confusion(np.eye(90), np.arange(90), classes)
    labels = confusion.draw_confusion({"cnn": table}).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == classes[::3]


def test_long_names_are_cut_in_the_middle_and_leave_the_pictures_their_room():
    names = [f"{place} a very long name of a class that goes on and on until it ends in {place}" for place in range(3)]
    logits, labels = predictions()
    figure = confusion.draw_confusion(
        {"cnn": confusion.confusion(logits, labels, names), "ffnn": confusion.confusion(logits, labels, names)}
    )
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().width > 0.25 * figure.bbox.width
    label = figure.axes[0].get_yticklabels()[1].get_text()
    assert (len(label), label[:3], label[-4:]) == (24, "1 a", "in 1")
    curves = roc.draw_roc({"cnn": roc.roc(logits, labels, names), "ffnn": roc.roc(logits, labels, names)})
    curves.draw_without_rendering()
    assert curves.axes[0].get_window_extent().width > 0.35 * curves.bbox.width


@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 1], [2]])
def test_measures_agree_with_scikit_learn(kept: list[int]):
    """Also where a class has no images, or only one has any."""
    logits, labels = predictions()
    among = np.isin(labels, kept)
    logits, labels = logits[among], labels[among]
    table = c.metrics_table({("cnn", "test"): (logits, labels)})
    report = metrics.classification_report(labels, logits.argmax(axis=1), output_dict=True, zero_division=0)
    assert list(table) == ["model", "split", "images", "accuracy", "precision", "recall", "f1", "balanced_accuracy"]
    assert table.iloc[0, :3].tolist() == ["cnn", "test", len(labels)]
    average = report["weighted avg"]
    expected = [report["accuracy"], average["precision"], average["recall"], average["f1-score"]]
    # Of the classes that have images alone.
    expected.append(np.mean([report[str(name)]["recall"] for name in kept]))
    assert table.iloc[0, 3:].tolist() == pytest.approx(expected)


def test_a_class_that_is_never_predicted_counts_as_zero_precision():
    logits, labels = predictions()
    logits[:, 1] = -9
    expected = metrics.precision_score(labels, logits.argmax(axis=1), average="weighted", zero_division=0)
    assert c.metrics_table({("cnn", "test"): (logits, labels)})["precision"].item() == pytest.approx(expected)


def test_a_split_without_images_has_no_measures():
    table = c.metrics_table({("cnn", "test"): (np.zeros((0, 3)), np.zeros(0, int))})
    assert table["images"].tolist() == [0]
    assert table[c.MEASURES].isna().all(axis=None)


def test_markdown_has_three_decimals_capitals_and_empty_cells():
    table = pd.DataFrame({"model": ["cnn"], "split": ["test"], "images": [10_000], "f1": [0.7], "report_f1": [np.nan]})
    assert c.to_markdown(table) == (
        "| model | split | images | f1 | report f1 |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| CNN | test | 10,000 | 0.700 |  |\n"
    )
    assert c.to_markdown(pd.DataFrame({"my_network recall": [0.5]})).startswith("| my_network recall |\n")


def test_a_roc_legend_names_every_class_and_no_two_lines_look_the_same():
    names = ["_background_", "_", "$x$", *(f"class {number}" for number in range(9))]
    labels = np.arange(24) % 12
    figure = roc.draw_roc({"cnn": roc.roc(np.random.default_rng(0).normal(size=(24, 12)), labels, names)})
    legend = figure.axes[0].get_legend()
    assert {text.get_text().rpartition(" ")[0] for text in legend.get_texts()} == set(names)
    lines = {(line.get_color(), str(line._dash_pattern), line.get_marker()) for line in legend.get_lines()}
    assert len(lines) == 12
