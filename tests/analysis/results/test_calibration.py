import numpy as np
import pytest

from analysis.results import calibration as c


def sure(confidences: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Two classes; every image is taken for class 0, with these probabilities."""
    probabilities = np.array([[value, 1 - value] for value in confidences])
    return np.log(probabilities), np.where(right, 0, 1)


HAND = sure([0.62, 0.68, 0.88, 0.88, 0.88, 0.88], [True, False, True, True, True, False])


def test_the_error_agrees_with_a_case_computed_by_hand():
    """Bin (0.6, 0.7]: confidence 0.65, accuracy 0.5; bin (0.8, 0.9]: 0.88 and 0.75: (2 · 0.15 + 4 · 0.13) / 6."""
    table = c.reliability(*HAND, bins=10)
    filled = table[table["images"] > 0]
    assert filled["low"].tolist() == pytest.approx([0.6, 0.8])
    assert filled["confidence"].tolist() == pytest.approx([0.65, 0.88])
    assert filled["accuracy"].tolist() == [0.5, 0.75]
    assert c.expected_calibration_error(table) == pytest.approx(0.82 / 6)


def test_the_error_agrees_with_the_sum_over_images():
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(500, 4)), rng.integers(0, 4, 500)
    powers = np.exp(logits)
    confidence = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    right = logits.argmax(axis=1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert c.expected_calibration_error(c.reliability(logits, labels)) == pytest.approx(expected)


def test_every_image_is_in_one_bin_and_empty_bins_are_undefined():
    table = c.reliability(*HAND)
    assert len(table) == c.BINS == 15
    assert table["images"].sum() == 6
    assert table.loc[table["images"] == 0, ["confidence", "accuracy", "accuracy_low"]].isna().all(axis=None)


def test_certainty_falls_into_the_last_bin_and_bounds_hold_the_accuracy():
    table = c.reliability(np.array([[1e4, 0.0], [0.0, 0.0]]), np.array([0, 1]), bins=4)
    assert table["images"].tolist() == [0, 1, 0, 1]
    assert table["accuracy"].tolist()[1::2] == [0, 1]
    filled = table[table["images"] > 0]
    assert (filled["accuracy_low"] <= filled["accuracy"]).all()
    assert (filled["accuracy"] <= filled["accuracy_high"]).all()


def test_without_images_the_error_is_undefined():
    assert np.isnan(c.expected_calibration_error(c.reliability(np.zeros((0, 3)), np.zeros(0, int))))


def test_the_caption_says_whether_a_model_is_too_sure():
    over = c.reliability(*HAND)
    under = c.reliability(*sure([0.6] * 8, [True] * 8))
    even = c.reliability(*sure([0.75] * 4, [True, True, True, False]))
    assert c.caption({"cnn": over}) == (
        "Expected calibration error over 15 bins of equal width: CNN 0.263 (mean confidence 0.803, accuracy 0.667: "
        f"{c.UNCLEAR})."
    )
    text = c.caption({"cnn": under, "ffnn": even})
    assert f"accuracy 1.000: under-confident); FFNN 0.000 (mean confidence 0.750, accuracy 0.750: {c.UNCLEAR})." in text
    text = c.caption({"cnn": c.reliability(*sure([0.9] * 40, [True, False] * 20))})
    assert text.endswith("accuracy 0.500: over-confident).")
    for right in (15, 18):
        tilted = c.reliability(*sure([0.8] * 20, [True] * right + [False] * (20 - right)))
        assert c.UNCLEAR in c.caption({"cnn": tilted}), "too few images to say so"


def test_bars_are_the_accuracies_and_lines_the_confidences():
    table = c.reliability(*HAND, bins=10)
    figure = c.draw_reliability({"cnn": table, "ffnn": table})
    top, _, below, _ = figure.axes
    assert [bar.get_height() for bar in top.patches] == [0.5, 0.75]
    assert [bar.get_x() for bar in top.patches] == pytest.approx([0.6, 0.8])
    assert sum(bar.get_height() for bar in below.patches) == pytest.approx(100)
    assert top.get_title(loc="left") == "CNN: expected calibration error 0.137, 10 bins"
    assert below.get_xlabel().startswith("confidence")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "mean confidence",
        "accuracy",
        "its 95% interval",
    ]
    figure.draw_without_rendering()
