from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from analysis.searches import dead_filters as experiments
from pipelines import experiment as stage
from pipelines import replicates
from pipelines.config import ExperimentConfig
from pipelines.experiment import experiment
from pipelines.replicates import Plan
from pipelines.report import tracked
from pipelines.report.exhibits import Report
from pipelines.report.tracked import compared
from pipelines.session.context import Context
from pipelines.session.notes import NOTE
from pipelines.trials import trainings
from pipelines.trials.trainings import Measured
from study.architectures import CNNConfig
from study.config import DataConfig, TrainConfig
from study.data import Dataset
from study.device import Machine
from study.errors import StudyError
from study.experiments import Condition, dead_filters
from study.home import Home
from study.models import build_model
from study.probes.activity import filter_counts
from study.tracking.best import best_trial
from study.tracking.runs import WORKER, Run
from study.tracking.store import Store
from study.training import TrainingState, fit
from tests.conftest import Finished, copy_of, surroundings
from tests.support.process import study_here

DATA = DataConfig(dataset="digits")
DEAD = ExperimentConfig(name="dead-filters", epochs=2, seeds=1, seed=1)
FILTERS = {(32, 64): (4, 8), (16, 32): (3, 4), (6, 16): (2, 2)}


def small(epochs: int) -> tuple[Condition, ...]:
    """The experiment's conditions with fewer filters and smaller batches."""
    return tuple(
        replace(condition, config=replace(condition.config, model=CNNConfig(filters=FILTERS[filters]), batch_size=18))
        for condition in dead_filters(epochs)
        for filters in [condition.config.model.filters]
    )


def plan(epochs: int = 1, seeds: tuple[int, ...] = (0, 1), conditions: int = 2) -> Plan:
    """Two of the conditions, which take less than all twelve."""
    return Plan(
        experiment="dead-filters",
        conditions=small(epochs)[:conditions],
        seeds=seeds,
        epochs=epochs,
        model="cnn",
    )


def run(wanted: Plan, context: Context, tiny: Dataset) -> Run:
    with replicates.claimed(wanted, tiny, context) as parent:
        replicates.run_missing(wanted, parent, tiny, context)
    return context.store.get(parent)


@pytest.fixture(autouse=True, scope="module")
def toys(tiny: Dataset) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "dead_filters", small)
        patch.setattr(Context, "load", lambda context, config: tiny)
        yield


@pytest.fixture(scope="module")
def measured(migrated: Home, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Path]:
    """A finished experiment: to be read, and not changed."""
    context = surroundings(copy_of(migrated, tmp_path_factory.mktemp("measured") / "home"), machine)
    return context, experiment(DEAD, context, DATA)


def parent_of(store: Store) -> Run:
    (parent,) = store.runs(stage="experiment")
    return parent


def test_every_condition_and_seed_is_a_run_below_the_experiments(measured: tuple[Context, Path]):
    store = measured[0].store
    parent = parent_of(store)
    assert (parent.status, parent.tags["experiment"], parent.params["epochs"]) == ("FINISHED", "dead-filters", "2")
    runs = store.runs(stage="replicate")
    assert len(runs) == 12
    assert {run.tags["mlflow.parentRunId"] for run in runs} == {parent.id}
    assert {(run.status, run.tags["status_reason"]) for run in runs} == {("FINISHED", "complete")}
    recorded = {(TrainConfig.from_params(run.params), run.tags["condition"]) for run in runs}
    assert recorded == {(replace(condition.config, seed=1), condition.label) for condition in small(2)}


def test_losses_are_recorded_by_epoch_and_filters_by_step(measured: tuple[Context, Path]):
    store = measured[0].store
    for run in store.runs(stage="replicate")[:3]:
        for name in (
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
            "system/epoch_seconds",
            "system/images_per_second",
        ):
            assert [point.step for point in store.client.get_metric_history(run.id, name)] == [1, 2]
        for name in experiments.COUNTS:
            # Six steps an epoch: before training, after the tenth step and after either epoch.
            assert [point.step for point in store.client.get_metric_history(run.id, name)] == [0, 6, 10, 12]
        assert not [name for name in run.metrics if name.startswith("test")]
        best = max(point.value for point in store.client.get_metric_history(run.id, "val_accuracy"))
        assert run.metrics["best_val_accuracy"] == best


def test_counting_filters_does_not_change_what_is_trained(
    measured: tuple[Context, Path], tiny: Dataset, machine: Machine
):
    store, splits = measured[0].store, tiny.splits
    run = store.runs(stage="replicate")[0]
    config, seen = TrainConfig.from_params(run.params), []
    state = TrainingState(build_model(config.model, classes=10, seed=1), config, machine)
    sets = {"val": splits.validation}
    fit(state, splits.images, config, machine, rows=splits.train_rows, evaluate=sets, on_epoch=seen.append)
    assert {name: run.metrics[name] for name in seen[-1].metrics} == seen[-1].metrics
    counts = filter_counts(state.model, splits.validation.images)
    assert {name: run.metrics[name] for name in counts} == counts


def test_tables_figure_and_findings_are_written_and_kept_with_the_run(measured: tuple[Context, Path]):
    context, folder = measured
    names = {
        "dead_filters.csv", "dead_filters.png", "dead_filters.svg", "dead_filters_trainings.csv",
        "dead_filters_means.csv", "dead_filters_conditions.csv", "dead_filters_conditions.md",
        "dead_filters_contrasts.csv", "dead_filters_contrasts.md", "findings.md",
    }  # fmt: skip
    # The narrow figures are for a page, which an experiment's run has not.
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == names | {"narrow"}
    assert folder.parent == context.home.reports
    parent = parent_of(context.store)
    assert set(context.store.artifacts(parent.id, "experiment")) == {f"experiment/{name}" for name in names}
    assert len(pd.read_csv(folder / "dead_filters_trainings.csv")) == 12
    assert len(pd.read_csv(folder / "dead_filters_means.csv")) == 12
    assert len(pd.read_csv(folder / "dead_filters.csv")) == 12 * 4


def test_the_same_command_again_trains_nothing_and_changes_nothing(measured: tuple[Context, Path]):
    context, folder = measured
    before = {run.id for run in context.store.runs()}
    assert experiment(DEAD, context, DATA) == folder
    assert {run.id for run in context.store.runs()} == before


def test_more_seeds_and_conditions_train_only_those_and_fewer_compare_fewer(context: Context, tiny: Dataset):
    parent = run(plan(), context, tiny)
    before = {run.id for run in compared(context.store, parent)}
    assert len(before) == 4
    more = run(plan(seeds=(0, 1, 2), conditions=3), context, tiny)
    assert more.id == parent.id
    after = compared(context.store, more)
    assert [run.params["seed"] for run in after] == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert before < {run.id for run in after}
    assert len(context.store.runs(stage="replicate")) == 9
    fewer = run(plan(seeds=(1,)), context, tiny)
    assert [run.params["seed"] for run in compared(context.store, fewer)] == ["1"] * 2


def interrupt_in(number: int, patch: pytest.MonkeyPatch) -> None:
    """Has Ctrl-C come while the training with this number, counted from 1, is under way."""
    trained, begun = replicates.replicate, []

    def stop(*arguments: Any, **more: Any) -> Generator[Measured]:
        begun.append(1)
        if len(begun) == number:
            raise KeyboardInterrupt
        yield from trained(*arguments, **more)

    patch.setattr(replicates, "replicate", stop)


@pytest.fixture
def interrupted(context: Context, tiny: Dataset) -> Run:
    """An experiment that Ctrl-C ended in its third training."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in(3, patch)
        with pytest.raises(KeyboardInterrupt):
            run(plan(), context, tiny)
    return parent_of(context.store)


def test_an_interrupted_training_is_closed_and_repeated_and_the_finished_ones_are_kept(
    context: Context, tiny: Dataset, interrupted: Run
):
    assert (interrupted.status, interrupted.tags["status_reason"]) == ("KILLED", "interrupted")
    runs = context.store.runs(stage="replicate")
    assert sorted(run.status for run in runs) == ["FINISHED", "FINISHED", "KILLED"]
    kept = {run.id for run in runs if run.status == "FINISHED"}
    parent = run(plan(), context, tiny)
    assert (parent.id, parent.status) == (interrupted.id, "FINISHED")
    finished = compared(context.store, parent)
    assert len(finished) == 4
    assert kept < {run.id for run in finished}
    assert len(context.store.runs(stage="replicate")) == 5


def test_an_experiment_under_way_is_not_begun_again_and_a_killed_one_is_continued(
    context: Context, tiny: Dataset, interrupted: Run
):
    (stopped,) = context.store.runs(stage="replicate", status="KILLED")
    # As this process, which lives, would have left them while it works; then as one that was killed.
    for run_id in (interrupted.id, stopped.id):
        context.store.resume(run_id)
    with pytest.raises(StudyError, match=rf"This experiment is already running \(run {interrupted.id}"):
        run(plan(), context, tiny)
    # The process that had this one's number before it.
    *named, began = interrupted.worker.split()
    context.store.tag(interrupted.id, **{WORKER: " ".join([*named, str(int(began) - 1)])})
    assert run(plan(), context, tiny).id == interrupted.id
    assert context.store.get(stopped.id).status == "KILLED"
    assert len(context.store.runs(stage="replicate", status="FINISHED")) == 4


def test_other_epochs_and_another_precision_are_experiments_of_their_own(context: Context, tiny: Dataset):
    other = replace(context, machine=replace(context.machine, precision="bf16"))
    parents = {run(plan(), context, tiny).id, run(plan(), other, tiny).id, run(plan(epochs=2), context, tiny).id}
    assert len(parents) == 3
    assert {len(compared(context.store, context.store.get(parent))) for parent in parents} == {4}


def test_a_crash_is_recorded(context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trainings, "filter_counts", lambda model, images: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(plan(), context, tiny)
    runs = context.store.runs()
    assert [(run.status, run.tags["status_reason"]) for run in runs] == [("FAILED", "crashed")] * 2


def test_a_training_that_diverges_is_a_result_and_not_repeated(context: Context, tiny: Dataset):
    first, second = plan().conditions
    wild = replace(plan(), conditions=(first, replace(second, config=replace(second.config, weight_decay=1e30))))
    for _ in range(2):
        parent = run(wild, context, tiny)
        reasons = [run.tags["status_reason"] for run in compared(context.store, parent)]
        assert reasons == ["complete", "diverged"] * 2
        assert len(context.store.runs(stage="replicate")) == 4
    trainings, counts = tracked.dead_filters_tables(context.store, parent)
    assert trainings["diverged"].tolist() == [False, True] * 2
    assert trainings["val_accuracy"].isna().tolist() == [False, True] * 2
    assert counts.groupby("condition")["step"].unique().map(list).tolist() == [[0, 6], [0]]


@pytest.fixture
def searched(finished_study: Finished, tmp_path: Path, machine: Machine) -> Context:
    # The artifacts stay behind: what is asked of a search lies in the databases.
    return surroundings(copy_of(finished_study.context.home, tmp_path / "searched"), machine)


@pytest.mark.parametrize("model", ["cnn", "ffnn"])
def test_the_winner_and_its_runners_up_are_trained_with_other_seeds_as_long_as_in_the_search(
    model: str, searched: Context, finished_study: Finished
):
    trials = searched.store.runs(stage="trial", search=f"digits-{model}", status_reason="complete")
    if len(trials) < 2:
        pytest.skip("the pruner left one")
    folder = experiment(ExperimentConfig(name="winner", model=model, top=2, seeds=3), searched)
    parent = parent_of(searched.store)
    assert (parent.params["epochs"], parent.tags["search"]) == ("2", f"digits-{model}")
    ranked = sorted(trials, key=lambda run: -run.metrics["best_val_accuracy"])[:2]
    runs = searched.store.runs(stage="replicate")
    assert len(runs) == 6
    own = {run.params["seed"] for run in ranked}
    for trial in ranked:
        again = [run for run in runs if run.tags["trial_run"] == trial.id]
        assert {run.params["learning_rate"] for run in again} == {trial.params["learning_rate"]}
        assert len({run.params["seed"] for run in again} - own) == 3
    table = pd.read_csv(folder / "winner_ranking.csv")
    assert table["searched"].tolist() == pytest.approx([run.metrics["best_val_accuracy"] for run in ranked])
    assert (folder / "winner.png").is_file()


def test_choices_of_training_are_changed_one_at_a_time_from_the_best_trial(searched: Context, tiny: Dataset):
    folder = experiment(ExperimentConfig(name="recipe", model="ffnn", seeds=1, epochs=2), searched)
    best = best_trial(searched.store, tiny.key, "ffnn")
    runs = compared(searched.store, parent_of(searched.store))
    configs = {run.condition: run.train_config for run in runs}
    name = f"trial {best.trial_number} of {best.search}"
    assert configs[name] == replace(best.train_config, epochs=2, seed=0)
    assert configs[f"{name}: cosine schedule"] == replace(configs[name], schedule="cosine")
    assert configs[f"{name}: cosine schedule + 1 epoch"] == replace(configs[name], schedule="cosine", epochs=1)
    assert len(configs) == len(set(configs.values())) == 14
    table = pd.read_csv(folder / "recipe_effects.csv")
    assert table["condition"].tolist()[:3] == [name, "cosine schedule", "AdamW with decay 0.1"]
    assert table["val_accuracy_mean"].tolist() == pytest.approx([run.metrics["val_accuracy"] for run in runs])
    assert (folder / "recipe.png").is_file()


def test_a_winner_without_a_rival_is_refused(searched: Context):
    for run in searched.store.runs(stage="trial", search="digits-cnn", status_reason="complete")[1:]:
        searched.store.tag(run.id, status_reason="pruned")
    with pytest.raises(StudyError, match="has only one complete trial"):
        experiment(ExperimentConfig(name="winner"), searched, DATA)
    assert searched.store.runs(stage="experiment") == []


def test_the_latest_experiment_is_shown_and_one_that_was_not_run_is_told_apart(
    measured: tuple[Context, Path], tiny: Dataset, tmp_path: Path
):
    store, report = measured[0].store, Report(tmp_path)
    parent = tracked.latest_experiment(store, "dead-filters", tiny.key, "cnn")
    assert parent
    for exhibit in tracked.experiment_exhibits(store, parent):
        report.add(exhibit)
    assert report.sections[0].heading == "Why filters fall silent and collapse"
    assert (tmp_path / "dead_filters.png").is_file()
    assert tracked.latest_experiment(store, "winner", tiny.key, "cnn") is None
    assert tracked.latest_experiment(store, "dead-filters", tiny.key, "ffnn") is None


def test_the_command_runs_an_experiment_and_says_what_was_found(home: Home):
    ended = study_here(
        "experiment", "dead-filters", "--dataset", "digits", "--seeds", "1", "--epochs", "1", home=home.root
    )
    assert ended.code == 0, ended.err
    assert "12/12" in ended.out
    assert ended.out.count("fewer than 3 seeds are no test") == 1
    assert ended.out.count("The warm-up takes 100 steps, and a whole training has 6: ") == 1
    assert "Tables and figure: " in ended.out
    (run,) = Store(home).runs(stage="experiment")
    assert "fewer than 3 seeds are no test" in run.tags[NOTE]
    assert "`study experiment dead-filters --dataset digits --epochs 1 --seeds 1`" in run.tags[NOTE]
    listed = study_here("runs", home=home.root).out
    assert "dead-filters on digits, 1 epoch" in listed
    assert "seed 0" not in listed
    assert study_here("runs", "--dataset", "digits", home=home.root).out == listed
    refused = study_here("runs", "--dataset", "dreams", home=home.root)
    assert (refused.code, refused.err) == (2, "study: Unknown data set 'dreams': choose one of digits.\n")


def test_a_condition_keeps_its_name_with_the_run(measured: tuple[Context, Path]):
    trainings, counts = tracked.dead_filters_tables(measured[0].store, parent_of(measured[0].store))
    assert list(dict.fromkeys(trainings["condition"])) == [condition.label for condition in small(2)]
    assert torch.tensor(sorted(counts["step"].unique())).tolist() == [0, 6, 10, 12]
