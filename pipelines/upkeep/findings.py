"""What `study doctor` finds, and what mends it: plain data, that knows neither store.

Optuna's record of a trial is the truth, and MLflow's run mirrors it; where they differ, the run is mended.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from study.search.records import SearchRecord, TrialRecord
from study.system.processes import is_gone, is_known
from study.tracking.runs import Run
from study.tracking.store import Point

Life = Literal["lives", "gone", "elsewhere"]
"""Whether a process lives; elsewhere: on another host, or in another container, where that cannot be seen."""


@dataclass(frozen=True)
class EndRun:
    """Ends a run."""

    run_id: str
    status: str
    reason: str


@dataclass(frozen=True)
class EndTrial:
    """Ends a trial, as interrupted."""

    search: str
    number: int


@dataclass(frozen=True)
class RestoreRun:
    """Takes back that a run was deleted, which MLflow only notes."""

    run_id: str


@dataclass(frozen=True)
class DeleteRun:
    """Deletes a run, as MLflow does: it can be restored."""

    run_id: str


@dataclass(frozen=True)
class CreateRun:
    """Makes the run of a trial, or of a search, from what Optuna has."""

    search: str
    number: int | None = None


@dataclass(frozen=True)
class LogResults:
    """Draws a search's figures anew, and notes how many trials are in them."""

    search: str
    run_id: str


@dataclass(frozen=True)
class SetTags:
    """Sets tags of a run."""

    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class SetParams:
    """Sets params of a run, which MLflow itself never changes. It takes a database that can be reached."""

    run_id: str
    params: Mapping[str, str]


@dataclass(frozen=True)
class AddPoint:
    """Records a value that a run lacks."""

    run_id: str
    name: str
    step: int
    value: float


@dataclass(frozen=True)
class SetPoint:
    """Keeps one value of a metric's step; None: the last that was recorded. It takes a database that can be reached."""

    run_id: str
    name: str
    step: int
    value: float | None = None


@dataclass(frozen=True)
class MoveLocation:
    """Has what the database says of one place say another; copies what lies in the old one only, where it is there."""

    old: str
    new: str


@dataclass(frozen=True)
class RecordSums:
    """Records the SHA-256 of a run's files that can be checked otherwise."""

    run_id: str
    sums: Mapping[str, str]


@dataclass(frozen=True)
class RemoveFile:
    """Removes a file that was never finished."""

    path: str


Repair = (
    EndRun
    | EndTrial
    | RestoreRun
    | DeleteRun
    | CreateRun
    | LogResults
    | SetTags
    | SetParams
    | AddPoint
    | SetPoint
    | MoveLocation
    | RecordSums
    | RemoveFile
)

IN_DATABASE = (SetParams, SetPoint)
"""What takes a database that can be reached: no server does it."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    what: str
    where: str
    mend: str
    """What --fix does; where it can do nothing, what the user can."""
    repairs: tuple[Repair, ...] = ()
    """Empty where --fix can do nothing."""


def life(worker: str, *, all_hosts: bool = False) -> Life:
    """Whether `worker` (from `study.system.processes.this_process`) lives; nobody is gone.

    Args:
        worker: the process.
        all_hosts: whether one that cannot be seen from here is taken for gone.
    """
    if not worker or is_gone(worker):
        return "gone"
    if is_known(worker):
        return "lives"
    return "gone" if all_hosts else "elsewhere"


@dataclass(frozen=True)
class Facts:
    """What the two stores say."""

    searches: Sequence[SearchRecord]
    runs: Sequence[Run]
    """All that have a stage."""
    deleted: Sequence[Run] = ()
    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    """Every recorded val_accuracy of the trials' runs, by run."""
    life: Callable[[str], Life] = life
    backs: str = ""
    """What the storage is called, for the sentences that name it."""

    def of_stage(self, stage: str) -> list[Run]:
        """The runs of a stage."""
        return [run for run in self.runs if run.tags["stage"] == stage]

    def of_search(self, search: SearchRecord, runs: Sequence[Run] | None = None) -> list[Run]:
        """The runs of a search itself, the one that its trials are below first."""
        found = [run for run in (self.runs if runs is None else runs) if _is(run, "search", search.name)]
        below = [run.tags.get("mlflow.parentRunId") for run in self.of_stage("trial")]
        return sorted(found, key=lambda run: -below.count(run.id))

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """The runs by their ids."""
        return {run.id: run for run in self.runs}

    @cached_property
    def _by_trial(self) -> dict[tuple[str, str], list[Run]]:
        return _by_trial(self.runs)

    @cached_property
    def _deleted_by_trial(self) -> dict[tuple[str, str], list[Run]]:
        return _by_trial(self.deleted)

    def of_trial(self, search: SearchRecord, trial: TrialRecord, *, deleted: bool = False) -> list[Run]:
        """The runs of a trial, the one that it names first; or those that were deleted."""
        by_trial = self._deleted_by_trial if deleted else self._by_trial
        found = {run.id: run for run in by_trial.get((search.name, str(trial.number)), ())}
        named = None if deleted else self.by_id.get(trial.run_id)
        found |= {named.id: named} if named else {}
        return sorted(found.values(), key=lambda run: (run.id != trial.run_id, run.status != "FINISHED", run.started))

    def trial_life(self, trial: TrialRecord) -> Life:
        """Whether a trial under way is worked on."""
        return self.life(trial.worker)


def _by_trial(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.tags["stage"] == "trial":
            found.setdefault((run.tags.get("search", ""), run.tags.get("optuna_trial", "")), []).append(run)
    return found


def _is(run: Run, stage: str, search: str) -> bool:
    return (run.tags.get("stage"), run.tags.get("search")) == (stage, search)


def called(run: Run) -> str:
    """A run as a finding names it."""
    return f"run {run.id[:12]} ({run.name})"


@dataclass(frozen=True)
class UnderWay:
    """Something that a process works on."""

    where: str
    worker: str
    is_known: bool
    """Whether it can be seen here that the process lives."""


def under_way(facts: Facts) -> list[UnderWay]:
    """What is worked on now, or may be by a process that cannot be seen from here."""
    found = []
    for search in facts.searches:
        for trial in search.trials:
            if trial.state == "RUNNING" and (alive := facts.trial_life(trial)) != "gone":
                found.append(UnderWay(f"search {search.name}, trial {trial.number}", trial.worker, alive == "lives"))
    for run in facts.runs:
        worker = run.tags.get("worker", "")
        if run.tags["stage"] != "trial" and run.status == "RUNNING" and (alive := facts.life(worker)) != "gone":
            found.append(UnderWay(called(run), worker, alive == "lives"))
    return found
