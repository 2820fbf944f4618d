import numpy as np
import pandas as pd
import pytest
import torch
from optuna.pruners import NopPruner, ThresholdPruner
from scipy import stats

from benchmarks import precision, pruning, textbook, training
from benchmarks.images import fewer
from study import space
from study.config import MODELS, SearchConfig, TrainConfig, model_config
from study.data import Dataset, normalise
from study.models import build_model

RECORDED = sorted(pruning.RECORDED.glob("*.csv"))


def test_curves_of_both_models_are_recorded():
    assert {file.stem for file in RECORDED} >= set(MODELS)
    for file in RECORDED:
        assert len(pruning.read(file)) == 40


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_the_default_pruner_finds_the_best_within_half_a_point_for_at_most_60_percent_of_the_epochs(file):
    curves = pruning.read(file)
    default = SearchConfig(name="default").pruner
    runs = [
        pruning.replayed(curves, space.pruner_of(default, max(map(len, curves))), order)
        for order in range(pruning.ORDERS)
    ]
    regret, share = np.mean(runs, axis=0)
    assert 0 <= regret <= 0.5
    assert 0 < share <= 0.6


def test_a_replay_without_pruning_spends_all_epochs_and_regrets_nothing():
    assert pruning.replayed([[0.1, 0.4], [0.3, 0.2], [0.2, 0.2]], NopPruner(), order=3) == (0, 1)


def test_a_replay_counts_what_was_spent_and_what_was_lost():
    # The best trial begins worst, and everything below 0.25 in the first epoch is ended.
    curves = [[0.1, 0.9], [0.3, 0.5], [0.4, 0.6]]
    regret, share = pruning.replayed(curves, ThresholdPruner(lower=0.25), order=0)
    assert regret == pytest.approx(30)
    assert share == pytest.approx(5 / 6)


def test_a_diverged_trial_is_never_the_best_of_a_replay():
    regret, _ = pruning.replayed([[0.9], [0.3, 0.5]], NopPruner(), order=0)
    assert regret == pytest.approx(40)


def test_paired_differences_and_their_interval_are_those_of_a_paired_t_test():
    exact, rounded = np.array([0.70, 0.71, 0.69, 0.72, 0.70]), np.array([0.705, 0.70, 0.70, 0.722, 0.69])
    rows = [
        {"model": "cnn", "seed": seed, "precision": name, "test_accuracy": value}
        for name, values in (("float32", exact), ("bf16", rounded))
        for seed, value in enumerate(values)
    ]
    [row] = precision.paired(pd.DataFrame(rows)).to_dict("records")
    interval = stats.ttest_rel(100 * rounded, 100 * exact).confidence_interval(0.95)
    assert (row["model"], row["n"]) == ("cnn", 5)
    assert row["difference"] == pytest.approx(100 * (rounded - exact).mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


def test_the_textbook_loop_sees_the_same_pixels_and_labels(tiny: Dataset):
    made = textbook.cifar10_of(tiny.train)
    assert len(made) == len(tiny.train)
    for place in (0, 7, len(made) - 1):
        pixels, label = made[place]
        torch.testing.assert_close(pixels, normalise(tiny.train.images[place]))
        assert label == tiny.train.labels[place]


@pytest.mark.parametrize("model", MODELS)
def test_the_textbook_network_is_the_same_function(model: str):
    ours, theirs = build_model(model_config(model), classes=10, seed=0), textbook.network(model)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(theirs(images), ours(images))


def test_the_textbook_loop_trains_in_a_process_of_its_own(tiny: Dataset):
    config = TrainConfig(model=model_config("ffnn"), batch_size=40)
    with textbook.Textbook(tiny.train, config, "cpu", threads=1) as other:
        assert other.epoch() > 0


def test_the_operations_of_training_on_an_image_are_those_of_the_layers():
    forward = {"conv1": 32 * 32 * 32 * 75, "conv2": 64 * 16 * 16 * 800, "fc": 40_960}
    # Backwards every layer needs its weights' gradient, and all but the first their input's.
    products = 3 * sum(forward.values()) - forward["conv1"]
    assert training.flops_per_image("cnn") == 2 * products


def test_fewer_images_are_the_first_of_each_class(tiny: Dataset):
    few = fewer(tiny.train, 3)
    assert torch.bincount(few.labels).tolist() == [3] * 10
    first = torch.nonzero(tiny.train.labels == 4).flatten()[:3]
    assert torch.equal(few.images[few.labels == 4], tiny.train.images[first])
    assert fewer(tiny.train, 0) is tiny.train
