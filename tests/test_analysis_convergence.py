import numpy as np
import pandas as pd
import pytest

from analysis.convergence import caption, convergence, draw_convergence
from analysis.style import MODEL_COLOURS

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
    made = draw_convergence(convergence({"cnn": CNN, "ffnn": FFNN}))
    accuracy, loss = made.axes
    lines = {str(line.get_label()): line for line in accuracy.lines}
    assert lines["CNN, test (after the epoch)"].get_ydata().tolist() == pytest.approx([10, 70, 60])
    train = lines["CNN, train (running mean over the epoch)"]
    assert train.get_xdata().tolist() == [1, 2]
    assert train.is_dashed()
    assert not lines["FFNN, test (after the epoch)"].is_dashed()
    assert lines["FFNN, test (after the epoch)"].get_color() == MODEL_COLOURS["ffnn"]
    assert len(loss.lines) == 2
    assert loss.get_ylabel() == "cross-entropy loss"


def test_the_legend_names_each_line_once():
    made = draw_convergence(convergence({"cnn": CNN}))
    assert [text.get_text() for text in made.legends[0].get_texts()] == [
        "CNN, train (running mean over the epoch)",
        "CNN, test (after the epoch)",
    ]


def test_without_losses_there_is_one_panel():
    assert len(draw_convergence(convergence({"ffnn": FFNN})).axes) == 1


def test_a_single_epoch_is_a_point_that_can_be_seen():
    made = draw_convergence(convergence({"ffnn": FFNN[:1]}))
    assert made.axes[0].lines[0].get_marker() == "o"
    made.draw_without_rendering()


def test_nothing_recorded_says_so():
    table = convergence({"cnn": FFNN.assign(test_accuracy=np.nan)})
    assert table.empty
    assert "No accuracy" in draw_convergence(table).axes[0].texts[0].get_text()
    assert caption(table) == caption(convergence({})) == "No accuracy was recorded."


def test_the_caption_has_the_last_and_the_highest_accuracy():
    assert caption(convergence({"cnn": CNN})) == (
        "CNN: accuracy 80.0% on the train images and 60.0% on the test images at epoch 2"
        " (highest on test: 70.0% at epoch 1)."
    )
