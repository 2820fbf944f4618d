"""An exported study as it is read: every record checked against the others before anything is made of it."""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from pipelines.upkeep.archive_files import files_below
from pipelines.upkeep.archive_format import (
    MANIFEST,
    SUMS,
    Manifest,
    Registered,
    RunRecord,
    SearchRecord,
    malformed,
    read_record,
    run_folder,
)
from study.config import STAGES, DataConfig, TrainConfig, can_be_name
from study.errors import StudyError
from study.search.records import MARK
from study.search.trial import COUNTED

COLUMNS = ["metric", "value", "time", "step"]
MOST = 2**53
"""Of a time or a step: more is no number of milliseconds or of optimiser steps."""
TAGS = {
    "search": ("search", "model", "dataset"),
    "trial": ("search", "model", "dataset", "optuna_trial", "base_seed"),
    "retrain": ("search", "model", "dataset", "optuna_trial", "trial_run", "seed"),
    "analysis": ("model", "dataset", "retrain_run"),
    "experiment": ("experiment", "dataset"),
    "replicate": ("experiment", "condition", "model", "dataset"),
}
"""What the stages read of their runs."""
IN_NAMES = ("dataset", "search", "experiment", "model")
"""What files and folders are called after, and runs are asked for by."""
WHOLE_NUMBERS = ("optuna_trial", "base_seed", "seed", "retry_of", "stopped_epoch")
LARGEST = 2**32 - 1
"""Of these: no seed and no trial's number is larger."""
PARAMS = ("dataset_digest", "git_commit", "device", "precision")
"""What the stages read of the params of a training, beside its settings."""


class Recorded(NamedTuple):
    """One value of a metric, as it lies in a run's metrics.csv."""

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class Archive:
    """An exported study whose records are whole and fit together."""

    folder: Path
    manifest: Manifest
    runs: Mapping[str, RunRecord]
    """By id, each after the runs that it names."""
    searches: Mapping[str, SearchRecord]

    def points(self, run_id: str) -> Iterator[Recorded]:
        """The metrics of a run."""
        return read_points(self.folder / run_folder(run_id) / "metrics.csv", run_id)

    def artifacts(self, run_id: str) -> Path:
        """The folder of a run's files; it may be missing."""
        return self.folder / run_folder(run_id) / "artifacts"

    def model(self, run_id: str, model_id: str) -> Path:
        """The folder of the files of a model that was logged to a run."""
        return self.folder / run_folder(run_id) / "models" / model_id


def read_archive(folder: Path) -> Archive:
    """Reads the records below `folder`, whose files and hashes were verified.

    Raises:
        StudyError: where a record is missing, has a value that it cannot have, or does not fit the others.
    """
    names = set(files_below(folder)) - {SUMS}
    if MANIFEST not in names:
        raise malformed(f"it has no file {MANIFEST}")
    manifest = read_record(Manifest, (folder / MANIFEST).read_bytes(), MANIFEST)
    _require_known(names, manifest)
    runs = {run_id: _run(folder, run_id, names) for run_id in manifest.runs}
    searches = {name: _search(folder, name, path, names) for name, path in manifest.searches.items()}
    archive = Archive(folder, manifest, {run_id: runs[run_id] for run_id in _in_order(runs)}, searches)
    _require_registered(manifest.registered, runs)
    _require_counts(archive)
    return archive


def _require_known(names: set[str], manifest: Manifest) -> None:
    if len(set(manifest.runs)) < len(manifest.runs):
        raise malformed("a run is in it twice")
    known = {MANIFEST, *manifest.searches.values()}
    if len(known) <= len(manifest.searches):
        raise malformed("two searches have one file")
    for run_id in manifest.runs:
        known |= {f"{run_folder(run_id)}/run.json", f"{run_folder(run_id)}/metrics.csv"}
    for name in sorted(names - known):
        parts = name.split("/")
        if len(parts) < 4 or parts[0] != "runs" or parts[1] not in manifest.runs or parts[2] not in _FOLDERS:
            raise malformed(f"{name} has no place in it")


_FOLDERS = ("artifacts", "models")


def _text(folder: Path, path: str, names: set[str]) -> bytes:
    if path not in names:
        raise malformed(f"it has no file {path}")
    return (folder / path).read_bytes()


def _run(folder: Path, run_id: str, names: set[str]) -> RunRecord:
    path = f"{run_folder(run_id)}/run.json"
    run = read_record(RunRecord, _text(folder, path, names), path)
    if run.id != run_id:
        raise malformed(f"{path} is of run {run.id}")
    _require_tags(run)
    prefix = f"{run_folder(run_id)}/models/"
    kept = {name.removeprefix(prefix).split("/")[0] for name in names if name.startswith(prefix)}
    if kept != {model.id for model in run.models}:
        raise malformed(f"the models of run {run_id} are not those in {path}")
    _text(folder, f"{run_folder(run_id)}/metrics.csv", names)
    for _ in read_points(folder / run_folder(run_id) / "metrics.csv", run_id):
        pass
    return run


def _require_tags(run: RunRecord) -> None:
    """Checks what the stages rely on when they read a run."""
    stage = run.tags.get("stage", "")
    if stage not in STAGES:
        raise malformed(f"run {run.id} has the stage {stage!r}, which is none of {', '.join(STAGES)}")
    _require_no_marks(f"run {run.id}", run.tags)
    if run.tags.get("mlflow.runName", run.name) != run.name:
        raise malformed(f"run {run.id} has the names {run.name!r} and {run.tags['mlflow.runName'][:100]!r}")
    if not re.fullmatch("[0-9a-f]{32}", run.origin):
        raise malformed(f"run {run.id} was imported from {run.origin[:100]!r}, which is no run's id")
    missing = [name for name in TAGS[stage] if not run.tags.get(name)]
    if missing:
        raise malformed(f"run {run.id}, a {stage}, has no tag {missing[0]}")
    for name in IN_NAMES:
        if run.tags.get(name) and not can_be_name(run.tags[name]):
            raise malformed(f"run {run.id} has the {name} {run.tags[name][:100]!r}, which none can have")
    for name in WHOLE_NUMBERS:
        if not re.fullmatch("[0-9]{1,10}", said := run.tags.get(name, "0")) or int(said) > LARGEST:
            raise malformed(f"run {run.id} has the {name} {run.tags[name]!r}, which is no whole number up to {LARGEST}")
    if (stage, run.status) == ("trial", "FINISHED") and run.tags.get("status_reason") not in COUNTED:
        raise malformed(f"run {run.id}, a finished trial, has the reason {run.tags.get('status_reason')!r}")
    try:
        if stage != "analysis":
            DataConfig.from_params(run.params)
        if stage in ("trial", "retrain", "replicate"):
            TrainConfig.from_params(run.params)
            for name in PARAMS:
                run.params[name]
    except (KeyError, ValueError, TypeError, StudyError) as error:
        raise malformed(f"run {run.id} has params that no {stage} has: {error}") from None


def _require_no_marks(what: str, names: Iterable[str]) -> None:
    for name in names:
        if name.startswith(MARK):
            raise malformed(f"{what} has {name!r}, which is for what is half imported")


def read_points(path: Path, run_id: str) -> Iterator[Recorded]:
    """The points in a run's metrics.csv.

    Raises:
        StudyError: at a line that is none.
    """
    with path.open(encoding="utf-8", newline="") as file:
        try:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != COLUMNS:
                raise ValueError(f"its columns are not {','.join(COLUMNS)}")
            for name, value, time, step in rows:
                yield _point(name, value, time, step)
        except (ValueError, csv.Error) as error:
            raise malformed(f"metrics.csv of run {run_id}: {error}") from None


def _point(name: str, value: str, time: str, step: str) -> Recorded:
    point = Recorded(name, float(value), int(time), int(step))
    if not (0 < len(name) <= 250 and 0 <= point.time <= MOST and abs(point.step) <= MOST):
        raise ValueError(f"{name[:100]},{value},{time},{step} is no point of a metric")
    return point


def write_points(path: Path, points: Iterator[Recorded]) -> None:
    """Writes a run's metrics.csv; numbers keep every digit."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows((point.name, repr(point.value), point.time, point.step) for point in points)


def _search(folder: Path, name: str, path: str, names: set[str]) -> SearchRecord:
    if not path.startswith("searches/"):
        raise malformed(f"the search {name!r} is said to be in {path}")
    search = read_record(SearchRecord, _text(folder, path, names), path)
    if search.name != name:
        raise malformed(f"{path} is of the search {search.name!r}, and not of {name!r}")
    if [trial.number for trial in search.trials] != list(range(len(search.trials))):
        raise malformed(f"the trials in {path} are not numbered from 0")
    _require_no_marks(f"the search {name!r}", search.user_attrs)
    for trial in search.trials:
        if trial.value is not None and not math.isfinite(trial.value):
            raise malformed(f"trial {trial.number} in {path} has the value {trial.value}")
    return search


def _in_order(runs: Mapping[str, RunRecord]) -> list[str]:
    graph = {run_id: run.references & runs.keys() for run_id, run in runs.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError:
        raise malformed("runs in it name each other in a circle") from None


def _require_registered(registered: tuple[Registered, ...], runs: Mapping[str, RunRecord]) -> None:
    for model in registered:
        numbers = [version.version for version in model.versions]
        if numbers != sorted(set(numbers)) or not set(model.aliases.values()) <= set(numbers):
            raise malformed(f"the versions of the registered model {model.name!r} are not in order")
        for version in model.versions:
            _require_no_marks(f"version {version.version} of {model.name!r}", version.tags)
            kept = runs[version.run].models if version.run in runs else ()
            if version.model not in {one.id for one in kept}:
                raise malformed(f"version {version.version} of {model.name!r} is no model in it")


def _require_counts(archive: Archive) -> None:
    found = counts(archive.runs, archive.searches)
    for name, count in archive.manifest.counts.items():
        if found.get(name) != count:
            raise malformed(f"it has {found.get(name)} {name}, and says {count}")


def counts(runs: Mapping[str, RunRecord], searches: Mapping[str, SearchRecord]) -> dict[str, int]:
    """How many there are of each kind of record."""
    return {
        "runs": len(runs),
        "models": sum(len(run.models) for run in runs.values()),
        "searches": len(searches),
        "trials": sum(len(search.trials) for search in searches.values()),
    }


def in_words(counted: Mapping[str, int]) -> str:
    """So many of each kind, in words; without what there is none of."""
    words = [f"{count:,} {kind if count != 1 else _ONE[kind]}" for kind, count in counted.items() if count]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "nothing"


_ONE = {"runs": "run", "models": "model", "searches": "search", "trials": "trial"}
