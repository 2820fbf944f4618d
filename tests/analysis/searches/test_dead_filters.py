from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.legend import Legend

from analysis.searches import dead_filters, findings
from tests.support.legibility import problems_on_screens

STEPS = (0, 10, 20, 40, 225, 450)
RATES = ((1e-3, 0), (2.683e-3, 0), (2.683e-3, 100))
DECAYS = (("adam", 5e-4), ("adamw", 5e-4), ("adam", 0.0))


def conditions() -> list[dict[str, object]]:
    crossed = [
        ("optimiser", optimiser, rate, warmup, decay, 32, 64) for rate, warmup in RATES for optimiser, decay in DECAYS
    ]
    guess = [("filters", "adam", 2.683e-3, 0, 5.18e-4, *filters) for filters in ((6, 16), (16, 32), (32, 64))]
    rows = [dict(zip(dead_filters.SETTINGS[1:], row, strict=True)) for row in crossed + guess]
    return [{"condition": f"condition {number}", **row} for number, row in enumerate(rows)]


def is_high(row: dict) -> bool:
    return row["learning_rate"] > 2e-3 and not row["warmup_steps"]


def expected_story(row: dict, seed: int) -> tuple[int, int, float]:
    """Half fall silent at the high rate, whatever their number; L2 in Adam collapses a third of these; no cost."""
    silent = row["filters_conv2"] // 2 + (-1, 0, 1)[seed % 3] if is_high(row) else 0
    l2 = row["optimiser"] == "adam" and row["weight_decay"] > 0
    return silent, silent // 3 if l2 else 0, 0.6 + 0.001 * seed + (0.0005 * (-1) ** seed if is_high(row) else 0)


def opposite_story(row: dict, seed: int) -> tuple[int, int, float]:
    """What nobody expects, in everything: the low rate, warm-up, AdamW and few filters do the harm, and cost."""
    if row["group"] == "filters":
        return 12 + seed % 2, 0, 0.5
    base = is_high(row) and row["optimiser"] == "adam"
    silent = 50 if row["learning_rate"] < 2e-3 else 40 if row["warmup_steps"] else 10
    collapsed = 9 if row["optimiser"] == "adamw" else 0
    return silent + seed, collapsed, 0.5 + 0.001 * seed + (0.1 if base else 0)


def tables(
    story: Callable[[dict, int], tuple[int, int, float]], seeds: int = 3, steps: tuple[int, ...] = STEPS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    trainings, counts = [], []
    for row in conditions():
        for seed in range(seeds):
            silent, collapsed, accuracy = story(row, seed)
            trainings.append(row | {"seed": seed, "epochs": 2, "diverged": False, "val_accuracy": accuracy})
            for step in steps:
                counted = dict.fromkeys(dead_filters.COUNTS, 0)
                counted["silent_conv2"] = silent * min(step, 40) // 40
                if step == steps[-1]:
                    counted |= {"silent_conv2": silent, "collapsed_conv2": collapsed}
                    counted["silent_collapsed_conv2"] = min(silent, collapsed)
                counts.append({"condition": row["condition"], "seed": seed, "step": step} | counted)
    return dead_filters.ends(trainings := pd.DataFrame(trainings), pd.DataFrame(counts)), pd.DataFrame(counts)


def test_the_ends_are_the_counts_of_the_last_step():
    table, counts = tables(expected_story)
    assert len(table) == 36
    last = counts[counts["step"] == 450].set_index(["condition", "seed"])
    for row in table.to_dict("records"):
        for name in dead_filters.COUNTS:
            assert row[name] == last.loc[(row["condition"], row["seed"]), name]
        assert row["silent_share"] == row["silent_conv2"] / row["filters_conv2"]


@pytest.mark.parametrize(("spread", "is_alike"), [(0, False), (20, True)])
def test_a_condition_is_most_silent_only_where_the_seeds_tell_it_from_the_others(spread: int, is_alike: bool):
    """Condition 3 loses two filters more than condition 4 in the mean: with every seed, or with one of three."""

    def story(row: dict, seed: int) -> tuple[int, int, float]:
        lead = {"condition 3": 42, "condition 4": 40 + spread * (seed - 1)}.get(row["condition"], 0)
        return lead, 0, 0.5

    text = dead_filters.caption(tables(story)[0])
    assert text.startswith("The silent share of the second layer is largest with “condition 3” (66%")
    assert ("; not shown to differ from “condition 4”)" in text) is is_alike
    assert " and smallest with “condition 0” (0%; not shown to differ from “condition 1”, “condition 2”, " in text
    assert dead_filters.caption(tables(story, seeds=2)[0]).endswith(" (0%); fewer than 3 seeds are no test.")


def test_the_summary_has_mean_and_sample_deviation_over_the_seeds():
    table, _ = tables(expected_story)
    summary = dead_filters.summary(table)
    assert len(summary) == 12
    assert (summary["seeds"] == 3).all()
    for row in summary.to_dict("records"):
        values = table.loc[table["condition"] == row["condition"], "silent_conv2"]
        assert row["silent_conv2_mean"] == pytest.approx(np.mean(values))
        assert row["silent_conv2_sd"] == pytest.approx(np.std(values, ddof=1))
    assert dead_filters.readable(summary)["silent, second layer"].tolist()[3] == "32.0 ± 1.0"


def test_a_contrast_compares_means_over_the_conditions_of_each_side_seed_by_seed():
    table, _ = tables(expected_story)
    contrasts = findings.contrasts(table).set_index("comparison")
    rate = contrasts.loc["high rate against low"]
    assert (rate["these"], rate["those"], rate["difference"], rate["seeds"]) == (32, 0, 32, 3)
    assert rate["low"] < 32 < rate["high"]
    share = contrasts.loc["fewest filters against most"]
    assert share["difference"] == pytest.approx((7 / 16 + 8 / 16 + 9 / 16) / 3 - 0.5)
    assert contrasts.loc["AdamW against the high rate", "difference"] == pytest.approx(0)


def test_the_contrasts_are_read_in_words_and_units_and_counted_against_chance():
    table = findings.contrasts(tables(expected_story)[0])
    shown = findings.readable(table)
    assert not shown.map(str).apply(lambda column: column.str.contains("_")).any(axis=None)
    assert shown.iloc[0].tolist() == [
        "high rate against low",
        "silent filters, second layer",
        "32.0",
        "0.0",
        "+32.0 [+29.5, +34.5]",
        3,
    ]
    apart = ((table["low"] > 0) | (table["high"] < 0)).sum()
    assert findings.contrasts_caption(table).startswith(f"{apart} of {len(table)} intervals leave out zero, where by")


def said(table: pd.DataFrame, counts: pd.DataFrame) -> str:
    """The caption and what stands below it, line by line."""
    return "\n".join([findings.caption(table), *findings.points(table, counts), findings.note(table)])


def test_the_caption_answers_each_question_as_the_numbers_do():
    text = said(*tables(expected_story))
    for words in (
        "At learning rate 0.002683, 32.0 of the 64 second-layer filters are silent after 2 epochs, and at 0.001, 0.0: ",
        "the high rate silences filters, and of the three only L2 inside Adam collapses filters.",
        "The high rate silences +32.0 [+29.5, +34.5] more than the low one; 32.0 are silent after 40 steps.",
        "warm-up prevents most of the silence.",
        "(10.3 of its 32.0 silent ones)",
        "of the three only L2 inside Adam collapses filters.",
        "none is shown to cost accuracy.",
        "50%, 50% and 50% are silent, which leaves 8.0, 16.0 and 32.0 active",
        "too many filters is not supported as the cause.",
        "Means over 3 seeds",
    ):
        assert words in text


def test_the_caption_follows_numbers_that_say_the_opposite():
    text = said(*tables(opposite_story))
    for words in (
        "the high rate silences fewer filters, and",
        "warm-up makes it worse.",
        "L2 inside Adam does not collapse more than both others.",
        "the low rate, warm-up, AdamW and warm-up and AdamW cost accuracy.",
        "too many filters is contradicted as the cause",
    ):
        assert words in text


def test_too_few_seeds_are_said_once_to_be_no_test():
    text = said(*tables(expected_story, seeds=2))
    assert text.count("fewer than 3 seeds are no test") == 1
    assert "second-layer filters are silent after 2 epochs, and at 0.001, 0.0: fewer than 3 seeds are no test." in text
    assert "in points: −2)." in text
    assert "nan" not in text
    assert "[" not in text


def test_diverged_trainings_are_left_out_and_counted():
    table, counts = tables(expected_story, seeds=4)
    lost = (table["condition"] == "condition 3") & (table["seed"] == 3)
    trainings = table.drop(columns=[*dead_filters.COUNTS, "silent_share"])
    trainings.loc[lost, ["diverged", "val_accuracy"]] = [True, np.nan]
    table = dead_filters.ends(trainings, counts)
    assert table.loc[lost, dead_filters.COUNTS].isna().all(axis=None)
    assert dead_filters.summary(table).loc[3, ["seeds", "diverged"]].tolist() == [4, 1]
    text = said(table, counts)
    assert "1 of 48 trainings diverged and are left out." in text
    assert "nan" not in text


def test_a_side_that_diverged_whole_is_named_and_drawn_without_it():
    table, counts = tables(expected_story)
    trainings = table.drop(columns=[*dead_filters.COUNTS, "silent_share"])
    trainings.loc[trainings["condition"] == "condition 3", ["diverged", "val_accuracy"]] = [True, np.nan]
    table = dead_filters.ends(trainings, counts)
    text = said(table, counts)
    assert text.startswith("No answer: every training on one side diverged in “L2 in Adam against AdamW”")
    assert dead_filters.readable(dead_filters.summary(table)).loc[3, "validation accuracy, %"] == "–"
    figure = dead_filters.draw(table, counts)
    figure.draw_without_rendering()
    assert "diverged" in [text.get_text() for text in accuracy_axes(figure).texts]


def accuracy_axes(figure):
    return next(ax for ax in figure.axes if "accuracy" in ax.get_xlabel())


def test_the_panels_show_the_means_over_the_seeds():
    table, counts = tables(expected_story)
    figure = dead_filters.draw(table, counts)
    figure.draw_without_rendering()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:3] == [
        "Learning rate 0.001\nno warm-up steps",
        "Learning rate 0.002683\nno warm-up steps",
        "Learning rate 0.002683\n100 warm-up steps",
    ]
    low, high, warm, filters, accuracy = figure.axes
    for ax, last in ((low, [0, 0, 0, 0, 0, 0]), (high, [32, 31 / 3, 32, 0, 32, 0]), (warm, [0] * 6)):
        assert [line.get_ydata()[-1] for line in ax.lines] == pytest.approx(last)
        assert all(list(line.get_xdata()) == list(STEPS) for line in ax.lines)
        assert ax.get_ylim() == (-1, 65)
    assert [line.get_ydata()[-1] for line in filters.lines[::2]] == pytest.approx([50, 50, 50])
    assert [label.get_text() for label in accuracy.get_yticklabels()] == [f"condition {n}" for n in range(12)]


def test_the_legends_say_what_shades_and_marks_are_and_conditions_are_written_in_words():
    table, counts = tables(expected_story)
    names = table["condition"].replace("condition 3", "lr 0.001, 100 warm-up steps, Adam with L2 0.0005")
    figure = dead_filters.draw(table.assign(condition=names), counts)
    texts = {text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()}
    assert {"lowest to highest seed", "one seed", "mean ± standard deviation over the seeds"} <= texts
    figure.draw_without_rendering()
    labels = [label.get_text() for label in accuracy_axes(figure).get_yticklabels()]
    assert labels[3] == "learning rate 0.001, 100 warm-up steps\nAdam with L2 0.0005"


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "steps"), [(1, (0, 7)), (2, (0, 1, 2)), (3, (0, 10, 20, 5000))])
def test_few_seeds_and_steps_can_be_drawn(seeds: int, steps: tuple[int, ...]):
    table, counts = tables(expected_story, seeds, steps)
    assert problems_on_screens(dead_filters.draw(table, counts)) == []
    assert "after 40 steps" not in said(table, counts)
