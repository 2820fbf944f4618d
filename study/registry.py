"""The registered models: what is served, and which of them the alias `best` means."""

import math
import warnings
from contextlib import suppress

import numpy as np
import torch
from mlflow.tracking import MlflowClient
from torch import nn


def log_model(
    client: MlflowClient, run_id: str, model: nn.Module, example: np.ndarray, *, register_as: str, score: float
) -> None:
    """Keeps `model` as an MLflow model and registers it; the alias `best` moves to it if its `score` is higher.

    Args:
        client: of the store that the run is in.
        run_id: the run it belongs to.
        model: what is exported (torch.export), on the CPU.
        example: an input of at least two items, which fixes the signature; the batch size stays free.
        register_as: the registered model's name.
        score: what decides about the alias, e.g. the validation accuracy that chose the settings.
    """
    import mlflow.pytorch
    from mlflow.models import infer_signature

    model.eval()
    with torch.no_grad():
        output = model(torch.from_numpy(example)).numpy()
    # Entering an existing run is the only way to say which run a model belongs to.
    with warnings.catch_warnings(), mlflow.start_run(run_id=run_id, log_system_metrics=False):
        # torch.export's about weights that are not on a CPU; these are.
        warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
        logged = mlflow.pytorch.log_model(
            model,
            name="model",
            signature=infer_signature(example, output),
            input_example=example,
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
        )
    with suppress(mlflow.exceptions.MlflowException):  # where it is registered already
        client.create_registered_model(register_as)
    version = client.create_model_version(
        register_as, logged.model_uri, run_id=run_id, model_id=logged.model_id
    ).version
    _move_alias(client, register_as, str(version), score)


def _move_alias(client: MlflowClient, name: str, version: str, score: float) -> None:
    client.set_model_version_tag(name, version, "val_accuracy", str(score))
    best = client.get_registered_model(name).aliases.get("best")
    before = client.get_model_version(name, best).tags.get("val_accuracy") if best else None
    if math.isfinite(score) and (before is None or score > float(before)):
        client.set_registered_model_alias(name, "best", version)
