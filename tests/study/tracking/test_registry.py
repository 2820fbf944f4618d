import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from torch import nn

from study.tracking.registry import delete_run, log_model
from study.tracking.store import Store, default_uri

EXAMPLE = np.zeros((2, 4), np.float32)


def started(store: Store) -> str:
    return store.start("toys", "a run", tags={}, params={"size": 3})


class Toy(nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layer = nn.Linear(4, 3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layer(values), 1)


def test_the_registered_model_gives_torchs_probabilities_and_the_alias_keeps_the_best(store: Store):
    models = {0.5: Toy(0), 0.4: Toy(1), 0.6: Toy(2), 0.6 - 1e-9: Toy(3)}
    aliased = []
    for score, model in models.items():
        log_model(store.client, started(store), model, EXAMPLE, register_as="toys-cnn", score=score)
        best = store.client.get_model_version_by_alias("toys-cnn", "best")
        aliased.append(float(best.tags["val_accuracy"]))
    assert aliased == [0.5, 0.5, 0.6, 0.6]
    assert mlflow.get_tracking_uri() == default_uri(store.home)
    served = mlflow.pyfunc.load_model("models:/toys-cnn@best")
    for count in (1, 2, 7):
        values = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
        answer = np.asarray(served.predict(values))
        with torch.no_grad():
            expected = models[0.6](torch.from_numpy(values)).numpy()
        assert answer.shape == (count, 3)
        assert np.allclose(answer, expected, atol=1e-6)
        assert np.allclose(answer.sum(1), 1, atol=1e-6)


def test_the_alias_goes_to_the_next_best_when_the_run_of_the_best_is_deleted(store: Store):
    runs = {score: started(store) for score in (0.4, 0.6, 0.5)}
    for seed, (score, run_id) in enumerate(runs.items()):
        log_model(store.client, run_id, Toy(seed), EXAMPLE, register_as="toys-cnn", score=score)

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
    log_model(store.client, better, Toy(0), EXAMPLE, register_as="toys-cnn", score=0.6)
    store.client.delete_run(better)
    log_model(store.client, worse, Toy(1), EXAMPLE, register_as="toys-cnn", score=0.4)
    assert store.client.get_model_version_by_alias("toys-cnn", "best").run_id == worse


def test_the_run_that_a_model_belongs_to_goes_on(store: Store):
    run_id = started(store)
    log_model(store.client, run_id, Toy(0), EXAMPLE, register_as="toys-cnn", score=0.5)
    assert store.get(run_id).status == "RUNNING"
    [model] = store.client.search_logged_models([store.get(run_id).experiment_id])
    assert (model.source_run_id, model.params) == (run_id, {"size": "3"})


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

    run_id, model = started(store), Toy(0)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            log_model(store.client, run_id, model, EXAMPLE, register_as="toys-cnn", score=0.5)
    for _ in range(2):
        log_model(store.client, run_id, model, EXAMPLE, register_as="toys-cnn", score=0.5)
        [version] = store.client.search_model_versions("name = 'toys-cnn'")
        [exported] = store.client.search_logged_models([store.get(run_id).experiment_id])
        assert version.run_id == run_id
        assert exported.model_id in version.source
        assert store.client.get_model_version_by_alias("toys-cnn", "best").version == version.version
    with torch.no_grad():
        expected = model(torch.ones(3, 4)).numpy()
    served = mlflow.pyfunc.load_model("models:/toys-cnn@best")
    assert np.allclose(served.predict(np.ones((3, 4), np.float32)), expected, atol=1e-6)
