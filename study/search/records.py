"""Searches of a storage as plain data, to be compared with MLflow's runs; imports optuna.

Reading changes nothing, except what opening a database changes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.config import SearchConfig
from study.errors import StudyError, first_line
from study.search.draws import draw_of, first_attempt, parameters_of
from study.search.heartbeat import COUNTER
from study.search.search import Search, fail, finished, outcome
from study.search.settings import config_of
from study.search.storage import open_storage
from study.search.trial import COUNTED, Outcome
from study.system.redaction import masked


@dataclass(frozen=True)
class TrialRecord:
    """A trial as recorded in Optuna."""

    number: int
    state: str
    """WAITING, RUNNING, COMPLETE, PRUNED or FAIL."""
    outcome: Outcome
    """Its outcome, where it has ended."""
    params: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    accuracies: Mapping[int, float] = field(default_factory=dict)
    """On the validation split, by epoch."""
    worker: str = ""
    """The process that works on it; see `study.system.processes.this_process`."""
    retry_of: int | None = None
    draw: int = 0
    """Number of the draw that it attempts; see `study.search.draws.draw_of`."""
    fault: str = ""
    """Error in a record that this program cannot have written; empty where there is none."""
    parameters: int | None = None
    """The network's number of parameters, where it is recorded."""
    run_id: str = ""
    """Id of the MLflow run that mirrors it."""
    started: float = 0.0
    """Seconds since 1970."""
    heartbeat: int = 0
    """Counter that its worker increments; see `study.search.heartbeat`."""

    @property
    def counts(self) -> bool:
        """Whether it counts towards the total."""
        return self.state in ("COMPLETE", "PRUNED") and self.outcome.reason in COUNTED

    @property
    def best(self) -> float | None:
        """Its best validation accuracy; None where it diverged in its first epoch."""
        return self.value if self.state == "COMPLETE" else max(self.accuracies.values(), default=None)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, and will not change."""
        return self.state in ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class SearchRecord:
    """A search as recorded in Optuna."""

    name: str
    settings: Mapping[str, Any]
    """Settings that it began with; see `SearchConfig.settings`."""
    trials: tuple[TrialRecord, ...]
    finished: int
    """Number of trials that count towards its total."""

    @property
    def config(self) -> SearchConfig:
        """Its settings, with the default total."""
        return config_of(self.name, self.settings)

    @property
    def fault(self) -> str:
        """Why its settings cannot be read; empty where they can."""
        try:
            self.config  # noqa: B018
        except (StudyError, LookupError, TypeError, AttributeError) as error:
            return first_line(error)
        return ""


class Searches:
    """The searches in the storage at a URL.

    Raises:
        StudyError: where it is no database, or does not answer.
    """

    def __init__(self, url: str):
        self._storage = open_storage(url)
        self.name = masked(url)

    def read(self) -> list[SearchRecord]:
        """All searches of this program, sorted by name."""
        opened = (self.opened(name) for name in sorted(optuna.get_all_study_names(self._storage)))
        ours = (search for search in opened if "settings" in search.user_attrs)
        return [_record(search) for search in ours]

    def opened(self, name: str) -> Search:
        """The search called `name`."""
        return optuna.load_study(study_name=name, storage=self._storage)

    def keep_only(self, names: Collection[str]) -> None:
        """Deletes all other searches."""
        for name in set(optuna.get_all_study_names(self._storage)) - set(names):
            optuna.delete_study(study_name=name, storage=self._storage)

    def end_trial(self, name: str, number: int) -> None:
        """Ends an abandoned trial as interrupted."""
        search = self.opened(name)
        fail(search, search.get_trials(deepcopy=False)[number])


def _record(search: Search) -> SearchRecord:
    trials = tuple(as_record(trial) for trial in search.get_trials(deepcopy=False))
    return SearchRecord(search.study_name, search.user_attrs["settings"], trials, finished(search))


def as_record(trial: FrozenTrial) -> TrialRecord:
    """An Optuna trial as a `TrialRecord`."""
    attributes = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        state=trial.state.name,
        outcome=outcome(trial),
        params=parameters_of(trial),
        value=trial.values[0] if trial.state.name == "COMPLETE" else None,
        accuracies=dict(sorted(trial.intermediate_values.items())),
        worker=attributes.get("worker", ""),
        **_attempt(trial),
        parameters=attributes.get("parameters"),
        run_id=attributes.get("mlflow_run", ""),
        started=trial.datetime_start.timestamp() if trial.datetime_start else 0.0,
        heartbeat=trial.system_attrs.get(COUNTER, 0),
    )


def _attempt(trial: FrozenTrial) -> dict[str, Any]:
    """The draw of a trial and the trial that it retries; or the fault of its record."""
    try:
        first, draw = first_attempt(trial), draw_of(trial)
    except ValueError as error:
        return {"fault": str(error)}
    if trial.state == TrialState.COMPLETE and not trial.intermediate_values:
        return {"fault": "it is COMPLETE, without the accuracy of any epoch"}
    return {"retry_of": None if first == trial.number else first, "draw": draw}
