import itertools
import json
import subprocess
import sys
import tarfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from optuna.pruners import NopPruner, ThresholdPruner
from PIL import Image
from scipy import stats

from benchmarks import gpu, gpu_parts, measure, population, precision, pruning, textbook
from benchmarks.images import fewer, random_images
from study.architectures import MODELS, CNNConfig, FFNNConfig, ModelConfig
from study.config import SearchConfig, TrainConfig, model_config
from study.data import Dataset, normalise
from study.device import Machine
from study.models import build_model
from study.search import sampling
from study.training import TrainingState, fit

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
        pruning.replayed(curves, sampling.pruner_of(default, max(map(len, curves))), order)
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
    converted = textbook.cifar10_of(tiny.train)
    assert len(converted) == len(tiny.train)
    for place in (0, 7, len(converted) - 1):
        pixels, label = converted[place]
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
    assert measure.flops_per_image("cnn") == 2 * products


def test_fewer_images_are_the_first_of_each_class(tiny: Dataset):
    few = fewer(tiny.train, 3)
    assert torch.bincount(few.labels).tolist() == [3] * 10
    first = torch.nonzero(tiny.train.labels == 4).flatten()[:3]
    assert torch.equal(few.images[few.labels == 4], tiny.train.images[first])
    assert fewer(tiny.train, 0) is tiny.train


@pytest.mark.parametrize("model", [CNNConfig(filters=(4, 6)), FFNNConfig(hidden=5)], ids=lambda model: model.name)
def test_each_member_of_a_vectorised_population_trains_as_it_would_alone(model: ModelConfig, machine: Machine):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = random_images(120)
    settings = [
        TrainConfig(model=model, seed=seed, learning_rate=rate, weight_decay=decay, batch_size=24, epochs=2)
        for seed, rate, decay in ((0, 1e-3, 0.0), (1, 5e-3, 0.1), (2, 1e-2, 0.01))
    ]
    together = population.Population(images, settings, machine)
    for _ in range(2):
        together.epoch()
    for member, config in enumerate(settings):
        state = TrainingState(build_model(model, classes=10, seed=config.seed), config, machine)
        before = state.weights()
        fit(state, images, config, machine, evaluate={}, on_epoch=lambda epoch: None)
        for name, weight in state.weights().items():
            # In the median: where a gradient is next to nothing, Adam makes a whole step of its rounding.
            difference = (together.weights[name][member] - weight).abs().median()
            assert difference < 5e-2 * (weight - before[name]).abs().median(), name


def gpu_on_a_cpu(*more: str) -> gpu.Figures:
    small = ["--device", "cpu", "--precision", "float32", "--images", "400", "--rounds", "1", "--models", "ffnn"]
    return gpu.measure(gpu.parse([*small, "--at-once", "1", "2", "--passes", "1", "--seeds", "2", *more]))


def test_the_gpu_benchmark_measures_all_that_needs_no_gpu(capsys: pytest.CaptureFixture[str]):
    figures = gpu_on_a_cpu()
    kinds = ("eager", "textbook", "1 in turns", "2 in turns", "2 vectorised", "2 processes")
    assert figures["epoch_seconds"].keys() == {f"ffnn, {kind}" for kind in kinds}
    assert min(figures["epoch_seconds"].values()) > 0
    assert figures["ffnn_graph_minus_eager"] == figures["ffnn_eager_minus_eager"] == 0
    assert figures["left_out"] == dict.fromkeys(("accuracies", "whole commands"), "no --dataset")
    json.dumps(figures)
    gpu.report(figures)
    out = capsys.readouterr().out
    assert "ffnn, 2 vectorised" in out
    assert "left out: whole commands (no --dataset)" in out


def test_the_gpu_benchmark_compares_the_precisions_on_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn = np.random.default_rng(0)
    for part, label in itertools.product(("train", "test"), ("cat", "dog")):
        folder = tmp_path / "images" / part / label
        folder.mkdir(parents=True)
        for number in range(20):
            Image.fromarray(drawn.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(tmp_path / "images", ".")
    monkeypatch.setattr(gpu, "NEEDED", ("a_package_that_is_not_there",))
    # Measured in the test before, some in processes that import torch.
    for part in ("rates", "together", "textbook"):
        monkeypatch.setattr(gpu, part, lambda *arguments: {})
    figures = gpu_on_a_cpu("--dataset", str(tmp_path / "images.tar"))
    assert {len(values) for values in figures["ffnn_accuracies"].values()} == {2}
    differences = np.subtract(figures["ffnn_accuracies"]["bf16"], figures["ffnn_accuracies"]["float32"])
    low, high = stats.t.interval(0.95, 1, differences.mean(), stats.sem(differences)) if differences.any() else (0, 0)
    assert figures["ffnn_bf16_minus_float32_interval"] == pytest.approx([low, high], rel=1e-3)
    assert figures["left_out"] == {"whole commands": "not installed: a_package_that_is_not_there"}


def test_what_fails_or_has_no_time_left_is_said_and_the_rest_is_measured(tmp_path: Path):
    session = gpu.Session({"gpu": ""}, 1, tmp_path / "figures.json")
    session.measure("one", lambda: {"one": 1 / 0})
    session.measure("two", lambda: {"two": 2.0, "epoch_seconds": {"cnn, eager": 3.0}})
    session.end = 0
    session.measure("three", lambda: {"three": 3.0})
    left_out = {"one": "ZeroDivisionError: division by zero", "three": "no time left: raise --minutes"}
    expected = {"gpu": "", "two": 2.0, "epoch_seconds": {"cnn, eager": 3.0}, "left_out": left_out}
    assert session.figures == expected
    # Written after the second part, before it was known that the third finds no time.
    del left_out["three"]
    assert json.loads((tmp_path / "figures.json").read_text()) == expected


@pytest.mark.parametrize("bad", [("--seeds", "1"), ("--seeds", "11"), ("--dataset", "no/such/folder")], ids=" ".join)
def test_the_gpu_benchmark_refuses_at_once_what_it_could_not_use(bad: tuple[str, str]):
    with pytest.raises(SystemExit):
        gpu.parse(bad)


def test_a_process_that_fails_ends_the_measurement_rather_than_hang_it():
    images = random_images(20)
    nowhere = Machine(torch.device("cuda", 99), "float32", 1)
    with pytest.raises(BrokenProcessPool):
        population.seconds_in_processes(images, TrainConfig(model=FFNNConfig(hidden=2)), nowhere, 2, 1)


def test_the_gpu_benchmark_times_whole_commands(tmp_path: Path, machine: Machine):
    small = ["--model", "ffnn", "--trials", "1", "--epochs", "1", "--no-retrain"]
    figures = gpu_parts.command("tune", Path("digits"), tmp_path, machine, small, timeout=300)
    assert figures.keys() == {"tune"}
    assert (tmp_path / "tune" / "mlruns" / "mlflow.db").exists()
    with pytest.raises(RuntimeError, match="study tune ended with 2: study: --trials"):
        gpu_parts.command("tune", Path("digits"), tmp_path / "other", machine, ["--trials", "none"], timeout=300)


def test_the_gpu_benchmarks_training_figures_need_torch_torchvision_and_numpy_alone():
    code = "import sys, benchmarks.gpu, benchmarks.textbook; print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True
    )
    loaded = set(ran.stdout.split())
    assert {"torch", "torchvision", "numpy"} <= loaded
    assert not loaded & set(gpu.NEEDED)
