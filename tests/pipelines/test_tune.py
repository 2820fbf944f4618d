import math
import re
from collections.abc import Generator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from torch import Tensor, nn

import pipelines.tune as stages
from pipelines.continued import UnderWay
from pipelines.reproduce import search_and_retrain
from pipelines.session.context import Context
from pipelines.trials import trainings as stage
from pipelines.trials.runner import run_trials
from pipelines.tune import tune
from study.architectures import CNNConfig, FFNNConfig
from study.config import DataConfig, SearchConfig, TrainConfig
from study.data import Dataset, Labelled
from study.device import Machine, prepare
from study.errors import OutOfMemory, StudyError
from study.home import Home
from study.provenance import PACKAGES, git_commit
from study.ranges import Choices, Range
from study.search import search
from study.system.processes import named
from study.tracking import best
from study.tracking.runs import Run
from study.tracking.tags import retrain_tags
from study.tracking.writer import Writer
from study.training import Pending
from tests.conftest import needs_gpu, surroundings

SMALL = SearchConfig(name="small", model=FFNNConfig(hidden=4), trials=3, epochs=2, batch_size=40, pruner="none")


def trials(context: Context, name: str = "small") -> list[Run]:
    return sorted(context.store.runs(stage="trial", search=name), key=lambda run: int(run.tags["optuna_trial"]))


def in_optuna(context: Context, config: SearchConfig, dataset: Dataset) -> search.Search:
    return search.open_search(config, context.storage, digest=dataset.digest)


def steps(context: Context, run: Run, name: str) -> list[int]:
    return [point.step for point in context.store.client.get_metric_history(run.id, name)]


def stopping_in(trial: int, end: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the training of trial number `trial` end in `end` after its first epoch."""
    whole, epochs = stage.build_model, stage.epochs
    begun: list[int] = []

    def counted(*arguments: object, **options: object) -> object:
        begun.append(1)
        return whole(*arguments, **options)

    def stopped(*arguments: Any, **options: Any) -> Generator[Pending]:
        is_meant = len(begun) == trial + 1
        for pending in epochs(*arguments, **options):
            yield pending
            if is_meant:
                raise end

    monkeypatch.setattr(stage, "build_model", counted)
    monkeypatch.setattr(stage, "epochs", stopped)


def test_every_trial_is_a_run_below_its_search(finished_study):
    context, parent = finished_study.context, finished_study.parents["cnn"]
    runs = trials(context, "digits-cnn")
    assert [run.tags["optuna_trial"] for run in runs] == ["0", "1", "2"]
    for run in runs:
        assert run.tags["mlflow.parentRunId"] == parent
        assert (run.tags["model"], run.tags["dataset"], run.tags["base_seed"]) == ("cnn", "digits", "0")
        assert run.status == "FINISHED"
        assert run.tags["status_reason"] in ("complete", "pruned")
    above = context.store.get(parent)
    assert (above.status, above.tags["stage"], above.tags["status_reason"]) == ("FINISHED", "search", "complete")
    assert context.store.client.get_experiment(above.experiment_id).name == "digits"


def test_a_trial_records_all_its_settings_the_data_the_machine_and_the_versions(finished_study):
    context = finished_study.context
    for run in trials(context, "digits-cnn"):
        settings = {field.name for kind in (TrainConfig, CNNConfig, DataConfig) for field in fields(kind)}
        assert settings <= set(run.params)
        assert run.params["dataset_digest"] == finished_study.dataset.digest
        assert (run.params["device"], run.params["precision"]) == ("cpu", "float32")
        assert {f"version_{package}" for package in (*PACKAGES, "python")} <= set(run.params)
        assert run.params["git_commit"].rstrip("+") == git_commit().rstrip("+")
        config = TrainConfig.from_params(run.params)
        assert config.model == CNNConfig(filters=(4, 6))
        assert (config.epochs, config.batch_size, config.seed) == (2, 30, int(run.tags["optuna_trial"]))


def test_both_stores_tell_the_same_of_each_trial(finished_study):
    context = finished_study.context
    for name, config in finished_study.searches.items():
        optuna_trials = in_optuna(context, config, finished_study.dataset).get_trials()
        for run, trial in zip(trials(context, config.name), optuna_trials, strict=True):
            assert trial.user_attrs["mlflow_run"] == run.id
            assert trial.user_attrs["status_reason"] == run.tags["status_reason"]
            assert float(run.params["learning_rate"]) == trial.params["learning_rate"]
            assert float(run.params["weight_decay"]) == trial.params["weight_decay"]
            assert run.params["model"] == name
            curve = context.store.history(run.id).query("epoch > 0").set_index("epoch")["val_accuracy"]
            assert curve.to_dict() == trial.intermediate_values
            assert run.metrics["best_val_accuracy"] == curve.max()


def test_every_epochs_metrics_are_recorded_exactly_once(finished_study):
    context = finished_study.context
    for run in trials(context, "digits-cnn"):
        epochs = [1, 2] if run.tags["status_reason"] == "complete" else [1]
        for name in (
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
            "system/epoch_seconds",
            "system/images_per_second",
        ):
            assert steps(context, run, name) == epochs
        assert not [name for name in run.metrics if "test" in name]


def test_the_searchs_figures_and_their_numbers_are_on_its_run(finished_study):
    context, parent = finished_study.context, finished_study.parents["cnn"]
    names = ("heatmap", "history", "importance", "slices")
    assert context.store.artifacts(parent, "search") == [
        f"search/{name}.{kind}" for name in names for kind in ("csv", "png", "svg")
    ]
    best = context.store.get(parent).metrics["best_val_accuracy"]
    complete = [run for run in trials(context, "digits-cnn") if run.tags["status_reason"] == "complete"]
    assert best == max(run.metrics["best_val_accuracy"] for run in complete)


def test_the_test_images_are_never_shown_to_a_search(context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch):
    def pixels(images: Labelled) -> set[bytes]:
        return {image.contiguous().numpy().tobytes() for image in images.images}

    epochs, shown = stage.epochs, []

    def watched(state, train, config, machine, *, rows, evaluate, **options: object) -> Generator[Pending]:
        shown.append((pixels(train.subset(rows)), {name: pixels(images) for name, images in evaluate.items()}))
        return epochs(state, train, config, machine, rows=rows, evaluate=evaluate, **options)

    monkeypatch.setattr(stage, "epochs", watched)
    # Made different from each other in one pixel, so that no two are equal by chance.
    marked = replace(tiny, train=numbered(tiny.train, 0), test=numbered(tiny.test, 1))
    tune(replace(SMALL, trials=2, epochs=1), marked, context)
    splits = marked.splits
    assert len(shown) == 2
    for train, evaluated in shown:
        assert train == pixels(splits.train)
        assert evaluated == {"val": pixels(splits.validation)}
        assert not (train | evaluated["val"]) & pixels(marked.test)
        assert not train & evaluated["val"]


def numbered(images: Labelled, part: int) -> Labelled:
    marked = images.images.clone()
    for number, image in enumerate(marked):
        image[0, 0, :2] = image.new_tensor([number, part])
    return Labelled(marked, images.labels)


def test_a_diverged_trial_is_recorded_as_such_in_both_stores_and_the_search_goes_on(context: Context, tiny: Dataset):
    config = replace(SMALL, trials=2, learning_rate=Range(low=1e30, high=1e31))
    parent = tune(config, tiny, context)
    assert context.store.get(parent).status == "FINISHED"
    for run, trial in zip(trials(context), in_optuna(context, config, tiny).get_trials(), strict=True):
        assert (run.status, run.tags["status_reason"], run.tags["stopped_epoch"]) == ("FINISHED", "diverged", "1")
        assert "epoch 1" in run.tags["stopped_by"]
        assert (trial.state, trial.user_attrs["status_reason"]) == (TrialState.PRUNED, "diverged")
        assert math.isnan(run.metrics.get("best_val_accuracy", math.nan))
    assert context.store.artifacts(parent, "search")


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [(KeyboardInterrupt(), "KILLED", "interrupted"), (RuntimeError("a bug"), "FAILED", "crashed")],
)
def test_an_ended_trial_is_closed_in_both_stores_and_the_same_search_reaches_its_total(
    end: BaseException, status: str, reason: str, context: Context, tiny: Dataset
):
    with pytest.MonkeyPatch.context() as patch:
        stopping_in(1, end, patch)
        with pytest.raises(type(end)):
            tune(SMALL, tiny, context)
    [search_run] = context.store.runs(stage="search")
    assert (search_run.status, search_run.tags["status_reason"]) == (status, reason)
    ended = trials(context)[1]
    assert (ended.status, ended.tags["status_reason"]) == (status, reason)
    optuna_trials = in_optuna(context, SMALL, tiny).get_trials()
    assert (optuna_trials[1].state, optuna_trials[1].user_attrs["status_reason"]) == (TrialState.FAIL, reason)

    assert tune(SMALL, tiny, context) == search_run.id
    assert context.store.get(search_run.id).status == "FINISHED"
    runs = trials(context)
    assert [run.tags["status_reason"] for run in runs] == ["complete", reason, "complete", "complete"]
    assert runs[2].tags["retry_of"] == "1"
    assert runs[2].params["learning_rate"] == ended.params["learning_rate"]
    assert search.finished(in_optuna(context, SMALL, tiny)) == 3


def test_changed_images_begin_a_search_of_their_own_and_that_is_said(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str]
):
    folder = replace(tiny, config=replace(tiny.config, dataset="/photos"), key="photos-1")
    tune(SMALL, folder, context)
    changed = replace(folder, key="photos-2", digest="f" * 64)
    capsys.readouterr()
    for name in ("another", "one more"):
        tune(replace(SMALL, name=name), changed, context)
    said = "Earlier searches on /photos were of other images (photos-1): a new one begins."
    assert capsys.readouterr().out.count(said) == 1


def test_a_search_does_not_go_on_in_the_runs_of_another_one_of_its_name(
    context: Context, other_home: Home, machine: Machine, tiny: Dataset
):
    tune(SMALL, tiny, context)
    before = [(run.id, run.status, run.tags) for run in context.store.runs()]
    same_runs = replace(surroundings(other_home, machine), store=context.store)
    for _ in range(2):
        with pytest.raises(StudyError, match=f"has runs of {SMALL.name}, and .* has no such search: use the storage"):
            tune(SMALL, tiny, same_runs)
    assert not search.exists(SMALL.name, same_runs.storage), "a refused search was created"
    # Nor does one that has trials and runs of its own elsewhere.
    tune(SMALL, tiny, surroundings(other_home, machine))
    with pytest.raises(StudyError, match="are of another search than the trials in"):
        tune(replace(SMALL, trials=4), tiny, same_runs)
    assert [(run.id, run.status, run.tags) for run in context.store.runs()] == before
    tune(replace(SMALL, trials=4), tiny, context)
    assert len(trials(context)) == 4


def test_a_search_whose_runs_are_all_gone_is_not_sent_to_doctor(
    context: Context, other_home: Home, machine: Machine, tiny: Dataset
):
    tune(SMALL, tiny, context)
    emptied = replace(context, store=surroundings(other_home, machine).store)
    with pytest.raises(StudyError, match="its run is not in") as raised:
        tune(SMALL, tiny, emptied)
    assert "doctor" not in str(raised.value)
    for run in context.store.runs(stage="search"):
        context.store.client.delete_run(run.id)
    with pytest.raises(StudyError, match="doctor --fix"):
        tune(SMALL, tiny, context)


def test_it_is_said_where_another_search_has_the_best_which_is_retrained(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str]
):
    tune(replace(SMALL, name="good"), tiny, context)
    hopeless = replace(SMALL, name="hopeless", trials=1, learning_rate=Range(low=1e-9, high=2e-9))
    search_and_retrain(hopeless, tiny, context, epochs=1)
    output = capsys.readouterr().out
    assert re.search(r"The best ffnn of all searches on digits is trial \d of good, validation accuracy 0\.", output)
    [run] = context.store.runs(stage="retrain")
    assert run.tags["search"] == "good"


def test_a_search_ends_well_where_another_process_begins_to_retrain_its_best_meanwhile(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def retrained_elsewhere(trial: Run, *arguments: object, **options: object) -> str:
        tags = retrain_tags(trial, trial.base_seed)
        raise UnderWay(context.store.get(context.store.start(tiny.key, "another", tags=tags, params={})))

    monkeypatch.setattr("pipelines.reproduce.retrain", retrained_elsewhere)
    search_and_retrain(SMALL, tiny, context, epochs=1)
    [run] = context.store.runs(stage="retrain")
    said = f"is being retrained by {named(run.worker)}, for which this command does not wait: run {run.id}."
    assert said in capsys.readouterr().out


def test_a_search_that_is_done_says_so_and_starts_nothing(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str]
):
    config = replace(SMALL, trials=1, epochs=1)
    parent = tune(config, tiny, context)
    assert tune(config, tiny, context) == parent
    assert "1 finished trial already" in capsys.readouterr().out
    assert len(trials(context)) == 1
    assert tune(replace(config, trials=2), tiny, context) == parent
    assert len(trials(context)) == 2


def test_artifacts_lie_below_home(finished_study):
    run = finished_study.context.store.client.get_run(finished_study.parents["cnn"])
    assert run.info.artifact_uri.startswith((finished_study.context.home.store / "artifacts").as_uri())
    assert Path(finished_study.context.home.store / "optuna.db").is_file()


def in_turns(
    context: Context, dataset: Dataset, config: SearchConfig, places: int, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A search whose trials take turns in this process, as they do on a GPU."""

    def with_places(*arguments: Any, **options: Any) -> None:
        run_trials(*arguments, **{**options, "places": places})

    monkeypatch.setattr(stages, "run_trials", with_places)
    return tune(config, dataset, context)


def test_trials_that_take_turns_are_those_done_one_after_the_other(
    context: Context, other_home: Home, machine: Machine, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    config = replace(SMALL, trials=5)
    alone = surroundings(other_home, machine)
    tune(config, tiny, alone)
    in_turns(context, tiny, config, 3, monkeypatch)
    turned = trials(context)
    assert len(turned) == 5
    for ours, theirs in zip(turned, trials(alone), strict=True):
        assert ours.params["learning_rate"] == theirs.params["learning_rate"]
        assert ours.metrics["best_val_loss"] == theirs.metrics["best_val_loss"]
        assert steps(context, ours, "val_loss") == [1, 2]
        assert (ours.status, ours.tags["status_reason"]) == ("FINISHED", "complete")
    # They were under way together.
    first_end = min(context.store.client.get_run(run.id).info.end_time for run in turned)
    assert sum(run.started <= first_end for run in turned) >= 3


def test_an_interruption_closes_all_trials_that_take_turns_in_both_stores(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    config = replace(SMALL, trials=5)
    stopping_in(1, KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        in_turns(context, tiny, config, 3, monkeypatch)
    assert [(run.status, run.tags["status_reason"]) for run in trials(context)] == [("KILLED", "interrupted")] * 3
    # What was measured until then is there, whoever was interrupted.
    assert [steps(context, run, "val_loss") for run in trials(context)] == [[1], [1], []]
    optuna_study = in_optuna(context, config, tiny)
    assert [trial.user_attrs["status_reason"] for trial in optuna_study.trials] == ["interrupted"] * 3
    assert {trial.state for trial in optuna_study.trials} == {TrialState.FAIL}
    monkeypatch.undo()
    tune(config, tiny, context)
    assert search.finished(in_optuna(context, config, tiny)) == 5
    again = [run.tags["retry_of"] for run in trials(context) if "retry_of" in run.tags]
    assert sorted(again) == ["0", "1", "2"]


def test_a_stop_while_the_end_of_a_trial_is_written_leaves_one_reason(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    drain = Writer.drain

    def interrupted_once(writer: Writer, **options: bool) -> None:
        monkeypatch.setattr(Writer, "drain", drain)
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "drain", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        tune(SMALL, tiny, context)
    [run] = trials(context)
    assert (run.status, run.tags["status_reason"]) == ("KILLED", "interrupted")
    [trial] = in_optuna(context, SMALL, tiny).get_trials()
    assert (trial.state, trial.user_attrs["status_reason"]) == (TrialState.FAIL, "interrupted")


def hungry_in(chosen: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the trainings that are the `chosen` ones to begin ask for more memory than there is."""
    whole = stage.build_model
    begun: list[int] = []

    class Hungry(nn.Module):
        def __init__(self, model: nn.Module):
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images) + torch.empty(2**50).sum()

    def build(*arguments: Any, **options: Any) -> nn.Module:
        begun.append(1)
        model = whole(*arguments, **options)
        return Hungry(model) if len(begun) - 1 in chosen else model

    monkeypatch.setattr(stage, "build_model", build)


def test_a_trial_without_memory_fails_with_a_sentence_and_the_search_goes_on(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hungry_in({1}, monkeypatch)
    tune(SMALL, tiny, context)
    runs = trials(context)
    assert [run.tags["status_reason"] for run in runs] == ["complete", "out of memory", "complete", "complete"]
    assert runs[1].status == "FAILED"
    optuna_study = in_optuna(context, SMALL, tiny)
    assert optuna_study.trials[1].state == TrialState.FAIL
    assert "--workers" in optuna_study.trials[1].user_attrs["stopped"]
    messages = [line for line in capsys.readouterr().out.splitlines() if "no memory left" in line]
    assert len(messages) == 1
    assert messages[0].startswith("A trial failed: cpu has no memory left")
    assert "--workers" in messages[0]


def test_a_search_of_which_trial_after_trial_has_no_memory_ends_with_the_sentence(
    context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    hungry_in({1, 2, 3}, monkeypatch)
    with pytest.raises(OutOfMemory, match="--workers"):
        tune(replace(SMALL, trials=8), tiny, context)
    reasons = [run.tags["status_reason"] for run in trials(context)]
    assert reasons == ["complete", "out of memory", "out of memory", "out of memory"]
    # Where there is memory again, the same command makes up for all.
    monkeypatch.undo()
    tune(replace(SMALL, trials=8), tiny, context)
    assert search.finished(in_optuna(context, SMALL, tiny)) == 8


@needs_gpu
def test_a_search_on_a_gpu_takes_turns_and_both_stores_agree(home: Home, tiny: Dataset):
    context = surroundings(home, prepare("cuda"))
    config = replace(SMALL, trials=8, epochs=4, pruner="median")
    tune(config, tiny, context)
    optuna_study = in_optuna(context, config, tiny)
    assert search.finished(optuna_study) == 8
    for run, trial in zip(trials(context), optuna_study.trials, strict=True):
        assert run.tags["status_reason"] == trial.user_attrs["status_reason"]
        assert steps(context, run, "val_loss") == list(trial.intermediate_values)


def test_too_few_images_for_a_validation_split_are_told_before_anything_is_recorded(context: Context, tiny: Dataset):
    few = replace(tiny, train=tiny.train.subset(torch.arange(15)))
    with pytest.raises(StudyError, match="needs at least"):
        tune(SMALL, few, context)
    assert context.store.runs() == []


def test_a_search_without_a_complete_trial_tells_of_no_best_one(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str]
):
    config = replace(SMALL, trials=1, learning_rate=Range(low=1e30, high=1e31))
    tune(config, tiny, context)
    out = capsys.readouterr().out
    assert "diverged" in out
    assert "; best none" in out


def test_trials_that_are_tied_at_the_best_are_said(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    tune(replace(SMALL, epochs=1), tiny, context)
    runs = best.complete_trials(context.store, tiny.key, search="small")
    highest = runs[0].metrics["best_val_accuracy"]
    tied = [run.trial_number for run in runs[1:] if run.metrics["best_val_accuracy"] == highest]
    assert ("Tied with" in capsys.readouterr().out) == bool(tied)
    for equal, words in ((2, f"Tied with trial {runs[1].trial_number}: "), (3, "Tied with 2 more trials (")):
        values = [replace(run, metrics=run.metrics | {"best_val_accuracy": 0.5}) for run in runs[:equal]]
        others = [replace(run, metrics=run.metrics | {"best_val_accuracy": 0.4}) for run in runs[equal:]]
        monkeypatch.setattr("pipelines.tune.complete_trials", lambda *_, shown=[*values, *others], **__: shown)
        tune(replace(SMALL, epochs=1), tiny, context)
        assert f"validation accuracy 0.5000. {words}" in capsys.readouterr().out


def test_a_search_whose_trials_end_in_the_warm_up_says_so_once(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str]
):
    steps = 2 * math.ceil(len(tiny.splits.train_rows) / 40)
    tune(replace(SMALL, trials=1, warmup_steps=steps - 1), tiny, context)
    assert "The warm-up takes" not in capsys.readouterr().out
    tune(replace(SMALL, name="drawn", choices={"warmup_steps": Choices(values=(0, steps))}), tiny, context)
    said = capsys.readouterr().out
    assert said.count(f"The warm-up takes {steps} steps, and a whole training has {steps}: ") == 1
