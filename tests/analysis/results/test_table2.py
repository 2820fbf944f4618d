import re

import numpy as np
import pandas as pd
import pytest

from analysis.drawing.screens import narrow_version
from analysis.results import table2
from analysis.results.classification import MEASURES, metrics_table
from analysis.results.intervals import intervals, measured
from tests.analysis.results.test_intervals import BOTH, CIFAR10_CLASSES, Made, made
from tests.support.legibility import problems


def test_where_all_images_are_right_the_share_keeps_a_width_and_the_bootstrap_has_none():
    labels = np.arange(360) % 3
    right = (np.eye(3)[labels], labels)
    table = intervals({("cnn", "train"): right, ("ffnn", "train"): right}, resamples=50)
    assert table2.answer(table).iloc[0].tolist() == [
        "train",
        "CNN",
        "1.000 (0.989–1.000)",
        "1.000",
        *["1.000 (0.989–1.000)", "1.000", "1.000"],
    ]
    assert table2.answer(table)["precision"].tolist() == ["1.000", "1.000", "+0.000"]
    assert table2.figure_note(table).startswith("A point without a bar: ")
    assert table2.figure_note(intervals(BOTH, resamples=50)) == ""
    panels = table2.draw_intervals(table).axes
    assert panels[0].get_xlim()[1] == 1
    for panel in panels:
        bars = [line for lines in panel.collections for line in lines.get_segments()]
        assert sum(len(bar) > 0 and np.ptp(bar[:, 0]) > 0.005 for bar in bars) >= 2


def test_a_single_class_and_no_images_give_no_warnings():
    logits, _ = made(1.0)
    table = intervals({("cnn", "test"): (logits, np.zeros(200, int))}, resamples=50)
    assert table["value"].notna().all()
    assert table.loc[table["low"].isna(), "measure"].tolist() == ["precision"], "what is taken for the class is of it"
    none = intervals({("cnn", "test"): (np.zeros((0, 3)), np.zeros(0, int))}, resamples=50)
    assert none[["value", "low", "high"]].isna().all(axis=None)
    assert table2.answer(none)["accuracy"].tolist() == ["undefined"]
    table2.draw_intervals(none).draw_without_rendering()


def test_other_pixels_with_cifar_10s_class_names_are_told_from_cifar_10_everywhere():
    same, other = (measured(BOTH, CIFAR10_CLASSES, of_cifar10=is_it) for is_it in (True, False))
    texts = [*(exhibit.heading for exhibit in table2.show(other)), table2.caption(other), table2.note(other)]
    assert (
        texts[0]
        == "Accuracy, precision, recall, F1 and balanced accuracy beside the report's on CIFAR-10 itself (Table 2)"
    )
    assert re.search(r"with Wik's \(2023\) 0.710 \(on CIFAR-10 itself\) \w+ this interval, FFNN", texts[2])
    assert "not necessarily its pixels" in texts[3]
    assert table2.answer(other)["model"].tolist()[1] == "CNN (Wik, CIFAR-10 itself)"
    assert [text.get_text() for text in table2.draw_intervals(other).legends[0].get_texts()][-1].endswith(
        "CIFAR-10 itself"
    )
    of_the_same = [table2.show(same)[0].heading, table2.caption(same), table2.note(same), *table2.answer(same)["model"]]
    assert not any("CIFAR-10" in text for text in of_the_same)
    assert "by test accuracy, which favours those numbers" in table2.note(same)


def test_other_classes_have_no_numbers_of_the_report():
    table = measured(BOTH, ["a", "b", "c"], of_cifar10=False)
    assert "report" not in table
    assert table2.note(table).startswith("Wik's (2023) numbers are of CIFAR-10, and are shown only for its classes. ")


def test_the_answer_is_read_model_by_model_with_the_report_below():
    predictions = {**BOTH, ("cnn", "train"): made(2.0), ("ffnn", "train"): made(1.0)}
    table = table2.answer(measured(predictions, CIFAR10_CLASSES, of_cifar10=True))
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
    assert len(table2.answer(intervals(predictions, resamples=50))) == 6


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
    text = table2.caption(table)
    assert text == (
        "Test accuracy: CNN 0.700 (0.690–0.710) with Wik's (2023) 0.710 inside this interval, FFNN 0.700 (0.690–0.710) "
        "with Wik's (2023) 0.520 below this interval and CNN − FFNN +0.010 (−0.010 to 0.030), where only one of them "
        "is right on 5 of 10 images and McNemar's test says that no difference is shown (p = 0.375)."
    )
    assert "On 10 test images; in brackets 95% intervals." in table2.note(table)
    assert "percentiles of 2,000 bootstrap resamples" in table2.note(table)
    assert table2.intervals_caption(table).endswith(
        "spans 2.0 points for the CNN on the test images and 2.0 points for the FFNN on the test images."
    )
    assert "Wik" not in table2.caption(table.drop(columns="report"))


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
    table = intervals(disagreeing(only, also, images), resamples=50)
    assert table2.caption(table).endswith(f"on {only + also} of {images:,} images and McNemar's test {expected}")


def test_the_figure_has_a_panel_for_each_split_and_each_difference():
    predictions = {**BOTH, ("cnn", "train"): made(2.0, 300), ("ffnn", "train"): made(1.0, 300)}
    figure = table2.draw_intervals(measured(predictions, CIFAR10_CLASSES, of_cifar10=True))
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
    alone = table2.draw_intervals(intervals({("cnn", "test"): made(1.0)}, resamples=50))
    assert len(alone.axes) == 1


def test_with_five_digits_of_images_no_title_is_cut_off_on_a_narrow_screen():
    trained = {(model, "train"): predictions for (model, _), predictions in BOTH.items()}
    table = intervals({**BOTH, **trained}, resamples=50).assign(images=50_000)
    narrow = narrow_version(table2.draw_intervals(table))
    assert narrow is not None
    assert problems(narrow) == []
