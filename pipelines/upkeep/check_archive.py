"""Checks the runs of an imported tracking store for everything that the stages rely on."""

import re
from collections.abc import Iterator

from mlflow.entities import ViewType

from pipelines.upkeep.archive import malformed
from study.config import STAGES, DataConfig, TrainConfig
from study.errors import StudyError
from study.names import can_be_name
from study.search.trial import COUNTED
from study.tracking.queries import every
from study.tracking.runs import NAME_TAGS, NUMBER_TAGS, STAGE_TAGS, TRAINING_PARAMS, Run
from study.tracking.store import Store

LARGEST = 2**32 - 1
"""Maximum of the numbers in tags: no seed or trial number is larger."""
LATEST = 2**53
"""Maximum time of a run, in milliseconds since 1970."""


def check_runs(store: Store, count: int) -> None:
    """Checks every run in `store`, of which its database has `count`, and the experiments that they are in.

    Raises:
        StudyError: for the first that no stage can have made.
    """
    for experiment in every(store.client.search_experiments, view_type=ViewType.ALL):
        if not can_be_name(experiment.name):
            raise malformed(f"the experiment {experiment.name[:100]!r} cannot be the name of a folder")
    runs = {run.id: run for run in store.runs()}
    if len(runs) != count:
        raise malformed("it has runs that were deleted")
    for run in runs.values():
        if problem := problem_of(run):
            raise malformed(problem)
    for run in runs.values():
        seen, parent = {run.id}, run.parent
        while parent in runs:
            if parent in seen:
                raise malformed("runs in it name each other in a circle")
            seen.add(parent)
            parent = runs[parent].parent


def problem_of(run: Run) -> str:
    """Why no stage can have recorded this run; empty where nothing is wrong."""
    return next((problem for check in (_identity, _tags, _params) for problem in check(run)), "")


def _identity(run: Run) -> Iterator[str]:
    if not re.fullmatch("[0-9a-f]{32}", run.id):
        yield f"{run.id[:100]!r} is not a run id"
    if run.status not in ("FINISHED", "FAILED", "KILLED"):
        yield f"run {run.id} has the status {run.status[:100]!r}"
    if not 0 <= run.started <= LATEST:
        yield f"run {run.id} started at {run.started}, which is not a valid time"
    for name, value in run.references.items():
        if not re.fullmatch("[0-9a-f]{32}", value):
            yield f"run {run.id} has the {name} {value[:100]!r}, which is not a run id"


def _tags(run: Run) -> Iterator[str]:
    stage = run.stage
    if stage not in STAGES:
        yield f"run {run.id} has the stage {stage[:100]!r}, which is none of {', '.join(STAGES)}"
        return
    if run.mlflow_name not in ("", run.name):
        yield f"run {run.id} has the names {run.name[:100]!r} and {run.mlflow_name[:100]!r}"
    missing = [name for name in STAGE_TAGS[stage] if not run.tags.get(name)]
    if missing:
        yield f"run {run.id}, a {stage}, has no tag {missing[0]}"
    for name in NAME_TAGS:
        if run.tags.get(name) and not can_be_name(run.tags[name]):
            yield f"run {run.id} has the {name} {run.tags[name][:100]!r}, which none can have"
    for name in NUMBER_TAGS:
        value = run.tags.get(name, "0")
        if not re.fullmatch("[0-9]{1,10}", value) or int(value) > LARGEST:
            yield f"run {run.id} has the {name} {value[:100]!r}, which is no whole number up to {LARGEST}"
    if (stage, run.status) == ("trial", "FINISHED") and run.reason not in COUNTED:
        yield f"run {run.id}, a finished trial, has the reason {run.reason or None!r}"


def _params(run: Run) -> Iterator[str]:
    stage = run.stage
    if not run.params and run.status != "FINISHED":
        # Killed between its start and its params.
        return
    try:
        if stage != "analysis":
            DataConfig.from_params(run.params)
        if stage in ("trial", "retrain", "replicate"):
            TrainConfig.from_params(run.params)
            for name in TRAINING_PARAMS:
                run.params[name]
    except (KeyError, ValueError, TypeError, StudyError) as error:
        yield f"run {run.id} has params that no {stage} has: {error}"
