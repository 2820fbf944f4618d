"""A run as plain data, and the points of its metrics."""

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from study.system.processes import is_gone

NOT_CONTINUED = ("diverged", "incomplete")
"""Reasons for which a retraining ended that another one of the same would meet again, or cannot mend."""


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    time: int
    """Milliseconds since 1970."""
    step: int


@dataclass(frozen=True)
class Run:
    """A run as it is recorded: `metrics` holds each metric's latest value."""

    id: str
    name: str
    status: str
    experiment_id: str
    started: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


def as_run(run: Any) -> Run:
    """A run of MLflow's as plain data."""
    return Run(
        id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        started=run.info.start_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


def is_under_way(run: Run) -> bool:
    """Whether a process works on a run, or may do so where that cannot be seen from here."""
    worker = run.tags.get("worker")
    return run.status == "RUNNING" and worker is not None and not is_gone(worker)


def as_param(value: object) -> str:
    """A setting as a run's params hold it."""
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)


def epochs_of(run: Run) -> int:
    """For how many epochs a run was to train; 0 where its params do not say."""
    said = run.params.get("epochs", "")
    return int(said) if said.isdecimal() else 0


def metric(run: Run, name: str) -> float:
    """A run's metric; NaN where it has none or none that is finite (MLflow keeps infinity as 1.8e308)."""
    value = run.metrics.get(name, math.nan)
    return value if abs(value) < sys.float_info.max else math.nan


def points(metrics: Mapping[str, float], step: int) -> list[Point]:
    """The metrics of one step, of now."""
    now = time.time_ns() // 1_000_000
    return [Point(name, value, now, step) for name, value in metrics.items()]
