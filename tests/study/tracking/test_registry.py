import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from study.architectures import FFNNConfig
from study.images import normalise
from study.models import Model, build_model
from study.tracking.registry import delete_run, log_model
from study.tracking.store import Store

CLASSES = ("a", "b", "c")
EXAMPLE = np.zeros((32, 32, 3), np.uint8)
TOY = FFNNConfig(hidden=2)


def started(store: Store) -> str:
    return store.start("toys", "a run", tags={}, params={"size": 3})


def log(store: Store, run_id: str, seed: int, score: float) -> Model:
    model = build_model(TOY, classes=len(CLASSES), seed=seed)
    log_model(store.client, run_id, model, TOY, CLASSES, EXAMPLE, register_as="toys-cnn", score=score)
    return model


@torch.no_grad()
def assert_answers(model: Model, images: np.ndarray) -> None:
    """That the model with the alias `best` is this one."""
    answer = mlflow.pyfunc.load_model("models:/toys-cnn@best").predict(images)
    expected = model(normalise(torch.from_numpy(images))).softmax(1).numpy()
    assert np.allclose(answer[["p_a", "p_b", "p_c"]], expected, atol=1e-6)
    assert list(answer["class"]) == [CLASSES[place] for place in expected.argmax(1)]


def test_the_registered_model_gives_torchs_probabilities_and_the_alias_keeps_the_best(store: Store):
    models, aliased = [], []
    for seed, score in enumerate((0.5, 0.4, 0.6, 0.6 - 1e-9)):
        models.append(log(store, started(store), seed, score))
        best = store.client.get_model_version_by_alias("toys-cnn", "best")
        aliased.append(float(best.tags["val_accuracy"]))
    assert aliased == [0.5, 0.5, 0.6, 0.6]
    assert mlflow.get_tracking_uri() == store.home.tracking_uri
    for count in (1, 2, 7):
        assert_answers(models[2], np.random.default_rng(count).integers(0, 256, (count, 3, 32, 32), np.uint8))


def test_another_best_model_is_said_with_both_accuracies(store: Store):
    runs, said = [started(store) for _ in range(3)], list[str]()
    for seed, (run_id, score) in enumerate(zip(runs, (0.5, 0.4, 0.6), strict=True)):
        model = build_model(TOY, classes=len(CLASSES), seed=seed)
        log_model(
            store.client, run_id, model, TOY, CLASSES, EXAMPLE, register_as="toys-cnn", score=score, say=said.append
        )
    assert said == [
        f"`best` of toys-cnn is now run {runs[2][:8]}, and was {runs[0][:8]}: its trial's validation accuracy is "
        "0.6000, and was 0.5000."
    ]


def test_the_alias_goes_to_the_next_best_when_the_run_of_the_best_is_deleted(store: Store):
    runs = {score: started(store) for score in (0.4, 0.6, 0.5)}
    for seed, (score, run_id) in enumerate(runs.items()):
        log(store, run_id, seed, score)

    def best() -> str:
        return store.client.get_model_version_by_alias("toys-cnn", "best").run_id

    delete_run(store.client, runs[0.4])
    assert best() == runs[0.6]
    delete_run(store.client, runs[0.6])
    assert best() == runs[0.5]
    delete_run(store.client, runs[0.5])
    assert store.client.get_registered_model("toys-cnn").aliases == {}


def test_a_version_whose_run_was_deleted_in_mlflow_does_not_keep_the_alias(store: Store):
    better, worse = started(store), started(store)
    log(store, better, 0, 0.6)
    store.client.delete_run(better)
    log(store, worse, 1, 0.4)
    assert store.client.get_model_version_by_alias("toys-cnn", "best").run_id == worse


def test_the_run_that_a_model_belongs_to_goes_on(store: Store):
    run_id = started(store)
    log(store, run_id, 0, 0.5)
    assert store.get(run_id).status == "RUNNING"
    [model] = store.client.search_logged_models([store.get(run_id).experiment_id])
    assert (model.source_run_id, model.params) == (run_id, {"size": "3"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    ["log_model_artifacts", "finalize_logged_model", "create_model_version", "set_model_version_tag",
     "set_registered_model_alias"],
)  # fmt: skip
def test_an_interrupted_registration_is_completed_and_nothing_is_registered_twice(
    step: str, store: Store, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    run_id = started(store)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            log(store, run_id, 0, 0.5)
    for _ in range(2):
        model = log(store, run_id, 0, 0.5)
        [version] = store.client.search_model_versions("name = 'toys-cnn'")
        [exported] = store.client.search_logged_models([store.get(run_id).experiment_id])
        assert version.run_id == run_id
        assert exported.model_id in version.source
        assert store.client.get_model_version_by_alias("toys-cnn", "best").version == version.version
    assert_answers(model, np.ones((3, 3, 32, 32), np.uint8))
