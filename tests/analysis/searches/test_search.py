import numpy as np
import pandas as pd
import pytest

from analysis.searches import heatmap, search
from tests.support.legibility import problems_on_screens

TRIALS = pd.DataFrame(
    [
        (0, "complete", 1e-3, 1e-4, 0.60, 10),
        (1, "pruned", 1e-4, 1e-3, 0.80, 3),
        (2, "diverged", 1e-1, 1e-2, np.nan, 1),
        (3, "complete", 2e-3, 2e-5, 0.70, 10),
        (4, "complete", 5e-3, 3e-5, 0.70, 10),
    ],
    columns=["number", "state", "learning_rate", "weight_decay", "val_accuracy", "epochs"],
)
MANY = pd.concat([TRIALS] * 10, ignore_index=True)
DIVERGED = TRIALS.assign(state="diverged", val_accuracy=np.nan)
CASES = {
    "mixed": TRIALS,
    "single": TRIALS[:1],
    "none complete": TRIALS[1:2],
    "diverged": DIVERGED,
    "pruned before an epoch": DIVERGED.assign(state="pruned"),
    "empty": TRIALS[:0],
}


def grid(side: int) -> pd.DataFrame:
    values = np.logspace(-4, 1, side)
    rate, decay = (axis.ravel() for axis in np.meshgrid(values, values))
    accuracy = np.linspace(0.1, 0.7, side * side)
    columns = {
        "state": "complete",
        "learning_rate": rate,
        "weight_decay": decay,
        "val_accuracy": accuracy,
        "epochs": 10,
    }
    return pd.DataFrame({"number": range(side * side)} | columns)


@pytest.mark.parametrize(
    ("trials", "legend"),
    [
        (TRIALS, "ring: the best trial · triangle: pruned · cross: diverged"),
        (TRIALS[:1], "ring: the best trial"),
        (DIVERGED, "cross: diverged"),
    ],
)
def test_the_legend_explains_the_marks_that_there_are(trials: pd.DataFrame, legend: str):
    assert heatmap.draw_heatmap(trials).get_supxlabel() == legend


def offsets(ax) -> np.ndarray:
    return np.concatenate([np.asarray(marks.get_offsets()) for marks in ax.collections])


def test_only_complete_trials_set_the_best_so_far():
    table = search.history(TRIALS.sample(frac=1, random_state=0))
    assert table["number"].tolist() == [0, 1, 2, 3, 4]
    assert table["best_so_far"].tolist() == [0.6, 0.6, 0.6, 0.7, 0.7]


def test_the_best_so_far_is_undefined_before_the_first_complete_trial():
    assert search.history(TRIALS[1:])["best_so_far"].isna().tolist() == [True, True, False, False]
    assert search.history(DIVERGED)["best_so_far"].isna().all()


def test_a_tie_goes_to_the_lower_number():
    best = search.best(TRIALS)
    assert best is not None
    assert best["number"] == 3


def test_of_trials_with_the_same_accuracy_that_with_the_lowest_loss_is_the_best_and_the_tie_is_said():
    complete = TRIALS["state"] == "complete"
    tied = TRIALS.assign(
        val_accuracy=TRIALS["val_accuracy"].where(~complete, 0.7), val_loss=np.arange(len(TRIALS), 0, -1.0)
    )
    best = search.best(tied)
    assert best is not None
    assert best["number"] == tied.loc[complete, "number"].max()
    text = heatmap.heatmap_caption({"TPE search": tied}, 1000)
    assert text.endswith("(95% interval of 1,000 images 67.1% to 72.8%, with 2 other trials in it, 2 others as high).")
    assert heatmap.heatmap_caption({"TPE search": tied}, None).endswith(", 2 others as high.")


def test_the_history_draws_every_trial_in_percent():
    ax = search.draw_history(search.history(TRIALS)).axes[0]
    drawn = {tuple(np.round(point, 6)) for point in offsets(ax)}
    assert {(0, 60), (1, 80), (3, 70), (4, 70)} < drawn
    assert np.nanmax(np.asarray(ax.lines[0].get_ydata(), float)) == pytest.approx(70)


def test_slices_have_logarithmic_axes_that_hold_every_trial():
    figure = search.draw_slices(TRIALS)
    for ax, column in zip(figure.axes, ["learning_rate", "weight_decay"], strict=True):
        low, high = ax.get_xlim()
        assert ax.get_xscale() == "log"
        assert low < TRIALS[column].min() < TRIALS[column].max() < high


def test_a_point_tried_twice_keeps_its_best_complete_trial():
    again = TRIALS[:2].assign(learning_rate=1e-3, weight_decay=1e-4)
    table = heatmap.heatmap(again)
    assert table["number"].tolist() == [0]
    assert table["best"].tolist() == [True]


def test_exactly_one_point_is_the_best():
    assert heatmap.heatmap(TRIALS).set_index("number")["best"].to_dict() == {n: n == 3 for n in range(5)}
    assert not heatmap.heatmap(DIVERGED)["best"].any()


def test_few_shared_values_are_a_grid_and_many_are_not():
    assert heatmap.is_grid(grid(8))
    assert not heatmap.is_grid(grid(13))
    assert not heatmap.is_grid(TRIALS)
    assert not heatmap.is_grid(TRIALS[:1])


def test_each_cell_of_a_grid_has_its_accuracy_written_in_its_place():
    trials = grid(3)
    trials.loc[4, ["state", "val_accuracy"]] = ["diverged", np.nan]
    ax = heatmap.draw_heatmap(trials).axes[0]
    written = {tuple(text.get_position()): text.get_text() for text in ax.texts}
    assert len(written) == 8
    assert (1.5, 1.5) not in written
    assert written[2.5, 0.5] == f"{100 * trials['val_accuracy'][2]:.1f}"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.0001", "0.032", "10"]


def test_the_ring_is_on_the_best_trial():
    ax = heatmap.draw_heatmap(TRIALS).axes[0]
    assert np.asarray(ax.collections[-1].get_offsets()).tolist() == [[2e-3, 2e-5]]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_search_can_be_drawn(name):
    trials = CASES[name]
    for figure in (
        search.draw_history(search.history(trials)),
        search.draw_slices(trials),
        heatmap.draw_heatmap(trials),
    ):
        figure.draw_without_rendering()
    # Each trial has its place on the map, with an accuracy or without.
    assert trials.empty or {tuple(place) for place in offsets(heatmap.draw_heatmap(trials).axes[0])} == {
        (row["learning_rate"], row["weight_decay"]) for row in trials.to_dict("records")
    }


def test_importance_is_drawn_in_words_with_its_numbers():
    table = pd.DataFrame({"parameter": ["learning_rate", "weight_decay"], "importance": [0.8, 0.2]})
    ax = search.draw_importance(table, MANY).axes[0]
    bars = dict(zip([label.get_text() for label in ax.get_yticklabels()], ax.patches, strict=True))
    assert {name: bar.get_width() for name, bar in bars.items()} == {"learning rate": 0.8, "weight decay": 0.2}


def test_importance_of_nothing_says_so():
    ax = search.draw_importance(pd.DataFrame({"parameter": [], "importance": []}), MANY).axes[0]
    assert "two complete trials" in ax.texts[0].get_text()


def test_importances_of_too_few_trials_are_neither_said_nor_drawn():
    table = pd.DataFrame({"parameter": ["learning_rate", "weight_decay"], "importance": [0.83, 0.17]})
    exhibit = search.show_importance(table, TRIALS)
    assert exhibit.text == "3 complete trials are too few to tell: it takes at least 10."
    assert (exhibit.figure, exhibit.table, exhibit.note) == (None, None, "")
    assert not search.draw_importance(table, TRIALS).axes[0].patches


def test_a_hyperparameter_that_cannot_change_the_size_has_no_bar_and_no_words_for_it():
    shares = {"importance": [0.8, 0.2], "importance_parameters": [np.nan, 1.0]}
    table = pd.DataFrame({"parameter": ["learning_rate", "kernel"], **shares})
    assert sorted(bar.get_width() for bar in search.draw_importance(table, MANY).axes[0].patches) == [0.2, 0.8, 1.0]
    assert "numbers of parameters vary, 100% to the kernel size;" in search.importance_caption(table, MANY)


def test_logarithmic_axes_are_labelled_in_plain_numbers():
    for figure in (heatmap.draw_heatmap(TRIALS), search.draw_slices(TRIALS)):
        figure.draw_without_rendering()
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert "0.001" in labels
        assert not [label for label in labels if "$" in label]


@pytest.mark.parametrize(("low", "high"), [(0.002, 0.03), (0.0035, 0.0095), (0.0051, 0.0098)])
def test_an_axis_within_a_power_of_ten_has_more_than_one_label(low: float, high: float):
    close = TRIALS.assign(learning_rate=np.linspace(low, high, len(TRIALS)))
    figure = heatmap.draw_heatmap(close)
    low, high = figure.axes[0].get_xlim()
    assert sum(low <= tick <= high for tick in figure.axes[0].get_xticks()) >= 2
    assert problems_on_screens(figure) == []


def test_two_searches_stand_side_by_side_on_one_scale_of_colours():
    searches = {"TPE search": TRIALS, "Grid search": grid(3)}
    first, second, bar = heatmap.draw_heatmaps(searches).axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == tuple(searches)
    assert first.collections[0].get_clim() == second.collections[0].get_clim() == bar.get_ylim()
    text = heatmap.heatmap_caption(searches, 5000)
    assert text.startswith(
        "TPE search: trial 3 is the best of 5 trials with a validation accuracy of 70.0% within 10 epochs"
    )
    assert text.endswith("points from the second's.")
    note = heatmap.heatmap_note(searches)
    assert note.startswith("TPE search: 5 trials: 3 complete, 1 pruned and 1 diverged. Grid search: 9 trials: ")
    assert "(▽) is a pruned trial, whose accuracy is the best of fewer epochs: " in note


def test_a_search_without_a_trial_leaves_its_room_to_the_other():
    searches = {"TPE search": TRIALS, "Grid search": TRIALS[:0]}
    panel, _ = heatmap.draw_heatmaps(searches).axes
    assert panel.get_title(loc="left") == "TPE search"
    assert "Grid search: none of 0 trials is complete" in heatmap.heatmap_caption(searches, 5000)


def test_importance_is_said_in_words_and_so_is_its_absence():
    table = pd.DataFrame({"parameter": ["learning_rate", "weight_decay"], "importance": [0.83, 0.17]})
    caption_text = search.importance_caption(table, MANY)
    assert ", fANOVA attributes 83% to the learning rate and 17% to the weight decay; " in caption_text
    assert "have no interval" in search.show_importance(table, MANY).note
    assert f"{(MANY['state'] == 'complete').sum()} complete trials of {len(MANY)}" in caption_text
    assert caption_text.endswith("; what did not complete is not in it.")
    assert search.importance_caption(table[:0], TRIALS[:0]).startswith("No importance")


def test_a_search_of_a_single_point_is_told_and_not_drawn():
    again = pd.concat([TRIALS[3:4], TRIALS[3:4].assign(number=9)])
    for trials in (TRIALS[3:4], again):
        exhibit = heatmap.show({"Random search one": trials}, images=100, differences={}, grid_command="study tune")
        assert exhibit.figure is exhibit.readable is None
        assert exhibit.tables["search_heatmap"]["number"].tolist() == [3]
        assert exhibit.text.startswith("Random search one: trial 3 ")
        assert "`study tune` puts it beside this" in exhibit.points[0]
    assert heatmap.show({"Random search": TRIALS}, images=100, differences={}).figure
