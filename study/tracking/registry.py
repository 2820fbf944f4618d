"""MLflow's model registry: registers the model of a retraining, and moves the alias `best` to the best version."""

import math
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mlflow.entities import LifecycleStage, LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from study.system.files import sha256
from study.tracking.queries import every, quoted
from study.tracking.runs import Run
from study.tracking.store import Store

if TYPE_CHECKING:
    from torch import nn

BEST = "best"
"""The alias of the version of a model that has the highest score."""
SCORE = "val_accuracy"
"""The tag of a model's version that says how good it is."""
DESCRIBED = "MLmodel"
"""The file in which a model says what, whose and where it is, which an import has say something else."""
CHANGING = (DESCRIBED, "registered_model_meta")
"""The files of a model that need not stay as they are; the second MLflow writes where the model is loaded."""


def log_model(
    client: MlflowClient, run_id: str, model: "nn.Module", example: np.ndarray, *, register_as: str, score: float
) -> None:
    """Keeps `model` as an MLflow model and registers it; the alias `best` moves to it if its `score` is the highest.

    Called again for the same run, it does what an interruption left undone, and nothing twice.

    Args:
        client: of the store that the run is in.
        run_id: the run it belongs to.
        model: what is exported (torch.export), on the CPU.
        example: an input of at least two items, which fixes the signature; the batch size stays free.
        register_as: the registered model's name.
        score: what decides about the alias, e.g. the validation accuracy that chose the settings.
    """
    model.eval()
    exported = ready_model(client, run_id)
    if exported is None:
        _delete_unfinished(client, run_id)
        exported = _export(client, run_id, model, example)
    register(client, exported, register_as, score)


def register(client: MlflowClient, exported: LoggedModel, name: str, score: float) -> None:
    """Registers a run's model as `name` unless it is; the alias `best` goes where it belongs."""
    with suppress(MlflowException):  # where it is registered already
        client.create_registered_model(name)
    version = next(iter(versions_of(client, name, exported)), None) or client.create_model_version(
        name, exported.model_uri, run_id=exported.source_run_id, model_id=exported.model_id
    )
    client.set_model_version_tag(name, version.version, SCORE, str(score))
    move_alias(client, name)


def model_name(run: Run) -> str:
    """The registered model that the model of `run`, a trial or a retraining, is a version of."""
    return f"{run.dataset_key}-{run.model}"


def versions_of(client: MlflowClient, name: str, exported: LoggedModel) -> list[ModelVersion]:
    """The versions of the registered model `name` that are the model `exported`."""
    versions = client.search_model_versions(f"name = {quoted(name)} AND run_id = '{exported.source_run_id}'")
    return [version for version in versions if version.source == exported.model_uri]


def model_digests(store: Store, run_id: str) -> dict[str, str]:
    """The SHA-256 of the files of a run's model as they are now, by their paths in its folder; empty without a model.

    Raises:
        StoreFault: where the store is away for too long.
    """
    run = store.client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else []:
        with suppress(MlflowException, OSError), tempfile.TemporaryDirectory(prefix="study-") as copied:
            # The client would remember where a model was, in whichever store.
            place = store.client.get_logged_model(output.model_id).artifact_location
            repository = get_artifact_repository(place, tracking_uri=store.uri)
            folder = Path(store.wait(partial(repository.download_artifacts, "", copied)))
            files = [file for file in folder.rglob("*") if file.is_file()]
            if folder / DESCRIBED in files:
                return {file.relative_to(folder).as_posix(): sha256(file) for file in files}
    return {}


def ready_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """The run's model; None where it was never exported to its end, or was deleted."""
    return next((model for model in _logged_models(client, run_id) if model.status == LoggedModelStatus.READY), None)


def delete_model(client: MlflowClient, run_id: str) -> None:
    """Deletes the run's model and its versions, as MLflow does, so that it is exported anew."""
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.delete_model_version(version.name, version.version)
    for model in _logged_models(client, run_id):
        client.delete_logged_model(model.model_id)


def _delete_unfinished(client: MlflowClient, run_id: str) -> None:
    for model in _logged_models(client, run_id):
        if model.status != LoggedModelStatus.READY:
            client.delete_logged_model(model.model_id)


def _logged_models(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    experiment = client.get_run(run_id).info.experiment_id
    return list(client.search_logged_models([experiment], f"source_run_id = '{run_id}'"))


def _export(client: MlflowClient, run_id: str, model: "nn.Module", example: np.ndarray) -> LoggedModel:
    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    with torch.no_grad():
        output = model(torch.from_numpy(example)).numpy()
    run = client.get_run(run_id)
    # Made here, since MLflow would make it in the default experiment, or else end the run when it is done.
    logged = client.create_logged_model(
        run.info.experiment_id, name="model", source_run_id=run_id, params=dict(run.data.params)
    )
    with warnings.catch_warnings():
        # torch.export's about weights that are not on a CPU; these are.
        warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
        # torch 2.11's about the file that it reads back.
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        mlflow.pytorch.log_model(
            model,
            name="model",
            model_id=logged.model_id,
            run_id=run_id,
            signature=infer_signature(example, output),
            input_example=example,
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
        )
    return logged


def delete_run(client: MlflowClient, run_id: str) -> None:
    """Deletes a run, as MLflow does; where its model is the best, the alias `best` goes to the best one of the others.

    Args:
        client: of the store that the run is in.
        run_id: the run; it can be restored, and its model's version stays.
    """
    # Before the run, which nobody would find again after an interruption in between.
    for name in {version.name for version in client.search_model_versions(f"run_id = '{run_id}'")}:
        move_alias(client, name, lambda version: version.run_id != run_id and is_usable(client, version))
    client.delete_run(run_id)


def move_alias(client: MlflowClient, name: str, usable: Callable[[ModelVersion], bool] | None = None) -> None:
    """Has the alias `best` of the registered model `name` mean its best version, and no other; see `best_version`."""
    holder, best = alias_holder(client, name), best_version(client, name, usable)
    if best and str(best.version) != holder:
        client.set_registered_model_alias(name, BEST, best.version)
    elif holder and not best:
        client.delete_registered_model_alias(name, BEST)


def alias_holder(client: MlflowClient, name: str) -> str | None:
    """The number of the version that has the alias `best`; None where none has it."""
    holder = client.get_registered_model(name).aliases.get(BEST)
    # A database gives numbers, a server texts.
    return None if holder is None else str(holder)


def best_version(
    client: MlflowClient, name: str, usable: Callable[[ModelVersion], bool] | None = None
) -> ModelVersion | None:
    """The usable version of the registered model `name` with the highest validation accuracy.

    Ties go to the one that has the alias, then to the first.

    Args:
        client: of the store.
        name: the registered model.
        usable: by default `is_usable`.
    """
    holder = alias_holder(client, name)

    def rank(version: ModelVersion) -> tuple[float, bool, int]:
        return -score_of(version), str(version.version) != holder, int(version.version)

    versions = sorted(every(client.search_model_versions, f"name = {quoted(name)}"), key=rank)
    return next(filter(usable or partial(is_usable, client), versions), None)


def is_usable(client: MlflowClient, version: ModelVersion) -> bool:
    """Whether the run and the logged model of a version are there, and not deleted."""
    with suppress(MlflowException):
        client.get_logged_model(str(version.source).removeprefix("models:/"))
        return bool(client.get_run(str(version.run_id)).info.lifecycle_stage == LifecycleStage.ACTIVE)
    return False


def score_of(version: ModelVersion) -> float:
    """The validation accuracy of a version as its tag says; minus infinity where it says none."""
    with suppress(KeyError, ValueError):
        if math.isfinite(score := float(version.tags[SCORE])):
            return score
    return -math.inf
