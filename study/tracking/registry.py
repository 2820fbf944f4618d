"""MLflow's model registry: registers the model of a retraining, and moves the alias `best` to the best version."""

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.entities import LifecycleStage, LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from study.architectures import ModelConfig
from study.errors import StudyError
from study.system.files import sha256
from study.tracking.best import rank
from study.tracking.queries import every, quoted
from study.tracking.runs import Run, as_run
from study.tracking.store import Store

if TYPE_CHECKING:
    from torch import nn

BEST = "best"
"""Alias of a model's version with the highest score."""
SCORE = "val_accuracy"
"""Tag of a model's version that holds its score."""
DESCRIBED = "MLmodel"
"""Metadata file of a model, with its run and its location; an import rewrites it."""
CHANGING = (DESCRIBED, "registered_model_meta")
"""Files of a model that may change; MLflow writes the second one when it loads the model."""


def log_model(
    client: MlflowClient,
    run_id: str,
    model: "nn.Module",
    config: ModelConfig,
    classes: Sequence[str],
    example: np.ndarray,
    *,
    register_as: str,
    score: float,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Logs `model` as an MLflow model and registers it; the alias `best` moves to it if its `score` is the highest.

    Idempotent: called again for the same run, it completes an interrupted call.

    Args:
        client: client of the run's store.
        run_id: the run it belongs to.
        model: the network, on the CPU.
        config: its settings.
        classes: the class names, by label.
        example: an image (H, W, 3; uint8), the example of an input that MLflow shows.
        register_as: the registered model's name.
        score: decides on the alias, e.g. the validation accuracy that chose the settings.
        say: prints a message to the user.
    """
    # Imported here, since most commands need none of it.
    from study.tracking.packaging import log

    exported = ready_model(client, run_id)
    if exported is None:
        _delete_unfinished(client, run_id)
        exported = log(client, run_id, model, config, classes, example, say)
    register(client, exported, register_as, score, say)


def register(
    client: MlflowClient, exported: LoggedModel, name: str, score: float, say: Callable[[str], None] = lambda text: None
) -> None:
    """Registers a run's model as `name`, unless it is registered, and updates the alias `best`; says where it moves."""
    with suppress(MlflowException):  # where it is registered already
        client.create_registered_model(name)
    version = next(iter(versions_of(client, name, exported)), None) or client.create_model_version(
        name, exported.model_uri, run_id=exported.source_run_id, model_id=exported.model_id
    )
    client.set_model_version_tag(name, version.version, SCORE, str(score))
    before = alias_holder(client, name)
    move_alias(client, name)
    if before and before != alias_holder(client, name) == str(version.version):
        other = client.get_model_version(name, before)
        least = score_of(other)
        why = f": its trial's validation accuracy is {score:.4f}, and was {least:.4f}" if -1 < least < score else ""
        say(f"`best` of {name} is now run {str(version.run_id)[:8]}, and was {str(other.run_id)[:8]}{why}.")


def model_name(run: Run) -> str:
    """Name of the registered model for `run`, a trial or a retraining."""
    return name_on(run.dataset_key, run.model)


def name_on(dataset: str, model: str) -> str:
    """Name of the registered model for a network on the data set with this key."""
    return f"{dataset}-{model}"


def versions_of(client: MlflowClient, name: str, exported: LoggedModel) -> list[ModelVersion]:
    """The versions of the registered model `name` that hold `exported`."""
    versions = client.search_model_versions(f"name = {quoted(name)} AND run_id = '{exported.source_run_id}'")
    return [version for version in versions if version.source == exported.model_uri]


def model_digests(store: Store, run_id: str) -> dict[str, str]:
    """The current SHA-256 of the files of a run's model, by path within its folder; empty without a model.

    Raises:
        StoreFault: where the store is away for too long.
    """
    run = store.client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else []:
        with suppress(MlflowException, OSError), tempfile.TemporaryDirectory(prefix="study-") as copied:
            # Not by MLflow's client, which caches a model's location across stores.
            place = store.place(store.client.get_logged_model(output.model_id).artifact_location)
            repository = get_artifact_repository(place, tracking_uri=store.uri)
            folder = Path(store.wait(partial(repository.download_artifacts, "", copied)))
            files = [file for file in folder.rglob("*") if file.is_file()]
            if folder / DESCRIBED in files:
                return {file.relative_to(folder).as_posix(): sha256(file) for file in files}
    return {}


def ready_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """The run's model; None where its export was never completed, or it was deleted."""
    return next((model for model in _logged_models(client, run_id) if model.status == LoggedModelStatus.READY), None)


def delete_model(client: MlflowClient, run_id: str) -> None:
    """Deletes the run's model and its versions, as MLflow does, so that it is exported again."""
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


def delete_run(client: MlflowClient, run_id: str) -> None:
    """Deletes a run, as MLflow does; if its model has the alias `best`, that moves to the best of the others.

    Args:
        client: client of the run's store.
        run_id: the run; it can be restored, and its model's version stays.
    """
    # Before the run: after an interruption in between, a deleted run would not be found again.
    for name in {version.name for version in client.search_model_versions(f"run_id = '{run_id}'")}:
        move_alias(client, name, lambda version: version.run_id != run_id and is_usable(client, version))
    client.delete_run(run_id)


def move_alias(client: MlflowClient, name: str, usable: Callable[[ModelVersion], bool] | None = None) -> None:
    """Moves the alias `best` of the registered model `name` to its best version, or removes it; see `best_version`."""
    holder, best = alias_holder(client, name), best_version(client, name, usable)
    if best and str(best.version) != holder:
        client.set_registered_model_alias(name, BEST, best.version)
    elif holder and not best:
        client.delete_registered_model_alias(name, BEST)


def alias_holder(client: MlflowClient, name: str) -> str | None:
    """The number of the version that has the alias `best`; None where none has it."""
    holder = client.get_registered_model(name).aliases.get(BEST)
    # An int from a database, a string from a server.
    return None if holder is None else str(holder)


def best_version(
    client: MlflowClient, name: str, usable: Callable[[ModelVersion], bool] | None = None
) -> ModelVersion | None:
    """The usable version of the registered model `name` with the highest validation accuracy.

    Ties go to the one that `best` names elsewhere, see `best.best_retrained`, then to the one that has the alias, then
    to the first.

    Args:
        client: client of the store.
        name: the registered model.
        usable: by default `is_usable`.
    """
    holder, is_in_use = alias_holder(client, name), usable or partial(is_usable, client)
    # Of most retrainings the trial is the same.
    get_run = cache(client.get_run)

    def place(version: ModelVersion) -> tuple[float | bool, ...]:
        return *_place_as_retraining(get_run, version), str(version.version) != holder, int(version.version)

    versions = sorted(every(client.search_model_versions, f"name = {quoted(name)}"), key=score_of, reverse=True)
    for _, group in groupby(versions, key=score_of):
        tied = list(group)
        ordered = sorted(tied, key=place) if len(tied) > 1 else tied
        if best := next(filter(is_in_use, ordered), None):
            return best
    return None


def _place_as_retraining(get_run: Callable[[str], Any], version: ModelVersion) -> tuple[float, ...]:
    """What the version that `best.best_retrained` names has the lowest of, among those with the same accuracy."""
    with suppress(MlflowException, StudyError):
        run = as_run(get_run(str(version.run_id)))
        recorded = get_run(run.trial_run)
        trial = as_run(recorded)
        if recorded.info.lifecycle_stage == LifecycleStage.ACTIVE and trial.status == "FINISHED":
            return *rank(trial), run.seed != trial.base_seed, -run.epochs, -run.started
    return (math.inf,) * 6


def is_usable(client: MlflowClient, version: ModelVersion) -> bool:
    """Whether the run and the logged model of a version exist, and are not deleted."""
    with suppress(MlflowException):
        client.get_logged_model(str(version.source).removeprefix("models:/"))
        return bool(client.get_run(str(version.run_id)).info.lifecycle_stage == LifecycleStage.ACTIVE)
    return False


def score_of(version: ModelVersion) -> float:
    """Validation accuracy in the tag of a version; minus infinity where it is missing or malformed."""
    with suppress(KeyError, ValueError):
        if math.isfinite(score := float(version.tags[SCORE])):
            return score
    return -math.inf
