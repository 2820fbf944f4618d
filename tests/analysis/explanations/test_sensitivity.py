import numpy as np
import pandas as pd
import pytest

from analysis.explanations.sensitivity import UNITS, caption, points, show, with_intervals
from tests.support.legibility import problems_on_screens

STRENGTHS = {"moved": (0, 1, 4, 8), "brightness": (0.5, 1, 2), "contrast": (0.5, 1), "noise": (0, 0.1), "blur": (0, 1)}


def changes(model: str, unchanged: float, accuracy: float = 0.5) -> pd.DataFrame:
    rows = [
        (model, change, fill, strength, 500, accuracy if strength else 0.7, unchanged if strength else 1.0)
        for change, strengths in STRENGTHS.items()
        for fill in (("edge", "grey") if change == "moved" else ("",))
        for strength in strengths
    ]
    return pd.DataFrame(rows, columns=["model", "change", "fill", "strength", "images", "accuracy", "unchanged"])


def epochs(*models: str) -> pd.DataFrame:
    rows = [(model, epoch, "moved", 4.0, 500, 0.5, 0.6 + epoch / 100) for model in models for epoch in (1, 5, 30)]
    return pd.DataFrame(rows, columns=["model", "epoch", "change", "strength", "images", "accuracy", "unchanged"])


MAPS = pd.DataFrame(
    {
        "layer": ["pool1", "pool2", "relu1", "pool2"],
        "pixels": [4, 4, 4, 8],
        "cosine_in_place": [0.6, 0.5, 0.4, 0.3],
        "cosine_along": [1.0, 1.0, 1.0, np.nan],
        "difference_along": [0.0, 2e-7, 0.0, np.nan],
        "unchanged": [np.nan, 0.6, np.nan, 0.4],
        "unchanged_back": [np.nan, 0.8, np.nan, 0.7],
    }
)


@pytest.mark.parametrize(
    ("cnn", "ffnn", "verdict"),
    [
        (0.97, 0.5, "the CNN is nearly invariant to translation."),
        (0.8, 0.5, "the CNN is not invariant to translation, but bears it better."),
        (0.4, 0.6, "the CNN is not invariant to translation, and bears it worse."),
        (0.6, 0.61, "nor are its answers measurably steadier than those of the other."),
    ],
)
def test_the_verdict_follows_from_the_answers_that_stay(cnn: float, ffnn: float, verdict: str):
    text = caption(with_intervals(pd.concat([changes("cnn", cnn), changes("ffnn", ffnn)])))
    assert text.startswith(f"For images moved by 4 pixels the CNN keeps {cnn:.0%} of its answers")
    assert text.endswith(verdict)


def test_intervals_are_around_the_shares():
    table = with_intervals(changes("cnn", 0.8))
    assert (table["unchanged_low"] <= table["unchanged"]).all()
    assert (table["accuracy"] <= table["accuracy_high"]).all()
    assert table["accuracy_low"].iloc[1] == pytest.approx(0.456, abs=0.001)


def test_the_reason_is_in_the_measured_numbers():
    sentences = points(with_intervals(changes("cnn", 0.6)), epochs("cnn"), MAPS)
    assert "the moved map to within 2e-07 of its largest value, in all 3 combinations" in sentences[0]
    assert (
        "cosine of the second layer's maps with the unmoved ones is 0.50, and 60% of the answers stay" in sentences[1]
    )
    assert "moved back before that layer, 80%" in sentences[1]
    exact = points(with_intervals(changes("cnn", 0.6)), epochs("cnn"), MAPS.assign(difference_along=0.0))
    assert "is exactly the moved map" in exact[0]


def test_where_the_ffnn_is_ahead_is_said():
    table = with_intervals(pd.concat([changes("cnn", 0.6, 0.3), changes("ffnn", 0.6, 0.4)]))
    sentences = points(table, epochs("cnn", "ffnn"), MAPS)
    assert any(line.startswith("Gaussian blur") and "FFNN is the more accurate at 1." in line for line in sentences)


def test_a_lead_within_the_intervals_is_none():
    table = with_intervals(pd.concat([changes("cnn", 0.6, 0.30), changes("ffnn", 0.6, 0.33)]))
    assert not any("more accurate" in line for line in points(table, epochs("cnn", "ffnn"), MAPS))


def test_an_accuracy_that_no_change_lowers_is_not_said_to_fall():
    sentences = points(with_intervals(changes("cnn", 0.6, 0.7)), epochs("cnn"), MAPS)
    assert "Gaussian blur (σ, pixels): the CNN's accuracy is nowhere below 70.0%." in sentences
    assert "Gaussian blur (σ, pixels): the CNN falls to 50.0% at 1." in points(
        with_intervals(changes("cnn", 0.6)), epochs("cnn"), MAPS
    )


def test_nothing_is_left_to_the_border_where_every_answer_stays():
    shown = points(with_intervals(changes("cnn", 0.6)), epochs("cnn"), MAPS.assign(unchanged_back=1.0))
    assert shown[1].endswith("before that layer, 100%.")


@pytest.mark.slow
def test_the_figure_is_legible_for_two_models_and_for_one_without_maps():
    both = pd.concat([changes("cnn", 0.6), changes("ffnn", 0.5)])
    exhibit = show(both, epochs("cnn", "ffnn"), MAPS)
    assert set(exhibit.tables) == {"sensitivity_epochs", "sensitivity_maps"}
    assert [ax.get_title(loc="left") for ax in exhibit.figure.axes][4:] == [f"{name}: accuracy" for name, _ in
                                                                            UNITS.values()]  # fmt: skip
    assert problems_on_screens(exhibit.figure) == []
    alone = show(changes("ffnn", 0.5), epochs("ffnn"), pd.DataFrame())
    assert problems_on_screens(alone.figure) == []
    assert alone.text.endswith("it is not invariant to translation.")
