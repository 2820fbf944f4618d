"""An architecture search as a user runs it: search, retrain, analyse; and the stores agree about it."""

import shlex
from pathlib import Path

import optuna
import pandas as pd
import pytest

from pipelines.report import tracked
from study.architectures import CNNConfig
from study.home import Home
from study.models import build_model, parameter_count
from study.tracking import best
from study.tracking.artifacts import weights_path
from study.tracking.store import Store
from tests.support.process import Ended, study_here

SEARCH = ("tune", "--space", "architecture", "--dataset", "digits", "--trials", "6", "--epochs", "1:2")
SPACE = ("--filters", "2:6/3:8", "--warmup", "0", "--objective", "accuracy,parameters", "--prefer", "parameters:0.02")
ON = ("--device", "cpu", "--threads", "1")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Ended]:
    home = Home(root=tmp_path_factory.mktemp("architectures"))
    return home, study_here(*SEARCH, *SPACE, *ON, home=home.root)


def test_every_trial_is_recorded_alike_in_both_stores(searched: tuple[Home, Ended]) -> None:
    home, ended = searched
    assert ended.code == 0, ended.err
    search = optuna.load_study(study_name="digits-cnn-architecture", storage=home.storage_url)
    runs = {run.trial_number: run for run in Store(home).runs(stage="trial")}
    assert len(search.trials) == len(runs) == 6
    for trial in search.trials:
        config = runs[trial.number].train_config
        assert trial.params == {name: config.hyperparameters()[name] for name in trial.params}
        assert trial.values[1] == parameter_count(config.model, classes=10) == runs[trial.number].parameters
        assert list(trial.intermediate_values) == list(range(1, config.epochs + 1))
    assert len({run.train_config.model for run in runs.values()}) == 6
    checked = study_here("doctor", home=home.root)
    assert "No problems found" in checked.out, checked


def test_the_smallest_network_is_retrained_as_it_was_drawn(searched: tuple[Home, Ended]) -> None:
    home, ended = searched
    store = Store(home)
    [retrained] = store.runs(stage="retrain")
    trials = store.runs(stage="trial")
    smallest = min(trials, key=lambda run: run.parameters)
    assert retrained.trial_run == smallest.id
    assert f"The smallest cnn with a validation accuracy of at least 0.02 is trial {smallest.trial_number}" in ended.out
    assert "Other commands name it by --run best:parameters:0.02." in ended.out
    config = retrained.train_config
    assert isinstance(config.model, CNNConfig)
    assert (config.model, config.epochs) == (smallest.train_config.model, smallest.train_config.epochs)
    assert (config.optimiser, config.schedule) == (smallest.train_config.optimiser, smallest.train_config.schedule)
    model = build_model(config.model, classes=10, seed=0)
    model.load_state_dict(store.load_tensors(retrained.id, weights_path(config.epochs))[0])
    assert best.choose_retrained(store, "best:parameters:0.02").id == retrained.id
    [search] = store.runs(stage="search")
    assert set(search.choices) == {*smallest.train_config.hyperparameters()} - {
        "learning_rate",
        "weight_decay",
        "warmup_steps",
    }


def test_the_command_that_its_description_suggests_continues_it(searched: tuple[Home, Ended]) -> None:
    home, _ = searched
    [search] = Store(home).runs(stage="search")
    [command] = [part for part in search.tags["mlflow.note.content"].split("`") if part.startswith("study tune")]
    again = study_here(*shlex.split(command)[1:], "--no-retrain", *ON, home=home.root)
    assert (again.code, again.err) == (0, "")
    assert "has 6 finished trials already" in again.out


def test_another_space_under_the_same_name_is_refused(searched: tuple[Home, Ended]) -> None:
    home, _ = searched
    other = study_here(*SEARCH, *SPACE, "--kernel", "3", *ON, home=home.root)
    assert other.code == 2
    assert "other settings (kernel was 3,5,7, now 3)" in other.err


def test_its_figures_have_every_hyperparameter_the_front_and_the_reports_network(searched: tuple[Home, Ended]) -> None:
    home, _ = searched
    only = "search_pareto,search_importance,search_heatmap,architecture"
    ended = study_here("analyse", "--run", "best:parameters:0.02", "--only", only, home=home.root)
    assert ended.code == 0, ended.err
    [page] = home.reports.glob("*/only/index.html")
    front = pd.read_csv(page.parent / "search_pareto.csv")
    assert front["on_front"].any()
    assert "94,666" in page.read_text()
    assert "complete trials are too few to tell" in page.read_text()
    assert not (page.parent / "search_importance.csv").exists()
    store = Store(home)
    [search] = store.runs(stage="search")
    importance = tracked.importance(store, search).set_index("parameter")["importance_parameters"]
    assert {"filters1", "kernel", "pooling", "learning_rate"} <= set(importance.index)
    assert importance.sum() == pytest.approx(1)
    assert importance[["pooling", "learning_rate"]].isna().all()
    assert _has_figures(home)


def test_retrained_networks_of_several_sizes_are_compared(searched: tuple[Home, Ended]) -> None:
    home, _ = searched
    [largest] = Store(home).runs(stage="trial", optuna_trial=str(_largest(home)))
    for words in (("--run", largest.id, "--epochs", "1", "--seeds", "2"), ("--preset", "report", "--epochs", "1")):
        ended = study_here("retrain", "--dataset", "digits", *words, *ON, home=home.root)
        assert ended.code == 0, ended.err
    ended = study_here("analyse", "--run", "best:parameters:0.02", "--only", "network_sizes", home=home.root)
    assert ended.code == 0, ended.err
    [page] = home.reports.glob("*/only/index.html")
    table = pd.read_csv(page.parent / "network_sizes.csv")
    runs = Store(home).runs(stage="retrain")
    assert table["seeds"].sum() == len(runs) == 4
    assert table.loc[table["is_report"], "parameters"].tolist() == [94_666]
    seeds = pd.read_csv(page.parent / "network_sizes_seeds.csv")
    assert sorted(seeds["test_accuracy"]) == pytest.approx(sorted(run.metrics["final_test_accuracy"] for run in runs))
    assert seeds.groupby("parameters")["test_accuracy"].mean().tolist() == pytest.approx([*table["test_accuracy_mean"]])


def _largest(home: Home) -> int:
    return max(Store(home).runs(stage="trial"), key=lambda run: run.parameters).trial_number


def _has_figures(home: Home) -> bool:
    store = Store(home)
    [search] = store.runs(stage="search")
    drawn = {Path(path).name for path in store.artifacts(search.id, "search")}
    return {"history.png", "slices.png", "importance.png", "heatmap.png", "pareto.png"} <= drawn
