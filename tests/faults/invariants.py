"""Invariants of the stores after any fault, checked by SQL, without the program's own code."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy
from safetensors.numpy import load_file

from tests.faults.places import Place

COUNTED = ("COMPLETE", "PRUNED")
ENDS = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "diverged": "FINISHED",
    "interrupted": "KILLED",
}
"""Status of a trial's run in MLflow, by the trial's reason."""


def read(url: str, query: str, **values: object) -> pd.DataFrame:
    """The result of a query."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return pd.read_sql(sqlalchemy.text(query), connection, params=values)


@dataclass(frozen=True)
class Trial:
    """A trial as recorded in Optuna."""

    number: int
    state: str
    value: float | None
    curve: dict[int, float]
    params: dict[str, float]
    attributes: dict[str, Any]
    """User attributes."""

    @property
    def reason(self) -> str:
        return str(self.attributes.get("status_reason", ""))


def trials_of(place: Place, search: str) -> list[Trial]:
    """The trials of a search by number, without surplus ones."""
    of = "FROM {} JOIN trials USING (trial_id) JOIN studies USING (study_id) WHERE study_name = :search"
    trials = read(
        place.storage,
        "SELECT trial_id, number, state FROM trials JOIN studies USING (study_id) WHERE study_name = :search "
        "ORDER BY number",
        search=search,
    )
    values, curves, params, attributes = (
        read(place.storage, f"SELECT trial_id, {columns} {of.format(table)}", search=search)
        for table, columns in (
            ("trial_values", "value"),
            ("trial_intermediate_values", "step, intermediate_value"),
            ("trial_params", "param_name, param_value"),
            ("trial_user_attributes", "key, value_json"),
        )
    )
    by_trial = dict(zip(values["trial_id"], values["value"], strict=True))
    records = [
        Trial(
            int(row.number),
            str(row.state),
            by_trial.get(row.trial_id),
            _pairs(curves, row.trial_id),
            _pairs(params, row.trial_id),
            {key: json.loads(value) for key, value in _pairs(attributes, row.trial_id).items()},
        )
        for row in trials.itertuples()
    ]
    return [trial for trial in records if trial.reason != "surplus"]


def _pairs(table: pd.DataFrame, trial: int) -> dict[Any, Any]:
    rows = table[table["trial_id"] == trial]
    return dict(zip(rows.iloc[:, 1], rows.iloc[:, 2], strict=True))


@dataclass(frozen=True)
class RecordedRun:
    """A run as recorded in MLflow."""

    id: str
    status: str
    started: int
    artifacts: Path
    tags: dict[str, str]
    points: list[tuple[str, int, float]]
    """All recorded values: metric, step, value."""

    def curve(self, metric: str) -> dict[int, float]:
        """A metric's value by step."""
        return {step: value for name, step, value in self.points if name == metric}


def runs_of(place: Place, **tags: str) -> list[RecordedRun]:
    """The runs with these tags."""
    runs = read(
        place.tracking, "SELECT run_uuid, status, start_time, artifact_uri FROM runs WHERE lifecycle_stage = 'active'"
    )
    labels = read(place.tracking, "SELECT run_uuid, key, value FROM tags")
    by_run: dict[str, dict[str, str]] = {}
    for row in labels.itertuples():
        by_run.setdefault(str(row.run_uuid), {})[str(row.key)] = str(row.value)
    metrics = read(place.tracking, "SELECT run_uuid, key, step, value FROM metrics")
    points: dict[str, list[tuple[str, int, float]]] = {}
    for row in metrics.itertuples():
        points.setdefault(str(row.run_uuid), []).append((str(row.key), int(row.step), float(row.value)))
    return [
        RecordedRun(
            str(row.run_uuid),
            str(row.status),
            int(row.start_time),
            place.artifacts(str(row.artifact_uri)),
            by_run.get(str(row.run_uuid), {}),
            points.get(str(row.run_uuid), []),
        )
        for row in runs.itertuples()
        if tags.items() <= by_run.get(str(row.run_uuid), {}).items()
    ]


@dataclass
class Broken:
    """Violated invariants as messages, by kind."""

    lost: list[str] = field(default_factory=list)
    """Finished trials that are gone or changed."""
    disagreements: list[str] = field(default_factory=list)
    """Between the stores, or within one."""
    unequal: list[str] = field(default_factory=list)
    """Weights, predictions or tables that differ from those of an uninterrupted run, or from their hash."""
    other: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        """All messages."""
        return [*self.lost, *self.disagreements, *self.unequal, *self.other]


def finished(trials: Iterable[Trial]) -> dict[int, Trial]:
    """The trials that count, by number."""
    return {trial.number: trial for trial in trials if trial.state in COUNTED}


def check_search(place: Place, search: str, total: int, before: dict[int, Trial], broken: Broken) -> int:
    """Checks a completed search; returns how many of its trials are retries.

    Args:
        place: its stores.
        search: its name.
        total: required number of finished trials.
        before: the trials that were finished at any of the kills.
        broken: collects the violations.
    """
    trials = trials_of(place, search)
    now = finished(trials)
    for number, trial in before.items():
        if now.get(number) != trial:
            broken.lost.append(f"trial {number} was {trial}, now {now.get(number)}")
    if len(now) != total:
        broken.disagreements.append(f"{len(now)} trials are finished, not {total}")
    broken.disagreements += [f"trial {trial.number} is RUNNING" for trial in trials if trial.state == "RUNNING"]
    drawn = Counter(tuple(sorted(trial.params.items())) for trial in now.values())
    broken.disagreements += [f"{params} were finished {count} times" for params, count in drawn.items() if count > 1]
    runs = runs_of(place, stage="trial", search=search)
    _check_mirror(trials, runs, broken)
    parents = runs_of(place, stage="search", search=search)
    if [run.status for run in parents] != ["FINISHED"]:
        broken.disagreements.append(f"the search's runs are {[run.status for run in parents]}")
    return sum("retry_of" in trial.attributes for trial in trials)


def _check_mirror(trials: list[Trial], runs: list[RecordedRun], broken: Broken) -> None:
    say = broken.disagreements.append
    by_id = {run.id: run for run in runs}
    mirrored = Counter(run.tags["optuna_trial"] for run in runs)
    for number, count in mirrored.items():
        if count > 1 or int(number) not in {trial.number for trial in trials}:
            say(f"trial {number} has {count} runs")
    for run in runs:
        _check_points(run, broken)
    for trial in trials:
        run_id = trial.attributes.get("mlflow_run")
        if run_id is None:
            if trial.state in COUNTED:
                say(f"trial {trial.number} is {trial.state} and has no run")
            continue
        run = by_id.get(run_id)
        if run is None:
            say(f"the run of trial {trial.number} is gone")
            continue
        if (ended := (run.status, run.tags.get("status_reason"))) != (ENDS.get(trial.reason), trial.reason):
            say(f"trial {trial.number} is {trial.state} {trial.reason}, its run {ended}")
        recorded = run.curve("val_accuracy")
        if trial.state in COUNTED and recorded != trial.curve:
            say(f"trial {trial.number} has {trial.curve}, its run {recorded}")
        if any(recorded[epoch] != trial.curve[epoch] for epoch in recorded.keys() & trial.curve.keys()):
            say(f"interrupted trial {trial.number} has {trial.curve}, its run {recorded}")
        if trial.state == "COMPLETE" and run.curve("best_val_accuracy") != {0: trial.value}:
            say(f"trial {trial.number} reached {trial.value}, its run {run.curve('best_val_accuracy')}")


def _check_points(run: RecordedRun, broken: Broken) -> None:
    if run.status == "RUNNING":
        broken.disagreements.append(f"run {run.id} ({run.tags.get('stage')}) is RUNNING")
    twice = [point for point, count in Counter((name, step) for name, step, _ in run.points).items() if count > 1]
    broken.disagreements += [f"run {run.id} has {name} of step {step} more than once" for name, step in twice]


def check_retrained(run: RecordedRun, epochs: int, expected: Path, broken: Broken) -> None:
    """Checks a finished retraining against the artifacts of one that was never interrupted."""
    _check_points(run, broken)
    for metric, first in (("test_accuracy", 0), ("test_loss", 0), ("train_loss", 1), ("system/epoch_seconds", 1)):
        if sorted(run.curve(metric)) != list(range(first, epochs + 1)):
            broken.disagreements.append(f"run {run.id} has {metric} of epochs {sorted(run.curve(metric))}")
    _check_hashes(run, broken)
    for file in sorted((*expected.glob("weights/*.safetensors"), *expected.glob("predictions/*.safetensors"))):
        name = file.relative_to(expected)
        if not (run.artifacts / name).is_file():
            broken.unequal.append(f"run {run.id} has no {name}")
        elif not _equal(file, run.artifacts / name):
            broken.unequal.append(f"{name} of run {run.id} is not that of an uninterrupted run")


def _equal(left: Path, right: Path) -> bool:
    first, second = load_file(left), load_file(right)
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


def _check_hashes(run: RecordedRun, broken: Broken) -> None:
    sums = run.artifacts / "SHA256SUMS"
    if not sums.is_file():
        broken.unequal.append(f"run {run.id} has no SHA256SUMS")
        return
    known = {path: digest for digest, path in (line.split("  ", 1) for line in sums.read_text().splitlines())}
    files = {
        str(file.relative_to(run.artifacts)): file
        for folder in ("weights", "predictions")
        for file in run.artifacts.glob(f"{folder}/*.safetensors")
    }
    files |= {name: run.artifacts / name for name in ("MODEL_SHA256SUMS", "dataset.json")}
    if known.keys() != files.keys():
        broken.unequal.append(f"run {run.id} has hashes of {sorted(known)}, and files {sorted(files)}")
    for path in known.keys() & files.keys():
        if hashlib.sha256(files[path].read_bytes()).hexdigest() != known[path]:
            broken.unequal.append(f"{path} of run {run.id} is not what its hash says")


def check_analysed(run: RecordedRun, expected: dict[str, bytes], broken: Broken) -> None:
    """Checks the report among a run's artifacts against that of an uninterrupted analysis."""
    tables = tables_of(run.artifacts / "report")
    broken.unequal += [f"the report has no {name}" for name in sorted(expected.keys() - tables.keys())]
    for name in sorted(expected.keys() & tables.keys()):
        if expected[name] != tables[name]:
            broken.unequal.append(f"{name} is not that of an uninterrupted analysis")


def tables_of(folder: Path) -> dict[str, bytes]:
    """The tables of a report, by path."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*.csv"))}


def check_ended(place: Place, since: int, broken: Broken) -> None:
    """Checks that no run started at or after `since` (milliseconds since 1970) is RUNNING."""
    for run in runs_of(place):
        message = f"run {run.id} ({run.tags.get('stage')}) is RUNNING"
        if run.started >= since and run.status == "RUNNING" and message not in broken.disagreements:
            broken.disagreements.append(message)
