import re

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from analysis.drawing.screens import narrow_version
from analysis.results import bootstrap
from analysis.results import intervals as s
from analysis.results.classification import MEASURES, REPORT_TABLE_2, metrics_table
from analysis.results.kinds import GROUPS
from analysis.results.proportions import bonett_price, wilson
from tests.support.legibility import problems

CIFAR10_CLASSES = tuple(sorted(name for names in GROUPS.values() for name in names))

Made = tuple[np.ndarray, np.ndarray]


def made(strength: float, images: int = 200, classes: int = 3, seed: int = 0) -> Made:
    labels = np.random.default_rng(9).integers(0, classes, images)
    noise = np.random.default_rng(seed).normal(size=(images, classes))
    return noise + strength * np.eye(classes)[labels], labels


def right(chosen: list[int], labels: list[int]) -> Made:
    return np.eye(2)[chosen], np.array(labels)


BOTH = {("cnn", "test"): made(1.5), ("ffnn", "test"): made(0.8, seed=1)}


@pytest.mark.slow
def test_resampling_counts_has_the_distribution_of_resampling_images():
    """The oracle draws images with replacement and asks scikit-learn."""
    logits, labels = BOTH["cnn", "test"]
    rng, chosen, expected = np.random.default_rng(1), logits.argmax(axis=1), []
    for _ in range(400):
        drawn = rng.integers(0, len(labels), len(labels))
        pair = labels[drawn], chosen[drawn]
        weighted = metrics.precision_recall_fscore_support(*pair, average="weighted", zero_division=0)[:3]
        expected.append([metrics.accuracy_score(*pair), *weighted, metrics.balanced_accuracy_score(*pair)])
    ours = bootstrap.bootstrap(BOTH, resamples=4000)["cnn", "test"]
    np.testing.assert_allclose(ours.mean(axis=0), np.mean(expected, axis=0), atol=0.005)
    np.testing.assert_allclose(ours.std(axis=0), np.std(expected, axis=0), rtol=0.1)
    for tail in (0.025, 0.975):
        np.testing.assert_allclose(np.quantile(ours, tail, axis=0), np.quantile(expected, tail, axis=0), atol=0.012)


def test_the_same_seed_gives_the_same_intervals_and_another_gives_others():
    pd.testing.assert_frame_equal(s.intervals(BOTH, resamples=100), s.intervals(BOTH, resamples=100))
    other = s.intervals(BOTH, resamples=100, seed=1)
    assert not other["low"].equals(s.intervals(BOTH, resamples=100)["low"])


def test_drawing_in_small_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = bootstrap.bootstrap(BOTH, resamples=50)
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 100)
    for key, values in bootstrap.bootstrap(BOTH, resamples=50).items():
        np.testing.assert_array_equal(values, whole[key])


def test_models_are_resampled_together_so_that_equal_ones_never_differ():
    twice = {("cnn", "test"): made(1.0), ("ffnn", "test"): made(1.0)}
    values = bootstrap.bootstrap(twice, resamples=50)
    np.testing.assert_array_equal(values["cnn", "test"], values["ffnn", "test"])
    table = s.intervals(twice, resamples=50)
    difference = table[table["minus"] == "ffnn"].set_index("measure")
    assert (difference["value"] == 0).all()
    assert difference.loc[["precision", "f1"], ["low", "high"]].isna().all(axis=None)
    assert (difference.loc[s.SHARES, "low"] == -difference.loc[s.SHARES, "high"]).all()
    assert (difference.loc[s.SHARES, "high"] > 0).all()


def test_shares_have_wilsons_interval_and_their_difference_that_of_bonett_and_price():
    rows = s.intervals(BOTH, resamples=300).set_index(["model", "minus", "measure"])
    hits = {name: logits.argmax(axis=1) == labels for (name, _), (logits, labels) in BOTH.items()}
    only, also = (int((hits[model] & ~hits[other]).sum()) for model, other in (("cnn", "ffnn"), ("ffnn", "cnn")))
    for measure in ("accuracy", "recall"):
        expected = wilson([int(hits["cnn"].sum())], [200])[:, 0]
        np.testing.assert_array_equal(rows.loc[("cnn", "", measure), ["low", "high"]].to_numpy(float), expected)
        apart = rows.loc["cnn", "ffnn", measure]
        assert (apart["low"], apart["high"]) == bonett_price(only, also, 200)
        assert (apart["discordant"], apart["images"]) == (only + also, 200)
    own = rows.xs("", level="minus")
    assert own[["discordant", "p_value"]].isna().all(axis=None)


def test_where_all_images_are_right_the_share_keeps_a_width_and_the_bootstrap_has_none():
    labels = np.arange(360) % 3
    right = (np.eye(3)[labels], labels)
    table = s.intervals({("cnn", "train"): right, ("ffnn", "train"): right}, resamples=50)
    assert s.answer(table).iloc[0].tolist() == [
        "train",
        "CNN",
        "1.000 (0.989–1.000)",
        "1.000",
        *["1.000 (0.989–1.000)", "1.000", "1.000"],
    ]
    assert s.answer(table)["precision"].tolist() == ["1.000", "1.000", "+0.000"]
    assert s.figure_note(table).startswith("A point without a bar: ")
    assert s.figure_note(s.intervals(BOTH, resamples=50)) == ""
    panels = s.draw_intervals(table).axes
    assert panels[0].get_xlim()[1] == 1
    for panel in panels:
        bars = [line for lines in panel.collections for line in lines.get_segments()]
        assert sum(len(bar) > 0 and np.ptp(bar[:, 0]) > 0.005 for bar in bars) >= 2


def test_the_paired_difference_is_surer_than_the_two_models():
    """They share the images that are hard for both: the variances of independent draws would add up."""
    base = made(1.0, 500)
    near = base[0] + 0.3 * np.random.default_rng(2).normal(size=base[0].shape)
    values = bootstrap.bootstrap({("cnn", "test"): base, ("ffnn", "test"): (near, base[1])})
    first, second = values["cnn", "test"][:, 0], values["ffnn", "test"][:, 0]
    assert (first - second).std() < 0.8 * np.hypot(first.std(), second.std())


def test_models_that_saw_other_images_are_refused():
    logits, labels = made(1.0)
    with pytest.raises(ValueError, match="not given the same test images"):
        bootstrap.bootstrap({("cnn", "test"): (logits, labels), ("ffnn", "test"): (logits, labels[::-1])})


def test_intervals_hold_the_values_of_the_metrics_table():
    predictions = {**BOTH, ("cnn", "train"): made(2.0, 300), ("ffnn", "train"): made(1.0, 300)}
    table = s.intervals(predictions, resamples=300)
    assert list(table) == s.INTERVAL_COLUMNS
    own = table[table["minus"] == ""]
    expected = metrics_table(predictions)
    np.testing.assert_array_equal(own["value"].to_numpy().reshape(-1, 5), expected[MEASURES].to_numpy())
    assert own.groupby("split")["images"].first().to_dict() == {"test": 200, "train": 300}
    assert (table["low"] < table["high"]).all()
    assert ((own["low"] <= own["value"]) & (own["value"] <= own["high"])).all()
    differences = table[table["minus"] == "ffnn"]
    assert differences["split"].unique().tolist() == ["test", "train"]
    accuracy = expected.set_index(["model", "split"])["accuracy"]
    lead = accuracy["cnn", "test"] - accuracy["ffnn", "test"]
    assert differences["value"].iloc[0] == pytest.approx(lead)


def test_a_single_class_and_no_images_give_no_warnings():
    logits, _ = made(1.0)
    table = s.intervals({("cnn", "test"): (logits, np.zeros(200, int))}, resamples=50)
    assert table["value"].notna().all()
    assert table.loc[table["low"].isna(), "measure"].tolist() == ["precision"], "what is taken for the class is of it"
    none = s.intervals({("cnn", "test"): (np.zeros((0, 3)), np.zeros(0, int))}, resamples=50)
    assert none[["value", "low", "high"]].isna().all(axis=None)
    assert s.answer(none)["accuracy"].tolist() == ["undefined"]
    s.draw_intervals(none).draw_without_rendering()


def test_the_reports_numbers_and_their_differences_stand_beside_ours():
    table = s.measured(BOTH, CIFAR10_CLASSES, of_cifar10=True).set_index(["minus", "model", "measure"])["report"]
    report = REPORT_TABLE_2.set_index(["model", "split"])
    assert table["", "cnn", "f1"] == report.loc[("cnn", "test"), "f1"]
    assert table["ffnn", "cnn", "accuracy"] == pytest.approx(0.710 - 0.520)
    other = s.measured({("cnn", "validation"): made(1.0)}, CIFAR10_CLASSES, of_cifar10=True)
    assert other["report"].isna().all()


def test_other_pixels_with_cifar_10s_class_names_are_told_from_cifar_10_everywhere():
    same, other = (s.measured(BOTH, CIFAR10_CLASSES, of_cifar10=is_it) for is_it in (True, False))
    texts = [*(exhibit.heading for exhibit in s.show(other)), s.caption(other), s.note(other)]
    assert (
        texts[0]
        == "Accuracy, precision, recall, F1 and balanced accuracy beside the report's on CIFAR-10 itself (Table 2)"
    )
    assert re.search(r"with Wik's \(2023\) 0.710 \(on CIFAR-10 itself\) \w+ this interval, FFNN", texts[2])
    assert "not necessarily its pixels" in texts[3]
    assert s.answer(other)["model"].tolist()[1] == "CNN (Wik, CIFAR-10 itself)"
    assert [text.get_text() for text in s.draw_intervals(other).legends[0].get_texts()][-1].endswith("CIFAR-10 itself")
    of_the_same = [s.show(same)[0].heading, s.caption(same), s.note(same), *s.answer(same)["model"]]
    assert not any("CIFAR-10" in text for text in of_the_same)
    assert "by test accuracy, which favours those numbers" in s.note(same)


def test_other_classes_have_no_numbers_of_the_report():
    table = s.measured(BOTH, ["a", "b", "c"], of_cifar10=False)
    assert "report" not in table
    assert s.note(table).startswith("Wik's (2023) numbers are of CIFAR-10, and are shown only for its classes. ")


def test_the_answer_is_read_model_by_model_with_the_report_below():
    predictions = {**BOTH, ("cnn", "train"): made(2.0), ("ffnn", "train"): made(1.0)}
    table = s.answer(s.measured(predictions, CIFAR10_CLASSES, of_cifar10=True))
    assert list(table) == ["images", "model", "accuracy", "precision", "recall", "F1", "balanced accuracy"]
    assert table["images"].tolist() == ["test"] * 7 + ["train"] * 7
    baseline = "majority class"
    models = ["CNN", "CNN (Wik)", "FFNN", "FFNN (Wik)", "CNN − FFNN", "CNN − FFNN (Wik)", baseline]
    assert table["model"].tolist() == models * 2
    reported = table[table["model"].str.contains("Wik", regex=False)]
    assert reported["accuracy"].tolist() == ["0.710", "0.520", "+0.190", "0.832", "0.589", "+0.243"]
    assert set(reported["balanced accuracy"]) == {""}
    _, labels = made(2.0)
    assert set(table[table["model"] == baseline]["accuracy"]) == {f"{np.bincount(labels).max() / len(labels):.3f}"}
    assert len(s.answer(s.intervals(predictions, resamples=50))) == 6


def test_the_baseline_is_the_class_that_is_most_frequent_in_training():
    logits, labels = np.zeros((4, 2)), {"train": np.array([0, 0, 0, 1]), "test": np.array([0, 1, 1, 1])}
    table = s.measured({("cnn", split): (logits, labels[split]) for split in labels}, ["a", "b"], of_cifar10=False)
    assert table.groupby("split")["largest_class"].first().to_dict() == {"train": 0.75, "test": 0.25}


@pytest.mark.parametrize(
    ("numbers", "signed", "expected"),
    [
        ([0.7014, 0.692, 0.7096], False, "0.701 (0.692–0.710)"),
        ([0.5], False, "0.500"),
        ([0.2, 0.19, 0.21], True, "+0.200 (0.190–0.210)"),
        ([-0.01, -0.02, 0.004], True, "−0.010 (−0.020 to 0.004)"),
        ([np.nan, np.nan, np.nan], False, "undefined"),
        ([1.0, np.nan, np.nan], False, "1.000"),
    ],
)
def test_numbers_are_readable(numbers: list[float], signed: bool, expected: str):
    assert s.readable(numbers, signed=signed) == expected


def test_the_caption_says_where_the_reports_numbers_lie_and_whether_the_difference_is_one():
    row = {"split": "test", "images": 10, "measure": "accuracy", "value": 0.7, "low": 0.69, "high": 0.71}
    difference = {"model": "cnn", "minus": "ffnn", "value": 0.01, "low": -0.01, "high": 0.03, "report": 0.19}
    table = pd.DataFrame(
        [
            {**row, "model": "cnn", "minus": "", "report": 0.71},
            {**row, "model": "ffnn", "minus": "", "report": 0.52},
            {**row, **difference, "discordant": 5.0, "p_value": 0.375},
        ]
    ).assign(same_images=True)
    text = s.caption(table)
    assert text == (
        "Test accuracy: CNN 0.700 (0.690–0.710) with Wik's (2023) 0.710 inside this interval, FFNN 0.700 (0.690–0.710) "
        "with Wik's (2023) 0.520 below this interval and CNN − FFNN +0.010 (−0.010 to 0.030), where only one of them "
        "is right on 5 of 10 images and McNemar's test says that no difference is shown (p = 0.375)."
    )
    assert "On 10 test images; in brackets 95% intervals." in s.note(table)
    assert "percentiles of 2,000 bootstrap resamples" in s.note(table)
    assert s.intervals_caption(table).endswith(
        "spans 2.0 points for the CNN on the test images and 2.0 points for the FFNN on the test images."
    )
    assert "Wik" not in s.caption(table.drop(columns="report"))


def disagreeing(only: int, also: int, images: int) -> dict[tuple[str, str], Made]:
    """Two models of which each alone is right on so many of the images; on the rest both are."""
    labels, places = np.zeros(images, int), np.arange(images)
    first, second = (places >= images - also), (places < only)
    return {("cnn", "test"): (np.eye(2)[first * 1], labels), ("ffnn", "test"): (np.eye(2)[second * 1], labels)}


@pytest.mark.parametrize(
    ("only", "also", "images", "expected"),
    [
        (5, 0, 360, "says that no difference is shown (p = 0.062)."),
        (6, 0, 360, "says that the models differ (p = 0.031)."),
        (300, 100, 1000, "says that the models differ (p < 0.001)."),
        (5, 0, 20, "says that no difference is shown (p = 0.062) although the interval leaves zero out."),
        (0, 0, 360, "says that no difference is shown (p = 1.000)."),
    ],
)
def test_mcnemars_test_alone_decides_and_an_interval_that_says_otherwise_is_named(
    only: int, also: int, images: int, expected: str
):
    table = s.intervals(disagreeing(only, also, images), resamples=50)
    assert s.caption(table).endswith(f"on {only + also} of {images:,} images and McNemar's test {expected}")


def test_the_figure_has_a_panel_for_each_split_and_each_difference():
    predictions = {**BOTH, ("cnn", "train"): made(2.0, 300), ("ffnn", "train"): made(1.0, 300)}
    figure = s.draw_intervals(s.measured(predictions, CIFAR10_CLASSES, of_cifar10=True))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "Test, 200 images",
        "Train, 300 images",
        "Test, 200 images: CNN − FFNN",
        "Train, 300 images: CNN − FFNN",
    ]
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == [
        "accuracy",
        "precision",
        "recall",
        "F1",
        "balanced accuracy",
    ]
    accuracy = metrics_table(predictions)["accuracy"].iloc[0]
    assert any(line.get_xdata()[0] == accuracy for line in first.lines if len(line.get_xdata()) == len(MEASURES))
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "Wik (2023)"
    alone = s.draw_intervals(s.intervals({("cnn", "test"): made(1.0)}, resamples=50))
    assert len(alone.axes) == 1


def test_with_five_digits_of_images_no_title_is_cut_off_on_a_narrow_screen():
    trained = {(model, "train"): predictions for (model, _), predictions in BOTH.items()}
    table = s.intervals({**BOTH, **trained}, resamples=50).assign(images=50_000)
    narrow = narrow_version(s.draw_intervals(table))
    assert narrow is not None
    assert problems(narrow) == []
