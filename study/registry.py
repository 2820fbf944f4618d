"""The registered models: what is served, and which of them the alias `best` means."""

import math
import warnings
from contextlib import suppress

import numpy as np
import torch
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from torch import nn


def log_model(
    client: MlflowClient, run_id: str, model: nn.Module, example: np.ndarray, *, register_as: str, score: float
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
    _move_alias(client, name, str(version.version), score)


def _new_version(client: MlflowClient, run_id: str, name: str, model: nn.Module, example: np.ndarray) -> ModelVersion:
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


def _export(client: MlflowClient, run_id: str, model: nn.Module, example: np.ndarray) -> LoggedModel:
    import mlflow.pytorch
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


def _move_alias(client: MlflowClient, name: str, version: str, score: float) -> None:
    client.set_model_version_tag(name, version, "val_accuracy", str(score))
    best = client.get_registered_model(name).aliases.get("best")
    before = client.get_model_version(name, best).tags.get("val_accuracy") if best else None
    if math.isfinite(score) and (before is None or score > float(before)):
        client.set_registered_model_alias(name, "best", version)
