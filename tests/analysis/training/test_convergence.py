import numpy as np
import pandas as pd
import pytest

from analysis.drawing.style import MODEL_COLOURS
from analysis.training.convergence import (
    caption,
    convergence,
    draw_convergence,
    note,
    over_seeds,
    seeds_caption,
    seeds_table,
    show,
    stable_points,
)

CNN = pd.DataFrame(
    {
        "epoch": [0, 1, 2],
        "train_accuracy": [np.nan, 0.5, 0.8],
        "test_accuracy": [0.1, 0.7, 0.6],
        "train_loss": [np.nan, 1.5, 0.6],
        "test_loss": [2.3, 0.9, 1.1],
    }
)
FFNN = CNN[["epoch", "test_accuracy"]]


def test_the_table_has_a_row_for_every_number_and_none_for_nan():
    table = convergence({"cnn": CNN, "ffnn": FFNN})
    assert list(table) == ["model", "split", "metric", "epoch", "value"]
    assert len(table) == 10 + 3
    assert table["value"].notna().all()
    chosen = table.query("model == 'cnn' and split == 'train' and metric == 'loss'")
    assert chosen[["epoch", "value"]].to_numpy().tolist() == [[1, 1.5], [2, 0.6]]


def test_lines_hold_the_values_in_the_colour_of_the_model_and_train_is_dashed():
    figure = draw_convergence(convergence({"cnn": CNN, "ffnn": FFNN}))
    accuracy, loss = figure.axes
    lines = {str(line.get_label()): line for line in accuracy.lines}
    assert lines["CNN, test (after the epoch)"].get_ydata().tolist() == pytest.approx([10, 70, 60])
    train = lines["CNN, train (mean over the epoch)"]
    assert train.get_xdata().tolist() == [1, 2]
    assert train.is_dashed()
    assert not lines["FFNN, test (after the epoch)"].is_dashed()
    assert lines["FFNN, test (after the epoch)"].get_color() == MODEL_COLOURS["ffnn"]
    assert len(loss.lines) == 2
    assert loss.get_ylabel() == "cross-entropy loss"


def test_the_last_epoch_is_ticked():
    for ax in draw_convergence(convergence({"cnn": CNN})).axes:
        assert ax.get_xticks()[-1] == CNN["epoch"].max()


def test_the_legend_names_each_line_once():
    figure = draw_convergence(convergence({"cnn": CNN}))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "CNN, train (mean over the epoch)",
        "CNN, test (after the epoch)",
    ]


def test_without_losses_there_is_one_panel():
    assert len(draw_convergence(convergence({"ffnn": FFNN})).axes) == 1


def test_a_single_epoch_is_a_point_of_its_split_that_can_be_seen():
    figure = draw_convergence(convergence({"ffnn": FFNN[:1]}))
    lines = figure.axes[0].lines
    assert {line.get_marker() for line in lines} == {"o"}
    assert len({line.get_markerfacecolor() for line in lines}) == len(lines)
    figure.draw_without_rendering()


def test_nothing_recorded_says_so():
    table = convergence({"cnn": FFNN.assign(test_accuracy=np.nan)})
    assert table.empty
    assert "No accuracy" in draw_convergence(table).axes[0].texts[0].get_text()
    assert caption(table, {}) == caption(convergence({}), {}) == "No accuracy was recorded."
    assert stable_points(table) == []


def test_the_caption_has_the_last_and_the_highest_accuracy():
    assert caption(convergence({"cnn": CNN}), {}) == (
        "CNN: accuracy 80.0% on the train images over the epoch and 60.0% on the test images at epoch 2"
        " (highest on test: 70.0% at epoch 1)."
    )
    twice = pd.concat([CNN, CNN[CNN["epoch"] == 1].assign(epoch=3)])
    assert caption(convergence({"cnn": twice}), {}).endswith(" (highest on test: 70.0% at epochs 1 and 3).")


def test_the_training_accuracy_over_the_epoch_is_told_from_that_after_it():
    exhibit, _ = show({"cnn": seeded(0.0), "ffnn": seeded(0.0)}, ACCURACIES, {})
    assert "CNN: accuracy 80.0% on the train images over the epoch (83.0% after it) and 60.0%" in exhibit.text
    assert "FFNN: accuracy 80.0% on the train images over the epoch and 60.0%" in exhibit.text
    assert "in Wik (2023) it was measured after the epoch" in exhibit.note


@pytest.mark.parametrize(("late", "said"), [([0.7, 0.7], "70.0% and 70.0%"), ([0.5, 0.9], "50.0% and 90.0%")])
def test_the_accuracy_after_the_reports_stable_epoch_is_given_as_its_range(late: list[float], said: str):
    values = [0.1, 0.2, 0.3, 0.4, 0.5, *late]
    history = pd.DataFrame({"epoch": range(7), "test_accuracy": values})
    [sentence] = stable_points(convergence({"cnn": history}))
    assert sentence.startswith("Wik (2023) saw the accuracy stable after epoch 5: from it on,")
    assert sentence.endswith(f" lies between {said} (CNN).")
    assert stable_points(convergence({"cnn": history[:6]})) == []


def seeded(*shifts: float) -> pd.DataFrame:
    """The CNN's history with each of several seeds, the accuracies and losses moved by so much."""
    return pd.concat([(CNN + shift).assign(epoch=CNN["epoch"], seed=seed) for seed, shift in enumerate(shifts)])


def test_seeds_are_kept_in_the_table_and_left_out_where_there_are_none():
    table = convergence({"cnn": seeded(0.0, 0.1)})
    assert list(table) == ["model", "split", "seed", "metric", "epoch", "value"]
    chosen = table.query("split == 'test' and metric == 'accuracy' and epoch == 1")
    assert chosen[["seed", "value"]].to_numpy().tolist() == [[0, 0.7], [1, pytest.approx(0.8)]]


def test_the_spread_over_seeds_is_numpys():
    shifts = (0.0, 0.1, 0.05)
    table = over_seeds(convergence({"cnn": seeded(*shifts), "ffnn": FFNN}))
    row = table.query("model == 'cnn' and split == 'test' and metric == 'accuracy' and epoch == 2").iloc[0]
    assert row["seeds"] == 3
    assert (row["mean"], row["deviation"]) == pytest.approx((0.6 + np.mean(shifts), np.std(shifts, ddof=1)))
    assert table.query("model == 'ffnn'")["deviation"].isna().all()


def test_several_seeds_are_drawn_as_a_mean_within_a_band_and_counted():
    figure = draw_convergence(convergence({"cnn": seeded(0.0, 0.1), "ffnn": FFNN}))
    accuracy = figure.axes[0]
    lines = {str(line.get_label()): line for line in accuracy.lines}
    mean = lines["CNN, test (after the epoch), mean of n = 2 seeds"]
    assert mean.get_ydata().tolist() == pytest.approx([15, 75, 65])
    assert "FFNN, test (after the epoch)" in lines
    assert len(accuracy.collections) == 2
    edges = accuracy.collections[1].get_paths()[0].vertices
    deviation = 100 * np.std([0.0, 0.1], ddof=1)
    at_last = edges[edges[:, 0] == 2, 1]
    assert (at_last.min(), at_last.max()) == pytest.approx((65 - deviation, 65 + deviation))
    assert figure.legends[0].get_title().get_text() == "band: mean ± one standard deviation over the seeds"


def test_one_seed_looks_as_without_seeds():
    with_seed, before = (draw_convergence(convergence({"cnn": history})) for history in (seeded(0.0), CNN))
    assert not with_seed.axes[0].collections
    words = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in (with_seed, before)]
    assert words[0] == words[1]
    assert with_seed.legends[0].get_title().get_text() == ""
    assert caption(convergence({"cnn": seeded(0.0)}), {}) == caption(convergence({"cnn": CNN}), {})


def test_the_caption_of_several_seeds_has_their_spread():
    assert caption(convergence({"cnn": seeded(0.0, 0.1)}), {}) == (
        "CNN (2 seeds): accuracy 85.00% ± 7.07% on the train images over the epoch and 65.00% ± 7.07% on the test"
        " images at epoch 2 (highest on test: 75.0% at epoch 1)."
    )
    assert "standard deviations over seeds" in note(convergence({"cnn": seeded(0.0, 0.1)}))
    assert "deviations" not in note(convergence({"cnn": seeded(0.0)}))


ACCURACIES = pd.DataFrame(
    [("cnn", "test", 0, 0.70), ("cnn", "test", 1, 0.72), ("cnn", "train", 0, 0.83), ("ffnn", "test", 0, 0.5)],
    columns=["model", "split", "seed", "accuracy"],
)


def test_final_accuracies_are_summed_up_over_the_seeds():
    table = seeds_table(ACCURACIES)
    assert list(table) == ["model", "split", "seeds", "mean", "deviation", "lowest", "highest"]
    first = table.iloc[0].tolist()
    assert first == ["cnn", "test", 2, pytest.approx(0.71), pytest.approx(0.02 / 2**0.5), 0.70, 0.72]
    assert table["deviation"].isna().tolist() == [False, True, True]


def test_the_seeds_caption_says_how_many_there_are():
    assert seeds_caption(seeds_table(ACCURACIES)) == (
        "Final test accuracy, mean ± standard deviation: CNN 71.00% ± 1.41% (2 seeds), FFNN 50.0% (1 seed)."
    )
