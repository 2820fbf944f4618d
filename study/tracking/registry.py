"""MLflow's model registry: registers the model of a retraining, and moves the alias `best` to the best version."""

import math
import tempfile
import warnings
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
from study.tracking.store import Store

if TYPE_CHECKING:
    from torch import nn

SCORE = "val_accuracy"
"""The tag of a model's version that says how good it is."""
DESCRIBED = "MLmodel"
"""The file in which a model says what, whose and where it is, which an import has say something else."""
CHANGING = (DESCRIBED, "registered_model_meta")
"""The files of a model that need not stay as they are; the second MLflow writes where the model is loaded."""


def log_model(
    client: MlflowClient, run_id: str, model: "nn.Module", example: np.ndarray, *, register_as: str, score: float
) -> None:
    """Keeps `model` as an MLflow model and registers it; the alias `best` moves to it if its `score` is higher.

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
    name = register_as
    with suppress(MlflowException):  # where it is registered already
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}' AND run_id = '{run_id}'")
    version = versions[0] if versions else _new_version(client, run_id, name, model, example)
    client.set_model_version_tag(name, version.version, SCORE, str(score))
    move_alias(client, client.get_model_version(name, version.version))


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


def _new_version(client: MlflowClient, run_id: str, name: str, model: "nn.Module", example: np.ndarray) -> ModelVersion:
    exported = _exported(client, run_id) or _export(client, run_id, model, example)
    return client.create_model_version(name, exported.model_uri, run_id=run_id, model_id=exported.model_id)


def _exported(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """The run's model, where it was exported before; what an interruption left of an export is deleted."""
    experiment = client.get_run(run_id).info.experiment_id
    ready = None
    for found in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if found.status == LoggedModelStatus.READY:
            ready = found
        else:
            client.delete_logged_model(found.model_id)
    return ready


def _export(client: MlflowClient, run_id: str, model: "nn.Module", example: np.ndarray) -> LoggedModel:
    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    with torch.no_grad():
        output = model(torch.from_numpy(example)).numpy()
    run = client.get_run(run_id)
    # Made here, since MLflow would make it in the default experiment, or else end the run when it is done.
    made = client.create_logged_model(
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
            model_id=made.model_id,
            run_id=run_id,
            signature=infer_signature(example, output),
            input_example=example,
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
        )
    return made


def delete_run(client: MlflowClient, run_id: str) -> None:
    """Deletes a run, as MLflow does; where its model is the best, the alias `best` goes to the best one of the others.

    Args:
        client: of the store that the run is in.
        run_id: the run; it can be restored, and its model's version stays.
    """
    # Before the run, which nobody would find again after an interruption in between.
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if client.get_registered_model(version.name).aliases.get("best") == version.version:
            _replace_best(client, version)
    client.delete_run(run_id)


def _replace_best(client: MlflowClient, version: ModelVersion) -> None:
    others = [
        other
        for other in client.search_model_versions(f"name = '{version.name}'")
        if other.run_id != version.run_id and _is_of_a_run(client, other)
    ]
    if best := max(others, key=lambda one: (_score(one), -int(one.version)), default=None):
        client.set_registered_model_alias(best.name, "best", best.version)
    else:
        client.delete_registered_model_alias(version.name, "best")


def _is_of_a_run(client: MlflowClient, version: ModelVersion) -> bool:
    """Whether the run of a model's version is there, and not deleted."""
    with suppress(MlflowException):
        return bool(client.get_run(str(version.run_id)).info.lifecycle_stage == LifecycleStage.ACTIVE)
    return False


def move_alias(client: MlflowClient, version: ModelVersion, alias: str = "best") -> None:
    """Gives `version` the alias, unless another version has it already that is as good by its tag `val_accuracy`."""
    holder = client.get_registered_model(version.name).aliases.get(alias)
    if holder is None or _score(version) > _score(client.get_model_version(version.name, holder)):
        client.set_registered_model_alias(version.name, alias, version.version)


def _score(version: ModelVersion) -> float:
    with suppress(KeyError, ValueError):
        if math.isfinite(score := float(version.tags[SCORE])):
            return score
    return -math.inf
