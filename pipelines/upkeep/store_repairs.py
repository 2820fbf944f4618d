"""What only a repair asks of the tracking store, or does to it; like `study.tracking` it speaks MLflow."""

from pathlib import Path

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from study.system.files import is_abandoned
from study.tracking.runs import Run, as_run
from study.tracking.store import Point, Store, every


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


def listed(store: Store, run_id: str, path: str) -> list[str]:
    """The artifacts directly below `path`; none where the store has no such folder."""
    try:
        return store.artifacts(run_id, path)
    except (MlflowException, OSError):
        return []


def unfinished(store: Store, run_id: str) -> list[Path]:
    """What was being written to a run's folder when its process was killed; none where a server keeps the files."""
    root = store.root(run_id)
    return sorted(filter(is_abandoned, root.rglob(".*.part"))) if root and root.is_dir() else []
