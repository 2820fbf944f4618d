import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from analysis.filters.cosine_distance import SETTLED, kernel_convergence, settled_epochs, spread
from analysis.filters.kernel_convergence import (
    MAPS_CHANGED,
    STABLE,
    caption,
    draw_kernel_convergence,
    note,
    points,
    show,
)
from tests.analysis.filters.test_cosine_distance import FILTERS, health, nothing_silent, walk
from tests.support.legibility import problems_on_screens


def turning(angle: float, epochs: int = STABLE + 3) -> dict[int, np.ndarray]:
    """Weights that turn by `angle` after epoch `STABLE`, and are still before and after."""
    places = {epoch: 0.0 if epoch <= STABLE else angle for epoch in range(epochs)}
    return {epoch: np.tile([np.cos(place), np.sin(place)], (FILTERS, 1)) for epoch, place in places.items()}


@pytest.mark.parametrize(
    ("angle", "answer"),
    [
        (0.0, "0 in conv1 (not at all)"),
        (0.3, "0.0447 in conv1 (slightly)"),
        (1.0, "0.46 in conv1 (more than slightly)"),
    ],
)
def test_the_caption_says_whether_kernels_turn_more_than_slightly_after_the_accuracy_was_stable(
    angle: float, answer: str
):
    text = caption(kernel_convergence({"conv1": turning(angle)}, nothing_silent(STABLE + 3)))
    claim = "Wik (2023) saw the accuracy stable after epoch 5, while kernels “continued to change slightly”"
    assert text == f"{claim}: here from epoch 5 to 7 the median kernel that lives at both turns by {answer}."


def test_the_points_count_the_settled_by_both_thresholds_at_both_epochs_of_the_report():
    epochs = MAPS_CHANGED + 4
    table = kernel_convergence({"conv1": walk(epochs, rest=10)}, nothing_silent(epochs))
    early, late, turn = points(table)
    strict, loose = (settled_epochs(table, settled) for settled in SETTLED)
    for epoch, sentence in ((STABLE, early), (MAPS_CHANGED, late)):
        of_all = f"{(strict <= epoch).sum()} of conv1's {FILTERS} living filters"
        looser = f"(within 0.1: {(loose <= epoch).sum()})"
        assert sentence == f"Settled within 0.05 by epoch {epoch}: {of_all} {looser}."
    assert late.startswith(f"Settled within 0.05 by epoch 16: {FILTERS} of ")
    last, early_step = epochs - 1, f"{_step(table):.2g}"
    assert turn == f"In epoch {last} the median living one turns by 0 in conv1 (in epoch 5 by {early_step})."


def test_where_the_reports_epoch_is_the_last_its_turn_is_told_once():
    table = kernel_convergence({"conv1": walk(STABLE + 1, rest=10)}, nothing_silent(STABLE + 1))
    assert points(table) == [f"In epoch 5 the median living one turns by {_step(table):.2g} in conv1."]


def _step(table: pd.DataFrame) -> float:
    return float(table.loc[table["epoch"] == STABLE, "step"].median())


def test_maps_are_measured_like_kernels_and_one_that_is_zero_counts_as_dead():
    maps = {epoch: np.abs(values) for epoch, values in walk(STABLE + 3, shape=(4, 4)).items()}
    for values in maps.values():
        values[0] = 0
    exhibit = show({"conv1": turning(0.3)}, nothing_silent(STABLE + 3), {"relu1": maps}, "a bird")
    assert exhibit.heading == "When kernels and maps settle"
    assert "relu1" not in exhibit.text
    assert f" of relu1's {FILTERS - 1} living maps (within 0.1: " in exhibit.points[0]
    assert "the ReLU maps of a bird, and a map that is zero throughout counts as dead" in exhibit.note
    assert exhibit.figure is not None
    assert f"maps relu1\n{FILTERS - 1} of {FILTERS} alive" in [ax.get_ylabel() for ax in exhibit.figure.axes]


def test_a_layer_whose_filters_died_in_between_is_not_measured():
    silent = np.zeros((FILTERS, STABLE + 3), bool)
    silent[:, STABLE] = True
    text = caption(kernel_convergence({"conv1": turning(1.0)}, health(silent)))
    assert text.endswith("turns by an unknown distance in conv1, where none lives at both.")


def test_a_short_run_cannot_tell():
    table = kernel_convergence({"conv1": walk(2)}, nothing_silent(2))
    assert caption(table) == "How far the weights turn after epoch 5 cannot be told from epochs up to 1."
    assert points(table) == []


def test_a_network_without_kernels_is_not_held_against_what_was_said_of_kernels():
    table = kernel_convergence({"fc": walk(9, shape=(8,))}, nothing_silent(9))
    assert caption(table).startswith("From epoch 5 to 8 the median unit that lives at both turns by ")
    text = " ".join([caption(table), *points(table), note("")])
    assert f" {FILTERS} living units" in text
    assert not any(word in text for word in ("Wik", "kernel", "map"))


def test_the_figure_holds_every_filter_the_median_and_the_share_that_settled():
    silent = np.zeros((FILTERS, 8), bool)
    silent[0, 4:] = True
    table = kernel_convergence({"conv1": walk(8), "fc": walk(8, shape=(20,))}, health(silent))
    figure = draw_kernel_convergence(table)
    to_final, step, norm, settled = figure.axes[:4]
    lines = {str(line.get_label()): line for line in to_final.lines}
    assert lines["median of the living"].get_ydata() == pytest.approx(
        spread(table[:48], "to_final")["median"].to_numpy()
    )
    assert len(to_final.lines) == (FILTERS - 1) + 2  # and the median, and the epoch of the report
    assert len(norm.lines) == FILTERS + 2
    assert step.get_yscale() == "log"
    assert [line.get_ydata()[-1] for line in settled.lines[:2]] == [100, 100]
    assert [line.get_label() for line in settled.lines[:2]] == ["settled within 0.05", "settled within 0.1"]
    assert to_final.get_ylabel() == f"conv1\n{FILTERS - 1} of {FILTERS} alive"
    figure.draw_without_rendering()


def test_the_last_epoch_is_ticked():
    figure = draw_kernel_convergence(kernel_convergence({"conv1": walk(31)}, nothing_silent(31)))
    assert {ax.get_xticks()[-1] for ax in figure.axes} == {30}


@pytest.mark.parametrize(
    ("epochs", "label"), [(STABLE + 2, "epoch 5 (Wik, 2023)"), (MAPS_CHANGED + 2, "epochs 5 and 16 (Wik, 2023)")]
)
def test_only_the_reports_epochs_that_were_reached_are_marked(epochs: int, label: str):
    figure = draw_kernel_convergence(kernel_convergence({"conv1": walk(epochs)}, nothing_silent(epochs)))
    assert label in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("epochs", [1, 2, 9])
@pytest.mark.parametrize("case", ["all dead", "none moves", "none dead"])
def test_all_dead_none_moving_and_few_epochs_are_drawn(epochs: int, case: str):
    weights = walk(epochs, rest=0 if case == "none moves" else None)
    if case == "all dead":
        weights = {epoch: np.zeros_like(values) for epoch, values in weights.items()}
    table = kernel_convergence({"conv1": weights}, health(np.full((FILTERS, epochs), case == "all dead")))
    draw_kernel_convergence(table).draw_without_rendering()
    text = caption(table)
    if epochs == 9:
        assert ("none lives at both" in text) is (case == "all dead")


def test_each_layer_fills_its_panels_and_no_label_has_a_factor_above_the_axis():
    still = {
        epoch: np.tile([np.cos(place), np.sin(place)], (FILTERS, 1)) for epoch, place in enumerate([2e-3, 1e-3, 0])
    }
    table = kernel_convergence({"conv1": still, "conv2": walk(3)}, nothing_silent(3))
    figure = draw_kernel_convergence(table)
    figure.draw_without_rendering()
    for ax, layer in zip((figure.axes[0], figure.axes[4]), ("conv1", "conv2"), strict=True):
        largest = table.loc[table["layer"] == layer, "to_final"].max()
        assert 0.8 * ax.get_ylim()[1] < largest <= ax.get_ylim()[1]
        assert ax.yaxis.get_offset_text().get_text() == ""
    assert problems_on_screens(figure) == []


def test_thin_lines_are_visible_in_the_legend_and_those_that_end_dead_differ_from_the_living():
    silent = np.zeros((FILTERS, 8), bool)
    silent[0, 4:] = True
    figure = draw_kernel_convergence(kernel_convergence({"conv1": walk(8)}, health(silent)))
    [legend] = figure.legends
    lines = dict(zip([text.get_text() for text in legend.get_texts()], legend.legend_handles, strict=True))
    living, dead = (lines[name] for name in ("one of the living", "one that ends dead"))
    for line in (living, dead):
        assert isinstance(line, Line2D)
        assert (line.get_alpha(), line.get_linewidth() >= 1) == (1, True)
    assert living.get_color() != dead.get_color()
