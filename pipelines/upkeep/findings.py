"""The facts that `study doctor` compares, and the findings that it reports."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

from mlflow.entities import ViewType

from pipelines.session.context import Stores
from study.search.records import Searches, SearchRecord, TrialRecord
from study.system.processes import is_gone, is_known
from study.tracking.permissions import experiment
from study.tracking.queries import every
from study.tracking.registry import delete_run
from study.tracking.runs import Run, as_run
from study.tracking.store import Store

Life = Literal["lives", "gone", "elsewhere"]
"""Whether a process lives; elsewhere: on another host, or in another container, where only signs of it are seen."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and what repairs it."""

    message: str
    where: str
    remedy: str
    """What --fix does, or else what the user can do."""
    repair: Callable[[], object] | None = field(default=None, compare=False)
    """Performs the remedy; findings may share one, which is then called once."""


def life(worker: str, *, dead: Container[str] = (), all_hosts: bool = False) -> Life:
    """Whether the process `worker` (from `this_process`) lives; an empty one counts as gone.

    Args:
        worker: the process.
        dead: processes of other hosts that gave no sign of life.
        all_hosts: whether every process of another host, which cannot be seen from here, counts as gone.
    """
    if not worker or is_gone(worker):
        return "gone"
    if is_known(worker):
        return "lives"
    return "gone" if all_hosts or worker in dead else "elsewhere"


@dataclass(frozen=True)
class Facts:
    """Both stores, and what they hold."""

    store: Store
    storage: Searches
    searches: Sequence[SearchRecord]
    runs: Sequence[Run]
    """All runs that have a stage."""
    deleted: Sequence[Run]
    """Runs that were deleted, which MLflow keeps and marks."""
    hidden: Mapping[str, Sequence[Run]] = field(default_factory=dict)
    """The runs in experiments that were deleted, by the experiment's id."""
    life: Callable[[str], Life] = life

    def of_stage(self, stage: str) -> list[Run]:
        """The runs of a stage."""
        return [run for run in self.runs if run.stage == stage]

    def of_search(self, search: SearchRecord, runs: Sequence[Run] | None = None) -> list[Run]:
        """The runs of a search itself, the one that its trials are below first."""
        candidates = self.runs if runs is None else runs
        own = [run for run in candidates if (run.stage, run.search) == ("search", search.name)]
        below = [run.parent for run in self.of_stage("trial")]
        return sorted(own, key=lambda run: -below.count(run.id))

    @cached_property
    def parents(self) -> dict[str, Run | None]:
        """The run of each search by its name; None where it has none."""
        return {search.name: next(iter(self.of_search(search)), None) for search in self.searches}

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """The runs by their ids."""
        return {run.id: run for run in self.runs}

    def of_repairs(self, repairs: Iterable[Callable[[], object]]) -> list[Run]:
        """The runs that repairs take, themselves or their ids, among their arguments."""
        given = [each for repair in repairs if isinstance(repair, partial) for each in repair.args]
        ids = {each.id if isinstance(each, Run) else each for each in given if isinstance(each, Run | str)}
        return [run for run in (*self.runs, *self.deleted) if run.id in ids]

    @cached_property
    def _by_trial(self) -> dict[tuple[str, str], list[Run]]:
        return _by_trial(self.runs)

    @cached_property
    def _deleted_by_trial(self) -> dict[tuple[str, str], list[Run]]:
        return _by_trial(self.deleted)

    def of_trial(self, search: SearchRecord, trial: TrialRecord, *, deleted: bool = False) -> list[Run]:
        """The runs of a trial, the one that it names first; or those that were deleted."""
        by_trial = self._deleted_by_trial if deleted else self._by_trial
        runs = {run.id: run for run in by_trial.get((search.name, str(trial.number)), ())}
        named = None if deleted else self.by_id.get(trial.run_id)
        runs |= {named.id: named} if named else {}
        return sorted(runs.values(), key=lambda run: (run.id != trial.run_id, run.status != "FINISHED", run.started))


def read_facts(context: Stores, storage: Searches, life: Callable[[str], Life]) -> Facts:
    """Reads both stores."""
    # The runs first: a trial that begins meanwhile is then among the trials, its run not among the runs.
    store = context.store
    runs = [run for run in store.runs() if run.stage]
    searches, hidden = storage.read(), store.experiments.deleted()
    in_deleted = {run.search for deleted in hidden.values() for run in deleted}
    # A deleted experiment is one finding, not one more for each of its trials.
    others = [search for search in searches if search.name not in in_deleted]
    return Facts(store, storage, others, runs, _deleted(store), hidden, life)


def _deleted(store: Store) -> list[Run]:
    ids = [
        experiment.experiment_id
        for experiment in every(store.client.search_experiments, view_type=ViewType.ACTIVE_ONLY)
    ]
    runs = every(store.client.search_runs, ids, run_view_type=ViewType.DELETED_ONLY) if ids else []
    return [run for run in map(as_run, runs) if run.stage]


def _by_trial(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    by_trial: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.stage == "trial":
            by_trial.setdefault((run.search, run.trial_text), []).append(run)
    return by_trial


def label(run: Run) -> str:
    """A run as a finding names it."""
    return f"run {run.id[:12]} ({run.name})"


def require_permissions(facts: Facts, repairs: Iterable[Callable[[], object]]) -> None:
    """Checks that the user of a server may change the runs that repairs name, and delete or restore them where they do.

    Raises:
        StudyError: where the user may not; with the command that grants it.
    """
    of_manager = (delete_run, restore_run)
    managing = [repair for repair in repairs if isinstance(repair, partial) and repair.func in of_manager]
    require_permission(facts, "MANAGE", facts.of_repairs(managing))
    require_permission(facts, "EDIT", facts.of_repairs(repairs))


def restore_run(store: Store, run: Run) -> None:
    """Restores a run that was deleted in MLflow."""
    store.client.restore_run(run.id)


def require_permission(facts: Facts, permission: str, runs: Iterable[Run]) -> None:
    """Checks that the user of a server has a permission on the experiments of the runs."""
    needed = dict.fromkeys(experiment(run.dataset_key, run.experiment_id) for run in runs)
    facts.store.require_permission(*needed, permission=permission)


def signs_from_elsewhere(facts: Facts) -> dict[str, str]:
    """What changes while they live of the processes that cannot be seen from here, by process."""
    signs: dict[str, str] = {}
    for search in facts.searches:
        for trial in search.trials:
            if trial.state == "RUNNING" and facts.life(trial.worker) == "elsewhere":
                signs[trial.worker] = f"{signs.get(trial.worker)} {trial.number} {trial.heartbeat} {trial.accuracies}"
    for run in facts.runs:
        if run.stage != "trial" and run.status == "RUNNING" and facts.life(run.worker) == "elsewhere":
            signs[run.worker] = f"{signs.get(run.worker)} {run.id} {run.heartbeat} {sorted(run.metrics.items())}"
    return signs


@dataclass(frozen=True)
class Running:
    """A trial or run that is under way, and its process."""

    where: str
    worker: str
    is_known: bool
    """Whether it can be seen here that the process lives."""


def under_way(facts: Facts) -> list[Running]:
    """The trials and runs that a process works on, or may work on where it cannot be seen from here."""
    work = []
    for search in facts.searches:
        for trial in search.trials:
            if trial.state == "RUNNING" and (alive := facts.life(trial.worker)) != "gone":
                work.append(Running(f"search {search.name}, trial {trial.number}", trial.worker, alive == "lives"))
    for run in facts.runs:
        if run.stage != "trial" and run.status == "RUNNING" and (alive := facts.life(run.worker)) != "gone":
            work.append(Running(label(run), run.worker, alive == "lives"))
    return work
