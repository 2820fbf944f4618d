"""Runs on their way out of a tracking store and into another one; like `study.tracking` it speaks MLflow.

A run that is being imported has no tag `stage`, by which everything finds runs, and is marked with `importing`. All of
an import appear together: from when one of them says that the data is complete, a later import finishes what this one
began; before that it is undone.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlflow.entities import LoggedModelOutput, Param, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipelines.upkeep.archive import Archive, Recorded
from pipelines.upkeep.archive_format import LoggedModel, RunRecord, exported
from pipelines.upkeep.archive_models import give_aliases
from study.errors import StudyError, first_line
from study.search.records import MARK
from study.system.files import is_hidden
from study.tracking.registry import DESCRIBED
from study.tracking.retry import at_once
from study.tracking.runs import Run
from study.tracking.store import MAX_BATCH, Point, Store, every, quoted

STAGE, COMPLETE = f"{MARK}_stage", f"{MARK}_complete"
"""The tags of a run that is being imported, beside the mark: what it will be, and whether all of it is there."""
RESERVED = "mlflow.modelVersions"
"""The tag that MLflow keeps on a model itself."""
PER_WRITE = 100
"""How many params or tags MLflow takes in one write."""


def record_of(store: Store, run_id: str, experiment: str) -> RunRecord:
    """A run as it is written to an archive.

    Raises:
        StudyError: where it has what no archive can hold.
    """
    run = store.client.get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    with exported(f"Run {run_id}"):
        return RunRecord(
            id=run_id,
            name=run.info.run_name or "",
            experiment=experiment,
            status=run.info.status,
            started=run.info.start_time,
            ended=run.info.end_time or run.info.start_time,
            tags=dict(run.data.tags),
            params=dict(run.data.params),
            models=tuple(_model_of(store, output.model_id) for output in outputs),
        )


def _model_of(store: Store, model_id: str) -> LoggedModel:
    model = store.client.get_logged_model(model_id)
    return LoggedModel(
        id=model_id,
        name=model.name,
        kind=model.model_type or None,
        tags={name: value for name, value in model.tags.items() if name != RESERVED},
        params=dict(model.params),
    )


def experiment_names(store: Store) -> dict[str, str]:
    """The names of the experiments, by id."""
    return {one.experiment_id: one.name for one in every(store.client.search_experiments, view_type=ViewType.ALL)}


def points_of(store: Store, run_id: str) -> Iterator[Recorded]:
    """Every recorded point of a run's metrics, metric by metric in the order of their names."""
    for name in sorted(store.client.get_run(run_id).data.metrics):
        for point in store.client.get_metric_history(run_id, name):
            yield Recorded(name, point.value, point.timestamp, point.step)


def fetch_artifacts(store: Store, run_id: str, folder: Path) -> None:
    """Copies all files of a run to `folder`, which stays away where there are none."""
    if store.client.list_artifacts(run_id):
        folder.mkdir(parents=True)
        _downloaded(store.client.get_run(run_id).info.artifact_uri, store, folder, f"run {run_id}")
        for file in [file for file in folder.rglob("*") if is_hidden(file.relative_to(folder)) and file.is_file()]:
            # Half of a file, which a killed process left.
            file.unlink()


def fetch_model(store: Store, model_id: str, folder: Path) -> None:
    """Copies all files of a logged model to `folder`."""
    folder.mkdir(parents=True)
    _downloaded(store.client.get_logged_model(model_id).artifact_location, store, folder, f"model {model_id}")


def _downloaded(uri: str, store: Store, folder: Path, what: str) -> None:
    try:
        get_artifact_repository(uri, tracking_uri=store.uri).download_artifacts("", str(folder))
    except (MlflowException, OSError) as error:
        raise StudyError(f"The files of {what} cannot be read: {first_line(error)}") from None


def bring(
    store: Store, archive: Archive, record: RunRecord, tags: Mapping[str, str], token: str
) -> tuple[str, dict[str, str]]:
    """Makes a run of `record`, marked with `token`, with everything but its stage; it does not yet count.

    Args:
        store: where.
        archive: what `record` is from.
        record: the run.
        tags: its tags as they are to be here.
        token: the process that imports.

    Returns:
        Its id, and the ids of its models by those in the archive.

    Raises:
        StudyError: where the store refuses it.
    """
    try:
        # What fails is undone: after a try whose answer was lost, the next would bring the same a second time.
        with at_once():
            return _brought(store, archive, record, tags, token)
    except MlflowException as error:
        raise StudyError(f"The store did not take run {record.id}: {first_line(error)}") from None


def _brought(
    store: Store, archive: Archive, record: RunRecord, tags: Mapping[str, str], token: str
) -> tuple[str, dict[str, str]]:
    experiment = store.experiment(record.experiment)
    held_back = {STAGE: tags["stage"], MARK: token}
    first = {name: value for name, value in tags.items() if name != "stage"} | held_back
    run = store.client.create_run(experiment, start_time=record.started, tags=first, run_name=record.name)
    run_id = str(run.info.run_id)
    params = [Param(name, value) for name, value in record.params.items()]
    for start in range(0, len(params), PER_WRITE):
        store.client.log_batch(run_id, params=params[start : start + PER_WRITE])
    _bring_points(store, run_id, archive.points(record.id))
    if (folder := archive.artifacts(record.id)).is_dir():
        store.client.log_artifacts(run_id, str(folder))
    models = {model.id: _bring_model(store, experiment, run_id, record, model, archive) for model in record.models}
    store.client.set_terminated(run_id, record.status, end_time=record.ended)
    return run_id, models


def _bring_points(store: Store, run_id: str, points: Iterator[Recorded]) -> None:
    batch: list[Point] = []
    for point in points:
        batch.append(Point(*point))
        if len(batch) == MAX_BATCH:
            store.put_points(run_id, batch)
            batch.clear()
    store.put_points(run_id, batch)


def _bring_model(
    store: Store, experiment: str, run_id: str, record: RunRecord, model: LoggedModel, archive: Archive
) -> str:
    folder = archive.model(record.id, model.id)
    made = store.client.create_logged_model(
        experiment, model.name, run_id, tags=model.tags, params=model.params, model_type=model.kind
    )
    with tempfile.TemporaryDirectory(prefix="study-") as copied:
        shutil.copytree(folder, copied, dirs_exist_ok=True)
        _describe_anew(Path(copied, DESCRIBED), {record.id: run_id, model.id: made.model_id}, made.artifact_location)
        store.client.log_model_artifacts(made.model_id, copied)
    store.client.finalize_logged_model(made.model_id, "READY")
    store.client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    return str(made.model_id)


def _describe_anew(file: Path, ids: Mapping[str, str], location: str) -> None:
    """Has a model's own description name its run, itself and its place as they are called here."""
    if file.is_file():
        # As bytes: whatever else it holds stays as it is.
        content = file.read_bytes()
        for before, now in ids.items():
            content = content.replace(before.encode(), now.encode())
        said = f"artifact_path: {location}".encode()
        file.write_bytes(re.sub(rb"^artifact_path: .*$", lambda _: said, content, flags=re.MULTILINE))


def unfinished(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Those of `runs` whose import did not end, by the process that imports or imported them."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if MARK in run.tags:
            found.setdefault(run.tags[MARK], []).append(run)
    return found


def seal(store: Store, runs: Sequence[str]) -> None:
    """Says that all data of an import is there: whatever happens, it is finished from here on."""
    store.put_tags(runs[0], {COMPLETE: "yes"})


def is_sealed(runs: Sequence[Run]) -> bool:
    """Whether `seal` was called for these runs."""
    return any(COMPLETE in run.tags for run in runs)


def complete(store: Store, runs: Sequence[Run]) -> None:
    """Makes the runs of a sealed import appear; the one that was sealed comes last."""
    for run in sorted(runs, key=lambda run: COMPLETE in run.tags):
        give_aliases(store, run.id)
        store.put_tags(run.id, {"stage": run.tags[STAGE]})
        for name in (STAGE, COMPLETE, MARK):
            if name in run.tags:
                store.client.delete_tag(run.id, name)


def undo(store: Store, runs: Sequence[Run]) -> None:
    """Deletes the runs of an import that was cut off, with their files, models and versions."""
    client = store.client
    for run in runs:
        for version in client.search_model_versions(f"run_id='{run.id}'"):
            client.delete_model_version(version.name, version.version)
            if not client.search_model_versions(f"name={quoted(version.name)}"):
                client.delete_registered_model(version.name)
        kept = client.get_run(run.id)
        for output in kept.outputs.model_outputs if kept.outputs else []:
            _delete_files(client.get_logged_model(output.model_id).artifact_location)
            client.delete_logged_model(output.model_id)
        _delete_files(kept.info.artifact_uri)
        client.delete_run(run.id)


def _delete_files(uri: str) -> None:
    # What is not there, or may not be deleted, is in nobody's way: the run that it belongs to is gone.
    with contextlib.suppress(MlflowException, OSError):
        get_artifact_repository(uri).delete_artifacts()
