import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from pipelines import retrain as stage
from pipelines.retrain import retrain
from pipelines.seeds import retrain_once, retrain_seeds
from pipelines.session.context import Context
from pipelines.trials.trainings import TrainedEpoch
from study.architectures import CNNConfig
from study.config import TrainConfig
from study.data import Dataset, normalise
from study.errors import OutOfMemory, StudyError, TakenOver
from study.models import build_model
from study.tracking.artifacts import weights_path
from study.tracking.best import best_retrained
from study.tracking.checkpoints import SLOTS, Checkpoint, Checkpoints
from study.tracking.registry import model_digests, model_name, ready_model
from study.tracking.runs import WORKER, Run
from study.tracking.store import Store
from study.training import predict

EPOCHS = 3
ELSEWHERE = "another-host 12 another-boot/pid:[1] 345"
SPEED = ("system/epoch_seconds", "system/images_per_second")
RECORDED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", *SPEED)


def trial(context: Context, dataset: Dataset, **changed: object) -> Run:
    """A finished trial as a search would have recorded it."""
    settings = {"model": CNNConfig(filters=(4, 6)), "learning_rate": 5e-3, "weight_decay": 1e-3, "batch_size": 40}
    tags = {"stage": "trial", "model": "cnn", "search": "toy", "dataset": dataset.key}
    params = {**TrainConfig(**settings | changed).params(), **context.params(dataset)}
    run_id = context.store.start(
        dataset.key, "toy trial 0", tags={**tags, "optuna_trial": "0", "base_seed": "5"}, params=params
    )
    context.store.log(run_id, {"best_val_accuracy": 0.5, "best_val_loss": 1.0})
    context.store.finish(run_id, "FINISHED", "complete")
    return context.store.get(run_id)


@pytest.fixture
def toy(context: Context, tiny: Dataset) -> Run:
    return trial(context, tiny)


def weights(store: Store, run_id: str) -> dict[str, dict[str, torch.Tensor]]:
    return {path: store.load_tensors(run_id, path)[0] for path in store.artifacts(run_id, "weights")}


def assert_equal_at_every_epoch(store: Store, first: str, second: str) -> None:
    ours, others = weights(store, first), weights(store, second)
    assert list(ours) == list(others) == [f"weights/epoch_{epoch:03d}.safetensors" for epoch in range(EPOCHS + 1)]
    for path, tensors in ours.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, others[path][name]), f"{path}: {name}"


def assert_every_epoch_recorded_once(store: Store, run_id: str) -> None:
    for name in RECORDED:
        # MLflow gives them in the order of their times.
        steps = sorted(point.step for point in store.client.get_metric_history(run_id, name))
        assert steps == list(range(0 if name.startswith("test") else 1, EPOCHS + 1)), name


def interrupt_after(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Has the retraining be interrupted once `epoch` is kept."""
    keep = stage._keep_epoch

    def then_stop(done: TrainedEpoch, *others: object) -> None:
        keep(done, *others)
        if done.epoch.number == epoch:
            raise KeyboardInterrupt

    patch.setattr(stage, "_keep_epoch", then_stop)


def interrupt_before_the_metrics_of(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Has the retraining be interrupted where weights and state of `epoch` are kept and its metrics are not."""
    log = Store.log

    def stop(store: Store, run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        if step == epoch and "test_loss" in metrics:
            raise KeyboardInterrupt
        log(store, run_id, metrics, step)

    patch.setattr(Store, "log", stop)


def file_of(store: Store, run_id: str, path: str) -> Path:
    return Path(unquote(urlparse(store.client.get_run(run_id).info.artifact_uri).path)) / path


def test_a_retraining_leaves_the_weights_before_and_after_every_epoch(finished_study):
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    assert store.artifacts(run_id, "weights") == [f"weights/epoch_{epoch:03d}.safetensors" for epoch in range(3)]
    run = store.get(run_id)
    untrained = build_model(CNNConfig(filters=(4, 6)), classes=10, seed=0).state_dict()
    for name, tensor in weights(store, run_id)["weights/epoch_000.safetensors"].items():
        assert torch.equal(tensor, untrained[name])
    assert (run.status, run.tags["stage"], run.tags["status_reason"]) == ("FINISHED", "retrain", "complete")
    assert (run.params["epochs"], run.params["seed"]) == ("2", "0")
    assert run.params["learning_rate"] == store.get(run.tags["trial_run"]).params["learning_rate"]
    assert run.params["dataset_digest"] == finished_study.dataset.digest
    assert run.params["background"] == "white"


def test_a_retraining_describes_its_data_set(finished_study):
    described = finished_study.context.store.load_json(finished_study.retrained["cnn"], "dataset.json")
    assert described["classes"] == [str(digit) for digit in range(10)]
    assert (described["train"], described["test"]) == (120, 40)
    assert described["digest"] == finished_study.dataset.digest


@pytest.mark.parametrize("model", ["cnn", "ffnn"])
def test_predictions_are_those_of_the_last_weights_and_give_the_final_accuracies(model: str, finished_study):
    store, dataset = finished_study.context.store, finished_study.dataset
    run = store.get(finished_study.retrained[model])
    network = build_model(finished_study.searches[model].model, classes=10, seed=9)
    network.load_state_dict(weights(store, run.id)["weights/epoch_002.safetensors"])
    for name, part in {"train": dataset.train, "test": dataset.test}.items():
        kept, _ = store.load_tensors(run.id, f"predictions/{name}.safetensors")
        assert torch.equal(kept["labels"], part.labels)
        assert torch.allclose(kept["logits"], predict(network, part.images), atol=1e-5)
        accuracy = (kept["logits"].argmax(1) == kept["labels"]).double().mean().item()
        assert run.metrics[f"final_{name}_accuracy"] == accuracy
    assert run.metrics["final_test_accuracy"] == run.metrics["test_accuracy"]


@pytest.mark.parametrize("model", ["cnn", "ffnn"])
def test_the_registered_model_answers_with_the_probabilities_of_the_last_weights(model: str, finished_study):
    context, dataset = finished_study.context, finished_study.dataset
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(context.store.uri)
    try:
        served = mlflow.pyfunc.load_model(f"models:/digits-{model}@best")
    finally:
        mlflow.set_tracking_uri(before)
    network = build_model(finished_study.searches[model].model, classes=10, seed=9)
    network.load_state_dict(weights(context.store, finished_study.retrained[model])["weights/epoch_002.safetensors"])
    for count in (1, 2, 7):
        images = dataset.test.images[:count]
        with torch.no_grad():
            expected = network(normalise(images)).softmax(1).numpy()
        answer = served.predict(images.numpy())
        assert np.allclose(answer.filter(like="p_"), expected, atol=1e-5)
        assert list(answer["class"]) == [dataset.classes[number] for number in expected.argmax(1)]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_same_retrain_twice_gives_equal_weights(precision: str, context: Context, tiny: Dataset, toy: Run):
    context = replace(context, machine=replace(context.machine, precision=precision))
    first, second = (retrain(toy, tiny, context, epochs=EPOCHS) for _ in range(2))
    assert first != second
    assert_equal_at_every_epoch(context.store, first, second)
    assert_every_epoch_recorded_once(context.store, first)


def test_another_seed_is_another_run_with_other_weights(context: Context, tiny: Dataset, toy: Run):
    first = retrain(toy, tiny, context, epochs=1)
    other = retrain(toy, tiny, context, epochs=1, seed=6)
    assert [context.store.get(run).params["seed"] for run in (first, other)] == ["5", "6"]
    path = "weights/epoch_001.safetensors"
    assert not torch.equal(
        weights(context.store, first)[path]["fc.weight"], weights(context.store, other)[path]["fc.weight"]
    )


@pytest.mark.parametrize(
    ("interrupt", "epoch"),
    [
        (interrupt_after, 0),
        (interrupt_after, 1),
        (interrupt_after, 3),
        (interrupt_before_the_metrics_of, 0),
        (interrupt_before_the_metrics_of, 2),
    ],
)
def test_an_interrupted_retraining_continues_as_if_never_interrupted(
    interrupt: Callable[[int, pytest.MonkeyPatch], None], epoch: int, context: Context, tiny: Dataset, toy: Run
):
    with pytest.MonkeyPatch.context() as patch:
        interrupt(epoch, patch)
        with pytest.raises(KeyboardInterrupt):
            retrain(toy, tiny, context, epochs=EPOCHS)
    [stopped] = context.store.runs(stage="retrain")
    assert (stopped.status, stopped.tags["status_reason"]) == ("KILLED", "interrupted")
    assert retrain(toy, tiny, context, epochs=EPOCHS) == stopped.id
    assert context.store.get(stopped.id).status == "FINISHED"
    whole = retrain(toy, tiny, context, epochs=EPOCHS)
    assert whole != stopped.id
    assert_equal_at_every_epoch(context.store, stopped.id, whole)
    assert_every_epoch_recorded_once(context.store, stopped.id)


def test_a_clock_that_is_set_back_repeats_and_loses_nothing(
    context: Context, tiny: Dataset, toy: Run, monkeypatch: pytest.MonkeyPatch
):
    whole = retrain(toy, tiny, context, epochs=EPOCHS, seed=5)
    now, back, keep = time.time, [0], stage._keep_epoch

    def then_back(done: TrainedEpoch, *others: object) -> None:
        keep(done, *others)
        back[0] += 3600
        if back[0] == 2 * 3600:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "time", lambda: now() - back[0])
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    monkeypatch.setattr(stage, "_keep_epoch", then_back)
    with pytest.raises(KeyboardInterrupt):
        retrain(toy, tiny, context, epochs=EPOCHS, seed=5)
    again = retrain(toy, tiny, context, epochs=EPOCHS, seed=5)
    assert back[0] == (EPOCHS + 1) * 3600, "no epoch was repeated"
    assert_every_epoch_recorded_once(context.store, again)
    run, history = context.store.get(again), context.store.history(again)
    assert list(history["epoch"]) == list(range(EPOCHS + 1))
    assert (run.status, run.metrics["test_accuracy"]) == ("FINISHED", history["test_accuracy"].iloc[-1])
    assert_equal_at_every_epoch(context.store, again, whole)


def cut(content: bytes) -> bytes:
    return content[:500]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def told_otherwise(content: bytes) -> bytes:
    return content.replace(b'train_loss\\": ', b'train_loss\\":9', 1)


@pytest.mark.parametrize("damage", [cut, flipped, told_otherwise])
def test_a_slot_that_is_not_as_it_was_written_falls_back_to_the_other(
    damage: Callable[[bytes], bytes], context: Context, tiny: Dataset, toy: Run
):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_before_the_metrics_of(2, patch)
        with pytest.raises(KeyboardInterrupt):
            retrain(toy, tiny, context, epochs=EPOCHS)
    [stopped] = context.store.runs(stage="retrain")
    newest = file_of(context.store, stopped.id, SLOTS[0])
    before = newest.read_bytes()
    newest.write_bytes(damage(before))
    assert newest.read_bytes() != before
    assert retrain(toy, tiny, context, epochs=EPOCHS) == stopped.id
    whole = retrain(toy, tiny, context, epochs=EPOCHS)
    assert_equal_at_every_epoch(context.store, stopped.id, whole)
    assert_every_epoch_recorded_once(context.store, stopped.id)


def interrupted_after(epoch: int, trial: Run, dataset: Dataset, context: Context) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(epoch, patch)
        with pytest.raises(KeyboardInterrupt):
            retrain(trial, dataset, context, epochs=EPOCHS)
    [stopped] = context.store.runs(stage="retrain")
    return stopped


def test_where_the_newest_weights_are_altered_their_epoch_is_trained_again(context: Context, tiny: Dataset, toy: Run):
    stopped = interrupted_after(2, toy, tiny, context)
    file_of(context.store, stopped.id, weights_path(2)).write_bytes(b"altered")
    assert retrain(toy, tiny, context, epochs=EPOCHS) == stopped.id
    assert_equal_at_every_epoch(context.store, stopped.id, retrain(toy, tiny, context, epochs=EPOCHS))
    assert_every_epoch_recorded_once(context.store, stopped.id)


@pytest.mark.parametrize("lost", [weights_path(0), "SHA256SUMS"])
def test_where_earlier_weights_are_lost_training_begins_anew_and_says_so(
    lost: str, context: Context, tiny: Dataset, toy: Run, capsys: pytest.CaptureFixture[str]
):
    stopped = interrupted_after(2, toy, tiny, context)
    file_of(context.store, stopped.id, lost).unlink()
    anew = retrain(toy, tiny, context, epochs=EPOCHS)
    output = capsys.readouterr().out
    assert anew != stopped.id
    assert f"Run {stopped.id} cannot be continued ({weights_path(0)}" in output
    assert "missing or altered): training starts over." in output
    ended = context.store.get(stopped.id)
    assert (ended.status, ended.tags["status_reason"]) == ("FAILED", "incomplete")
    assert_every_epoch_recorded_once(context.store, anew)


def test_a_retraining_whose_weights_are_altered_before_its_end_does_not_finish(
    context: Context, tiny: Dataset, toy: Run, monkeypatch: pytest.MonkeyPatch
):
    keep = stage._keep_epoch

    def alter(done: TrainedEpoch, *others: object) -> None:
        keep(done, *others)
        if done.epoch.number == EPOCHS:
            [run] = context.store.runs(stage="retrain")
            context.store.log_tensors(run.id, weights_path(1), {"fc.weight": torch.zeros(3)})

    monkeypatch.setattr(stage, "_keep_epoch", alter)
    with pytest.raises(StudyError, match=rf"incomplete: {weights_path(1)} is missing or altered; the same command"):
        retrain(toy, tiny, context, epochs=EPOCHS)
    monkeypatch.undo()
    [failed] = context.store.runs(stage="retrain")
    assert (failed.status, failed.tags["status_reason"]) == ("FAILED", "incomplete")
    assert retrain(toy, tiny, context, epochs=EPOCHS) != failed.id


def test_another_number_of_threads_begins_anew_and_says_so(
    context: Context, tiny: Dataset, toy: Run, capsys: pytest.CaptureFixture[str]
):
    stopped = interrupted_after(1, toy, tiny, context)
    machine = replace(context.machine, threads=2)
    other = retrain(toy, tiny, replace(context, machine=machine), epochs=EPOCHS)
    assert other != stopped.id
    assert f"Run {stopped.id} was interrupted with threads 1 (now 2)" in capsys.readouterr().out
    assert retrain(toy, tiny, context, epochs=EPOCHS) == stopped.id


def test_the_hashes_of_all_weights_and_predictions_are_kept(finished_study):
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    sums = store.sums(run_id)
    kept = [
        "MODEL_SHA256SUMS",
        "dataset.json",
        *store.artifacts(run_id, "predictions"),
        *store.artifacts(run_id, "weights"),
    ]
    assert list(sums) == kept
    assert {path: store.digest(run_id, path) for path in sums} == sums


def test_a_retraining_under_way_is_not_begun_again(context: Context, tiny: Dataset, toy: Run):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            retrain(toy, tiny, context, epochs=EPOCHS)
    [stopped] = context.store.runs(stage="retrain")
    # As this process, which lives, would have left it while it works.
    context.store.resume(stopped.id)
    with pytest.raises(StudyError, match=f"Run {stopped.id} is already retraining this"):
        retrain(toy, tiny, context, epochs=EPOCHS)
    context.store.tag(stopped.id, **{WORKER: " ".join([*stopped.worker.split()[:-1], "0"])})
    # Killed before anything else, it does not say of how many epochs it was.
    tags = {**stopped.tags, WORKER: context.store.get(stopped.id).worker}
    begun = context.store.start(tiny.key, stopped.name, tags=tags, params={})
    assert retrain(toy, tiny, context, epochs=EPOCHS) == stopped.id
    assert {run.id: run.status for run in context.store.runs(stage="retrain")} == {
        stopped.id: "FINISHED",
        begun: "KILLED",
    }
    assert context.store.load_json(stopped.id, "dataset.json")["train"] == len(tiny.train)


def test_a_retraining_whose_machine_died_is_taken_over_and_continued(
    context: Context, tiny: Dataset, toy: Run, monkeypatch: pytest.MonkeyPatch
):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            retrain(toy, tiny, context, epochs=EPOCHS)
    [stopped] = context.store.runs(stage="retrain")
    context.store.resume(stopped.id)
    context.store.tag(stopped.id, **{WORKER: ELSEWHERE})
    monkeypatch.setenv("STUDY_HEARTBEAT", "0.02")
    assert retrain(toy, tiny, context, epochs=EPOCHS) == stopped.id
    history = context.store.client.get_metric_history(stopped.id, "test_accuracy")
    assert [point.step for point in history] == list(range(EPOCHS + 1))
    assert [run.status for run in context.store.runs(stage="retrain")] == ["FINISHED"]


def test_a_process_that_wakes_leaves_the_retraining_to_who_took_it_over(
    context: Context, tiny: Dataset, toy: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Store, "is_shared", True)
    keep, kept = Checkpoints.keep_epoch, list[int]()

    def taken_over_meanwhile(checkpoints: Checkpoints, weights: Any, checkpoint: Checkpoint) -> None:
        if checkpoint.epoch == 1:
            [run] = context.store.runs(stage="retrain")
            context.store.tag(run.id, **{WORKER: ELSEWHERE})
        keep(checkpoints, weights, checkpoint)
        kept.append(checkpoint.epoch)

    monkeypatch.setattr(Checkpoints, "keep_epoch", taken_over_meanwhile)
    with pytest.raises(TakenOver):
        retrain(toy, tiny, context, epochs=EPOCHS)
    [run] = context.store.runs(stage="retrain")
    assert (kept, run.status, run.worker) == ([0], "RUNNING", ELSEWHERE)
    assert context.store.artifacts(run.id, "weights") == ["weights/epoch_000.safetensors"]


def test_a_diverging_retraining_is_recorded_and_not_continued(context: Context, tiny: Dataset):
    wild = trial(context, tiny, learning_rate=1e30)
    for count in (1, 2):
        with pytest.raises(StudyError, match=r"diverged: train_loss became .* in epoch 1"):
            retrain(wild, tiny, context, epochs=EPOCHS)
        runs = context.store.runs(stage="retrain")
        assert [(run.status, run.tags["status_reason"]) for run in runs] == [("FAILED", "diverged")] * count


def test_other_images_than_the_searchs_are_refused(context: Context, tiny: Dataset, toy: Run):
    with pytest.raises(StudyError, match="searched on other images"):
        retrain(toy, replace(tiny, digest="another"), context, epochs=1)
    assert context.store.runs(stage="retrain") == []


def test_a_retraining_whose_gpu_disappears_says_so_and_continues_later(
    context: Context, tiny: Dataset, toy: Run, monkeypatch: pytest.MonkeyPatch
):
    expected = retrain(toy, tiny, context, epochs=EPOCHS, seed=5)
    whole = stage._keep_epoch

    def lost(done: TrainedEpoch, *more: object) -> None:
        whole(done, *more)
        if done.epoch.number == 1:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")

    context.store.tag(expected, seed="of another")
    monkeypatch.setattr(stage, "_keep_epoch", lost)
    with pytest.raises(StudyError, match=r"^cpu stopped working \(CUDA error: unspecified launch failure\)"):
        retrain(toy, tiny, context, epochs=EPOCHS, seed=5)
    monkeypatch.undo()
    [failed] = context.store.runs(stage="retrain", seed="5")
    assert (failed.status, failed.tags["status_reason"]) == ("FAILED", "crashed")
    assert retrain(toy, tiny, context, epochs=EPOCHS, seed=5) == failed.id
    assert_equal_at_every_epoch(context.store, expected, failed.id)
    assert_every_epoch_recorded_once(context.store, failed.id)


def test_a_retraining_without_memory_says_so_and_is_recorded(
    context: Context, tiny: Dataset, toy: Run, monkeypatch: pytest.MonkeyPatch
):
    def full(*arguments: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(stage, "_keep_epoch", full)
    with pytest.raises(OutOfMemory, match="no memory left"):
        retrain(toy, tiny, context, epochs=EPOCHS)
    [failed] = context.store.runs(stage="retrain")
    assert (failed.status, failed.tags["status_reason"]) == ("FAILED", "out of memory")


def test_seeds_are_retrained_in_turn_and_those_that_are_finished_are_skipped(
    context: Context, tiny: Dataset, toy: Run, capsys: pytest.CaptureFixture[str]
):
    done = retrain(toy, tiny, context, epochs=1, seed=6)
    retrain(toy, tiny, context, epochs=2, seed=7)  # of other epochs: not the same training
    capsys.readouterr()
    run_ids = retrain_seeds(toy, tiny, context, epochs=1, seed=None, seeds=3)
    output = capsys.readouterr().out
    runs = [context.store.get(run_id) for run_id in run_ids]
    assert [(run.params["seed"], run.params["epochs"]) for run in runs] == [("5", "1"), ("6", "1"), ("7", "1")]
    assert run_ids[1] == done
    assert f"Seed 6 is retrained already: run {done}" in output
    accuracies = np.array([run.metrics["final_test_accuracy"] for run in runs])
    assert f"seeds 5 to 7, epochs 1: test accuracy {accuracies.mean():.4f} ± {accuracies.std(ddof=1):.4f}" in output
    assert retrain_seeds(toy, tiny, context, epochs=1, seed=None, seeds=3) == run_ids
    assert len(context.store.runs(stage="retrain")) == 4


def test_what_is_retrained_already_is_not_trained_again_unless_its_weights_are_damaged(
    context: Context, tiny: Dataset, toy: Run, capsys: pytest.CaptureFixture[str]
):
    done = retrain_once(toy, tiny, context, epochs=1, seed=None)
    capsys.readouterr()
    assert retrain_once(toy, tiny, context, epochs=1, seed=None) == done
    assert f"Seed 5 is retrained already: run {done}; --again trains it once more." in capsys.readouterr().out
    assert [run.id for run in context.store.runs(stage="retrain")] == [done]
    root = context.store.root(done)
    assert root
    damaged = root / weights_path(1)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert retrain_once(toy, tiny, context, epochs=1, seed=None) != done


def test_a_retraining_in_another_precision_is_said_to_be_another_run(
    context: Context, tiny: Dataset, toy: Run, capsys: pytest.CaptureFixture[str]
):
    done = retrain_once(toy, tiny, context, epochs=1, seed=None)
    other = replace(context, machine=replace(context.machine, precision="bf16"))
    capsys.readouterr()
    assert retrain_once(toy, tiny, other, epochs=1, seed=None) != done
    said = f"Seed 5 is retrained in float32 already (run {done[:8]}); in bf16 it has other weights"
    assert said in capsys.readouterr().out


def test_another_number_of_epochs_than_that_of_other_seeds_is_said(
    context: Context, tiny: Dataset, toy: Run, capsys: pytest.CaptureFixture[str]
):
    for epochs, seed, is_said in ((1, 5, False), (1, 6, False), (2, 7, True)):
        retrain_once(toy, tiny, context, epochs=epochs, seed=seed)
        said = "is retrained for 1 epoch so far, and now for 2"
        assert (said in capsys.readouterr().out) == is_said


def test_the_registered_best_is_the_run_that_best_names(context: Context, tiny: Dataset, toy: Run):
    name = model_name(toy)
    for epochs, seed in ((1, None), (2, None), (3, 6), (1, None)):
        retrain(toy, tiny, context, epochs=epochs, seed=seed)
        aliased = context.store.client.get_model_version_by_alias(name, "best")
        assert aliased.run_id == best_retrained(context.store, toy.model, toy.dataset_key).id
    assert context.store.get(aliased.run_id).epochs == 2


def model_of(store: Store, run_id: str) -> Path:
    model = ready_model(store.client, run_id)
    assert model
    return Path(local_file_uri_to_path(model.artifact_location))


def alter_model(store: Store, run_id: str) -> None:
    (model_of(store, run_id) / "data/network/weights.safetensors").write_bytes(b"something else")


def lose_model(store: Store, run_id: str) -> None:
    shutil.rmtree(model_of(store, run_id))


def delete_logged_model(store: Store, run_id: str) -> None:
    model = ready_model(store.client, run_id)
    assert model
    store.client.delete_logged_model(model.model_id)


def lose_hashes(store: Store, run_id: str) -> None:
    root = store.root(run_id)
    assert root
    (root / "MODEL_SHA256SUMS").unlink()


def make_earlier(store: Store, run_id: str) -> None:
    """Gives the model the files of an earlier form, with their hashes recorded."""
    weights = model_of(store, run_id) / "data/network/weights.safetensors"
    weights.rename(weights.parents[1] / "model.pt2")
    Checkpoints(store, run_id).keep_model(model_digests(store, run_id))


@pytest.mark.parametrize("damage", [alter_model, lose_model, delete_logged_model, lose_hashes, make_earlier])
def test_a_model_that_is_not_whole_is_exported_again_from_the_weights(
    damage: Callable[[Store, str], None], context: Context, tiny: Dataset, toy: Run
):
    done = retrain_once(toy, tiny, context, epochs=1, seed=None)
    pixels = tiny.test.images[:3].numpy()
    before = mlflow.pyfunc.load_model("models:/digits-cnn@best").predict(pixels)
    damage(context.store, done)
    assert retrain_once(toy, tiny, context, epochs=1, seed=None) == done
    pd.testing.assert_frame_equal(mlflow.pyfunc.load_model("models:/digits-cnn@best").predict(pixels), before)
    kept = context.store.sums(done, "MODEL_SHA256SUMS")
    assert kept
    assert kept.items() <= model_digests(context.store, done).items()
    [version] = context.store.client.search_model_versions("name = 'digits-cnn'")
    assert version.run_id == done


def delete_registered(client: MlflowClient) -> None:
    client.delete_registered_model("digits-cnn")


def delete_version(client: MlflowClient) -> None:
    [version] = client.search_model_versions("name = 'digits-cnn'")
    client.delete_model_version("digits-cnn", version.version)


def delete_alias(client: MlflowClient) -> None:
    client.delete_registered_model_alias("digits-cnn", "best")


@pytest.mark.parametrize("deletion", [delete_registered, delete_version, delete_alias])
def test_a_done_retraining_restores_its_registration(
    deletion: Callable[[MlflowClient], None], context: Context, tiny: Dataset, toy: Run
):
    done = retrain_once(toy, tiny, context, epochs=1, seed=None)
    before = model_of(context.store, done)
    deletion(context.store.client)
    assert retrain_once(toy, tiny, context, epochs=1, seed=None) == done
    version = context.store.client.get_model_version_by_alias("digits-cnn", "best")
    assert version.run_id == done
    assert float(version.tags["val_accuracy"]) == toy.metrics["best_val_accuracy"]
    assert model_of(context.store, done) == before


def test_one_seed_has_no_deviation(context: Context, tiny: Dataset, toy: Run, capsys: pytest.CaptureFixture[str]):
    (run_id,) = retrain_seeds(toy, tiny, context, epochs=1, seed=9, seeds=1)
    assert context.store.get(run_id).params["seed"] == "9"
    output = capsys.readouterr().out
    assert "seed 9, epochs 1: test accuracy" in output
    assert "±" not in output


def test_an_interrupted_seed_is_continued(context: Context, tiny: Dataset, toy: Run):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            retrain_seeds(toy, tiny, context, epochs=2, seed=0, seeds=2)
    (stopped,) = context.store.runs(stage="retrain")
    run_ids = retrain_seeds(toy, tiny, context, epochs=2, seed=0, seeds=2)
    assert run_ids[0] == stopped.id
    assert {run.status for run in context.store.runs(stage="retrain")} == {"FINISHED"}


def test_a_retraining_that_ends_in_its_warm_up_says_so(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str]
):
    retrain(trial(context, tiny, warmup_steps=100), tiny, context, epochs=1)
    assert "The warm-up takes 100 steps, and a whole training has " in capsys.readouterr().out
