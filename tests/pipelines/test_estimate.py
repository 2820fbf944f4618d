"""The time that a search is going to take, said before it starts."""

import re

import optuna
import pytest

from pipelines import estimate
from pipelines.estimate import duration, seconds_per_image
from pipelines.session.context import Context
from study.architectures import CNNConfig, FFNNConfig
from study.config import SearchConfig, TrainConfig
from study.data import Dataset
from study.device import Machine
from study.home import Home
from study.tracking.store import Store
from tests.support.process import study_here


def test_a_step_takes_time_also_where_there_are_fewer_images_than_a_batch(machine: Machine, tiny: Dataset) -> None:
    for batch_size in (20, 10_000):
        assert seconds_per_image(TrainConfig(model=FFNNConfig(), batch_size=batch_size), tiny, machine) > 0


def test_all_images_of_all_epochs_count(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "seconds_per_image", lambda *_: 0.5)
    searches = [SearchConfig(name="a", model=CNNConfig(), trials=2, epochs=3), SearchConfig(name="b", pruner="none")]
    estimate.say_estimate(searches, tiny, context, retrain_epochs=1)
    first, second, total = capsys.readouterr().out.splitlines()
    assert (len(tiny.train), len(tiny.splits.train)) == (120, 108)
    assert first.startswith("cnn: 2 trials of up to 3 epochs train for at most 5 min, much less with pruning; ")
    assert first.endswith("; 1 epoch of retraining for 60 s.")
    assert second.startswith("cnn: 40 trials of up to 10 epochs train for at most 6 h 0 min; 1 epoch")
    assert total.endswith("at most 6 h 7 min of training in all.")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (119, "2 min"), (3540, "59 min"), (3600, "1 h 0 min")]
)
def test_a_duration_has_two_digits_or_so(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_dry_run_refuses_what_the_search_would(home: Home) -> None:
    search = ("tune", "--model", "ffnn", "--dataset", "digits", "--trials", "1", "--no-retrain")
    assert study_here(*search, "--epochs", "1", home=home.root).code == 0
    for dry in ((), ("--dry-run",)):
        ended = study_here(*search, "--epochs", "2", *dry, home=home.root)
        assert ended.code == 2
        assert "was started with other settings (epochs was 1, now 2)" in ended.err
    assert study_here(*search, "--epochs", "1", "--dry-run", home=home.root).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["tune", "reproduce"])
def test_a_dry_run_says_how_long_it_takes_and_records_nothing(command: str, home: Home) -> None:
    ended = study_here(command, "--dataset", "digits", "--trials", "2", "--dry-run", home=home.root)
    assert ended.code == 0, ended.err
    models = re.findall(r"^(\w+): 2 trials of up to 10 epochs train for at most", ended.out, re.MULTILINE)
    assert models == (["cnn"] if command == "tune" else ["cnn", "ffnn"])
    assert "of training in all" in ended.out
    assert Store(home).runs() == []
    assert optuna.get_all_study_names(home.storage_url) == []


@pytest.mark.slow
def test_a_dry_run_of_a_retraining_counts_the_seeds_that_are_left_and_records_nothing(home: Home) -> None:
    digits = ("--model", "ffnn", "--dataset", "digits")
    assert (
        study_here("tune", *digits, "--trials", "1", "--epochs", "1", "--retrain-epochs", "1", home=home.root).code == 0
    )
    before = {run.id for run in Store(home).runs()}
    retrain = ("retrain", *digits, "--epochs", "1", "--dry-run")
    for options, text in {
        (): "Nothing is left to retrain.",
        ("--again",): "ffnn: 1 retraining of 1 epoch for ",
        ("--seeds", "3"): "ffnn: 2 retrainings of 1 epoch for ",
        ("--preset", "report"): "ffnn: 1 trial of up to 10 epochs train for at most ",
        ("--preset", "report", "--seeds", "3"): "; 3 epochs of retraining for ",
    }.items():
        ended = study_here(*retrain, *options, home=home.root)
        assert ended.code == 0, ended.err
        assert text in ended.out
    assert {run.id for run in Store(home).runs()} == before
    assert optuna.get_all_study_names(home.storage_url) == ["digits-ffnn"]
    quiet = study_here(*retrain, "--quiet", home=home.root)
    assert (quiet.code, quiet.err.startswith("study: --dry-run prints an estimate")) == (2, True)
