"""What only a repair asks of the tracking store, or does to it; like `study.tracking` it speaks MLflow."""

from pathlib import Path

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from study.runs import Run, as_run
from study.tracking import Point, Store, every


def deleted_runs(store: Store) -> list[Run]:
    """The runs with a stage that were deleted, which MLflow only notes."""
    ids = [found.experiment_id for found in every(store.client.search_experiments, view_type=ViewType.ACTIVE_ONLY)]
    if not ids:
        return []
    runs = every(store.client.search_runs, ids, run_view_type=ViewType.DELETED_ONLY)
    return [as_run(run) for run in runs if "stage" in run.data.tags]


def values_of(store: Store, run_id: str, name: str) -> list[Point]:
    """Every recorded value of a run's metric, those of a step that was recorded twice too."""
    history = store.client.get_metric_history(run_id, name)
    return [Point(name, point.value, point.timestamp, point.step) for point in history]


def has_model(store: Store, run_id: str) -> bool:
    """Whether the files of a run's MLflow model are there."""
    run = store.client.get_run(run_id)
    models = run.outputs.model_outputs if run.outputs else []
    return any(_has_files(store, model.model_id) for model in models)


def _has_files(store: Store, model_id: str) -> bool:
    try:
        # The client would remember where a model was, in whichever store.
        place = store.client.get_logged_model(model_id).artifact_location
        files = store.wait(get_artifact_repository(place, tracking_uri=store.uri).list_artifacts)
        return any(info.path == "MLmodel" for info in files)
    except (MlflowException, OSError):
        return False


def listed(store: Store, run_id: str, path: str) -> list[str]:
    """The artifacts directly below `path`; none where the store has no such folder."""
    try:
        return store.artifacts(run_id, path)
    except (MlflowException, OSError):
        return []


def unfinished(store: Store, run_id: str) -> list[Path]:
    """What was being written to a run's folder when its process was killed; none where a server keeps the files."""
    root = store.root(run_id)
    return sorted(root.rglob(".*.part")) if root and root.is_dir() else []
