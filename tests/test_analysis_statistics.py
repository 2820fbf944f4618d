import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from analysis import statistics as s
from analysis.classification import MEASURES, REPORT_TABLE_2, metrics_table

Made = tuple[np.ndarray, np.ndarray]


def made(strength: float, images: int = 200, classes: int = 3, seed: int = 0) -> Made:
    labels = np.random.default_rng(9).integers(0, classes, images)
    noise = np.random.default_rng(seed).normal(size=(images, classes))
    return noise + strength * np.eye(classes)[labels], labels


def right(chosen: list[int], labels: list[int]) -> Made:
    return np.eye(2)[chosen], np.array(labels)


BOTH = {("cnn", "test"): made(1.5), ("ffnn", "test"): made(0.8, seed=1)}


def test_resampling_counts_has_the_distribution_of_resampling_images():
    """The oracle draws images with replacement and asks scikit-learn."""
    logits, labels = BOTH["cnn", "test"]
    rng, chosen, expected = np.random.default_rng(1), logits.argmax(axis=1), []
    for _ in range(400):
        drawn = rng.integers(0, len(labels), len(labels))
        pair = labels[drawn], chosen[drawn]
        weighted = metrics.precision_recall_fscore_support(*pair, average="weighted", zero_division=0)[:3]
        expected.append([metrics.accuracy_score(*pair), *weighted])
    ours = s.bootstrap(BOTH, resamples=4000)["cnn", "test"]
    np.testing.assert_allclose(ours.mean(axis=0), np.mean(expected, axis=0), atol=0.005)
    np.testing.assert_allclose(ours.std(axis=0), np.std(expected, axis=0), rtol=0.1)
    for tail in (0.025, 0.975):
        np.testing.assert_allclose(np.quantile(ours, tail, axis=0), np.quantile(expected, tail, axis=0), atol=0.012)


def test_the_same_seed_gives_the_same_intervals_and_another_gives_others():
    pd.testing.assert_frame_equal(s.intervals(BOTH, resamples=100), s.intervals(BOTH, resamples=100))
    other = s.intervals(BOTH, resamples=100, seed=1)
    assert not other["low"].equals(s.intervals(BOTH, resamples=100)["low"])


def test_drawing_in_small_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = s.bootstrap(BOTH, resamples=50)
    monkeypatch.setattr(s, "DRAWN_AT_ONCE", 100)
    for key, values in s.bootstrap(BOTH, resamples=50).items():
        np.testing.assert_array_equal(values, whole[key])


def test_models_are_resampled_together_so_that_equal_ones_never_differ():
    table = s.intervals({("cnn", "test"): made(1.0), ("ffnn", "test"): made(1.0)}, resamples=50)
    difference = table[table["minus"] == "ffnn"]
    assert (difference[["value", "low", "high"]] == 0).all(axis=None)


def test_the_paired_difference_is_surer_than_the_two_models():
    """They share the images that are hard for both: the variances of independent draws would add up."""
    base = made(1.0, 500)
    near = base[0] + 0.3 * np.random.default_rng(2).normal(size=base[0].shape)
    values = s.bootstrap({("cnn", "test"): base, ("ffnn", "test"): (near, base[1])})
    first, second = values["cnn", "test"][:, 0], values["ffnn", "test"][:, 0]
    assert (first - second).std() < 0.8 * np.hypot(first.std(), second.std())


def test_models_that_saw_other_images_are_refused():
    logits, labels = made(1.0)
    with pytest.raises(ValueError, match="not given the same test images"):
        s.bootstrap({("cnn", "test"): (logits, labels), ("ffnn", "test"): (logits, labels[::-1])})


def test_intervals_hold_the_values_of_the_metrics_table():
    predictions = {**BOTH, ("cnn", "train"): made(2.0, 300), ("ffnn", "train"): made(1.0, 300)}
    table = s.intervals(predictions, resamples=300)
    assert list(table) == s.INTERVAL_COLUMNS
    own = table[table["minus"] == ""]
    expected = metrics_table(predictions)
    np.testing.assert_array_equal(own["value"].to_numpy().reshape(-1, 4), expected[MEASURES].to_numpy())
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
    one = s.intervals({("cnn", "test"): (logits, np.zeros(200, int))}, resamples=50)
    assert one[["value", "low", "high"]].notna().all(axis=None)
    none = s.intervals({("cnn", "test"): (np.zeros((0, 3)), np.zeros(0, int))}, resamples=50)
    assert none[["value", "low", "high"]].isna().all(axis=None)
    assert s.answer(none)["accuracy"].tolist() == ["undefined"]
    s.draw_intervals(none).draw_without_rendering()


def test_the_reports_numbers_and_their_differences_stand_beside_ours():
    table = s.with_report(s.intervals(BOTH, resamples=20)).set_index(["minus", "model", "measure"])["report"]
    report = REPORT_TABLE_2.set_index(["model", "split"])
    assert table["", "cnn", "f1"] == report.loc[("cnn", "test"), "f1"]
    assert table["ffnn", "cnn", "accuracy"] == pytest.approx(0.710 - 0.520)
    other = s.with_report(s.intervals({("cnn", "validation"): made(1.0)}, resamples=20))
    assert other["report"].isna().all()


def test_the_answer_is_read_model_by_model_with_the_report_below():
    predictions = {**BOTH, ("cnn", "train"): made(2.0), ("ffnn", "train"): made(1.0)}
    table = s.answer(s.with_report(s.intervals(predictions, resamples=50)))
    assert list(table) == ["images", "model", "accuracy", "precision", "recall", "F1"]
    assert table["images"].tolist() == ["test"] * 6 + ["train"] * 6
    assert table["model"].tolist() == ["CNN", "CNN (Wik)", "FFNN", "FFNN (Wik)", "CNN − FFNN", "CNN − FFNN (Wik)"] * 2
    assert table["accuracy"].tolist()[1::2] == ["0.710", "0.520", "+0.190", "0.832", "0.589", "+0.243"]
    assert len(s.answer(s.intervals(predictions, resamples=50))) == 6


@pytest.mark.parametrize(
    ("numbers", "signed", "expected"),
    [
        ([0.7014, 0.692, 0.7096], False, "0.701 (0.692–0.710)"),
        ([0.5], False, "0.500"),
        ([0.2, 0.19, 0.21], True, "+0.200 (0.190–0.210)"),
        ([-0.01, -0.02, 0.004], True, "−0.010 (−0.020 to 0.004)"),
        ([np.nan, np.nan, np.nan], False, "undefined"),
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
            {**row, **difference},
        ]
    )
    text = s.caption(table)
    assert text == (
        "Test accuracy: CNN 0.700 (0.690–0.710) with Wik's (2023) 0.710 inside it, FFNN 0.700 (0.690–0.710) with Wik's "
        "(2023) 0.520 below it and CNN − FFNN +0.010 (−0.010 to 0.030), which includes zero."
    )
    assert "On 10 test images; in brackets 95% intervals: percentiles of 2,000 bootstrap resamples" in s.note(table)
    assert s.intervals_caption(table).endswith("2.0 for the CNN (test) and 2.0 for the FFNN (test).")
    assert "Wik" not in s.caption(table.drop(columns="report"))


def test_the_figure_has_a_panel_for_each_split_and_each_difference():
    predictions = {**BOTH, ("cnn", "train"): made(2.0, 300), ("ffnn", "train"): made(1.0, 300)}
    figure = s.draw_intervals(s.with_report(s.intervals(predictions, resamples=50)))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "Test, 200 images",
        "Train, 300 images",
        "Test, 200 images: CNN − FFNN",
        "Train, 300 images: CNN − FFNN",
    ]
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["accuracy", "precision", "recall", "F1"]
    accuracy = metrics_table(predictions)["accuracy"].iloc[0]
    assert any(line.get_xdata()[0] == accuracy for line in first.lines if len(line.get_xdata()) == 4)
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "Wik (2023)"
    alone = s.draw_intervals(s.intervals({("cnn", "test"): made(1.0)}, resamples=50))
    assert len(alone.axes) == 1


def test_wilsons_interval_agrees_with_its_formula_and_is_undefined_without_images():
    low, high = s.wilson([3, 0, 5], [10, 0, 5])
    z = stats.norm.ppf(0.975)
    middle, reach = (0.3 + z**2 / 20) / (1 + z**2 / 10), z * np.sqrt(0.3 * 0.7 / 10 + z**2 / 400) / (1 + z**2 / 10)
    assert (low[0], high[0]) == pytest.approx((middle - reach, middle + reach))
    assert np.isnan([low[1], high[1]]).all()
    assert high[2] == 1
    assert s.wilson([], []).shape == (2, 0)


def pair(only_first: int, only_second: int) -> dict[str, Made]:
    """Two models that are both right on 7 images and both wrong on 2, and disagree as often as asked."""
    labels = [0] * (9 + only_first + only_second)
    first = [0] * 7 + [1] * 2 + [0] * only_first + [1] * only_second
    second = [0] * 7 + [1] * 2 + [1] * only_first + [0] * only_second
    return {"cnn": right(first, labels), "ffnn": right(second, labels)}


def test_mcnemar_counts_every_image_once():
    row = s.mcnemar(pair(4, 1)).iloc[0]
    assert row[["both_right", "only_model_right", "only_other_right", "neither_right"]].tolist() == [7, 4, 1, 2]
    assert (row["model"], row["other"], row["images"]) == ("cnn", "ffnn", 14)


@pytest.mark.parametrize(("first", "second"), [(4, 1), (0, 6), (12, 12), (20, 4)])
def test_with_few_discordant_images_mcnemar_is_the_exact_binomial_test(first: int, second: int):
    row = s.mcnemar(pair(first, second)).iloc[0]
    assert row["variant"] == "exact binomial"
    below = stats.binom.cdf(min(first, second), first + second, 0.5)
    assert row["p_value"] == pytest.approx(min(1, 2 * below))
    assert np.isnan(row["statistic"])


@pytest.mark.parametrize(("first", "second"), [(20, 5), (300, 250), (13, 13)])
def test_with_many_mcnemar_is_chi_squared_with_continuity_correction(first: int, second: int):
    """As scipy's corrected test of goodness of fit to half and half."""
    row = s.mcnemar(pair(first, second)).iloc[0]
    half = (first + second) / 2
    corrected = [half + np.sign(count - half) * max(abs(count - half) - 0.5, 0) for count in (first, second)]
    expected = stats.chisquare(corrected)
    assert row["variant"] == "chi-squared, continuity-corrected"
    assert (row["statistic"], row["p_value"]) == pytest.approx((expected.statistic, expected.pvalue))


def test_models_that_never_disagree_do_not_differ():
    row = s.mcnemar(pair(0, 0)).iloc[0]
    assert (row["p_value"], row["variant"]) == (1, "exact binomial")


def test_mcnemars_table_names_the_models():
    [row] = s.mcnemar_readable(s.mcnemar(pair(4, 1))).to_dict("records")
    assert (row["test images"], row["only CNN right"], row["only FFNN right"], row["p"]) == (14, 4, 1, "= 0.375")


def test_the_caption_of_mcnemar_says_what_was_found():
    assert s.mcnemar_caption(s.mcnemar(pair(4, 1))) == (
        "Of 14 images CNN alone is right on 4 and FFNN alone on 1 (McNemar's test, exact binomial: p = 0.375): no "
        "difference is shown."
    )
    text = s.mcnemar_caption(s.mcnemar(pair(300, 100)))
    assert text.endswith("chi-squared, continuity-corrected: χ² = 99.0, p < 0.001): the models differ.")
