import numpy as np
import pandas as pd
import pytest

from analysis.explanations.faithfulness import CONTROLS, caption, short_verdicts, show, summary, verdict
from tests.support.legibility import problems_on_screens

RNG = np.random.default_rng(0)
AGREEMENT = {"good": 0.5, "weak": 0.1, "stuck": 0.4, **dict.fromkeys(CONTROLS, 0.0), "edges": 0.15}
SAME = {"good": 0.0, "weak": 0.05, "stuck": 0.8, **dict.fromkeys(CONTROLS, 1.0), "random": 0.0, "smooth_random": 0.0}
TITLES = {"good": "DeepSHAP", "weak": "saliency", "stuck": "guided backprop"}


def tables(agreement: dict[str, float] = AGREEMENT, images: int = 30) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores = [
        (image, infill, method, value + RNG.normal(scale=0.05), value + RNG.normal(scale=0.05), value + shift)
        for image in range(images)
        for infill, shift in (("grey", 0.1), ("blur", 0.0), ("image", -0.1))
        for method, value in agreement.items()
    ]
    checks = [
        (image, method, check, value + RNG.normal(scale=0.01))
        for image in range(min(4, images))
        for check in ("fc", "conv2", "conv1", "other_classes")
        for method, value in SAME.items()
    ]
    return (
        pd.DataFrame(scores, columns=["image", "infill", "method", "squares", "sets", "insertion_deletion"]),
        pd.DataFrame(checks, columns=["image", "method", "check", "rank_correlation"]),
    )


def test_a_method_is_believed_if_it_beats_the_best_control_and_its_map_changes():
    table = summary(*tables(), TITLES).set_index("method")
    assert table["believe"].to_dict() == {name: name == "good" for name in table.index}
    assert table.index[0] == "good"
    assert table.loc["good", "difference"] == pytest.approx(0.35, abs=0.03)
    assert table.loc["edges", ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]
    assert table.loc["good", "insertion_deletion_grey"] == pytest.approx(0.6)
    assert (table["agreement_low"] <= table["agreement"]).all()
    assert table.loc["stuck", "same"] == "random_conv1, other_classes"


def test_each_sentence_says_whether_to_believe_and_why():
    table = summary(*tables(), TITLES)
    good, weak, stuck = (verdict(table[table["method"] == name].iloc[0], table) for name in ("good", "weak", "stuck"))
    assert good.startswith("DeepSHAP: believe it; agreement 0.5")
    assert "above Sobel edges" in good
    assert weak.startswith(
        "Saliency: do not believe it; it does no better than a map that knows nothing of the network"
    )
    assert "below Sobel edges" in weak
    assert stuck.startswith("Guided backprop: do not believe it; its map stays the same with random weights (rank")
    assert "for two other classes (rank correlation 0.8" in stuck


def test_the_short_verdicts_are_those_of_the_table_the_best_first():
    table = summary(*tables(), TITLES)
    short = short_verdicts(table)
    methods = table[~table["control"]].set_index("method")
    assert list(short) == list(methods.index)
    for method, row in methods.iterrows():
        assert short[method].startswith("believe it" if row["believe"] else "do not believe it")
        assert f"{row['agreement']:.2f}".replace("-", "−") in short[method]


def test_the_caption_names_the_best_method_and_those_not_to_believe():
    text = caption(summary(*tables(), TITLES))
    assert text.startswith("1 of 3 methods can be believed, first DeepSHAP: its maps agree")
    assert text.endswith("; not guided backprop and saliency.")
    nothing = caption(summary(*tables(dict.fromkeys(AGREEMENT, 0.0)), TITLES))
    assert nothing.startswith("None of 3 methods can be believed: the best control, ")


def test_the_figure_is_legible_and_its_rows_are_the_table_also_for_one_image():
    exhibit = show(*tables(), TITLES)
    assert exhibit.figure is not None
    assert exhibit.table is not None
    assert problems_on_screens(exhibit.figure) == []
    assert len(exhibit.points) == 3
    labels = [label.get_text() for label in exhibit.figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["✓ DeepSHAP", "✗ guided backprop"]
    assert exhibit.note.startswith("30 test images, 4 of them with random weights.")
    alone = show(*tables(images=1), TITLES)
    assert alone.table is not None
    assert (alone.table["agreement_low"] == alone.table["agreement"]).all()
