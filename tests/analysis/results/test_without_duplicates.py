import numpy as np

from analysis.results.proportions import wilson
from analysis.results.without_duplicates import accuracy, caption, readable, show

LABELS = np.array([0, 1, 1, 0])
LOGITS = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]])  # right, right, wrong, right
FIRST = np.array([True, False, False, False])


def test_the_accuracy_is_measured_with_and_without_doubtful_images():
    table = accuracy(FIRST, {"cnn": (LOGITS, LABELS)})
    assert table["without_duplicates"].tolist() == [False, True]
    assert table["images"].tolist() == [4, 3]
    assert table["accuracy"].tolist() == [3 / 4, 2 / 3]
    assert np.array_equal(table[["low", "high"]].to_numpy().T, wilson([3, 2], [4, 3]))
    assert caption(table) == (
        "Of 4 test images 1 are also training images or in two classes; without them the accuracy is 66.7% (CNN, 95% "
        "interval 20.8% to 93.9%) rather than 75.0%."
    )


def test_where_every_test_image_is_doubtful_no_accuracy_is_made_up():
    table = accuracy(np.ones(4, bool), {"cnn": (LOGITS, LABELS)})
    assert np.isnan(table["accuracy"].iloc[1])
    assert caption(table).endswith(": without them none is left to measure on.")
    assert readable(table)["accuracy"].tolist() == ["75.0%", "undefined"]
    assert readable(table)["95% interval"].iloc[1] == ""


def test_each_model_has_its_accuracies():
    exhibit = show(FIRST, {"cnn": (LOGITS, LABELS), "ffnn": (-LOGITS, LABELS)})
    assert exhibit.table is not None
    assert exhibit.table["model"].tolist() == ["cnn", "cnn", "ffnn", "ffnn"]
    assert "(FFNN, " in exhibit.text
