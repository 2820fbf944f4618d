"""MLflow's mirror of a trial: how the trial's run differs from Optuna's record, and what makes it equal.

Optuna's record is the truth. The runner starts and ends the runs of trials with these functions, recovery completes
runs that a killed process left, and `study doctor` compares every run with its trial.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from study.config import SearchConfig
from study.errors import StudyError
from study.search.records import TrialRecord
from study.search.space import training
from study.search.trial import Outcome, best_epoch
from study.tracking.registry import delete_run
from study.tracking.runs import LOG_RATES, PARAMETERS, Run, as_param, points
from study.tracking.store import Point, Store
from study.tracking.tags import below, log_rates, restored, trial_tags

CURVE = "val_accuracy"
"""The metric that Optuna records at every epoch too."""
EXACT = 1e-12
"""Relative tolerance between the same number in two databases."""
RECREATED = "recreates the run from Optuna, and deletes this one (it can be restored in MLflow)"


@dataclass(frozen=True)
class Difference:
    """A difference between a run and Optuna's record of its trial."""

    message: str
    remedy: str
    """What `repair` does; without one, what the user can do."""
    repair: Callable[[], object] | None = None


class Mirror:
    """A trial that has ended, and the run that mirrors it.

    Args:
        store: where the run is.
        config: the search; its number of trials does not matter.
        trial: Optuna's record.
        run: the run as it was read last.
        parent: the search's run, if the run is to be below it.
    """

    def __init__(self, store: Store, config: SearchConfig, trial: TrialRecord, run: Run, parent: Run | None = None):
        self.store, self.config, self.trial, self.run, self.parent = store, config, trial, run, parent
        self._recreate = partial(_recreate, self)

    def differences(self) -> list[Difference]:
        """The differences from Optuna; MLflow changes no recorded value, so that correcting one takes a new run."""
        differences = list(self._differences())
        if not any(difference.repair is self._recreate for difference in differences):
            return differences
        return [replace(each, remedy=RECREATED, repair=self._recreate) if each.repair else each for each in differences]

    def complete(self) -> None:
        """Records what the run lacks, and ends it as the trial ended; recorded values stay."""
        for difference in self._differences():
            if difference.repair and difference.repair is not self._recreate:
                difference.repair()

    def _differences(self) -> Iterator[Difference]:
        try:
            settings = training(self.config, self.trial.draw, self.trial.params).params()
        except StudyError as error:
            yield Difference(
                f"Its parameters in Optuna are invalid: {error}", "nothing: restore a backup of the storage"
            )
            return
        if self.trial.parameters is not None:
            settings[PARAMETERS] = self.trial.parameters
        if self.trial.params:
            yield from self._params({name: as_param(value) for name, value in settings.items()})
        yield from self._tags()
        if self.trial.counts:
            yield from self._curve()
            yield from self._best()
        # Last: a run whose repair stops early still differs, and is repaired next time.
        yield from self._end()

    def _params(self, expected: Mapping[str, str]) -> Iterator[Difference]:
        recorded = self.run.params
        wrong = differing(recorded, expected)
        if not self.trial.counts:
            # A run that was killed at its start has recorded none.
            wrong = {name: value for name, value in wrong.items() if name in recorded}
        message = f"Its params differ from Optuna's: {shown_params(recorded, wrong)}."
        if wrong.keys() & recorded.keys():
            yield Difference(message, RECREATED, self._recreate)
        elif wrong:
            yield Difference(message, "records Optuna's", partial(self.store.describe, self.run.id, wrong))

    def _tags(self) -> Iterator[Difference]:
        expected = trial_tags(self.config, self.trial.number, self.trial.retry_of)
        if self.parent:
            expected |= below(self.parent)
        if wrong := {name: value for name, value in expected.items() if self.run.tags.get(name) != value}:
            message = f"Its tags differ from Optuna's: {', '.join(sorted(wrong))}."
            yield Difference(message, "sets them", partial(self.store.tag, self.run.id, **wrong))

    def _curve(self) -> Iterator[Difference]:
        recorded: dict[int, list[float]] = {}
        for point in recorded_points(self.store, self.run, CURVE):
            recorded.setdefault(point.step, []).append(point.value)
        for epoch in sorted(recorded.keys() | self.trial.accuracies.keys()):
            values, expected = recorded.get(epoch, []), self.trial.accuracies.get(epoch)
            if expected is None:
                message = f"MLflow has a {CURVE} of epoch {epoch}, which Optuna does not know."
                yield Difference(message, "nothing: it is unknown which of them is right")
            elif not values:
                message = f"The {CURVE} of epoch {epoch} is missing in MLflow."
                repair = partial(self.store.log, self.run.id, {CURVE: expected}, epoch)
                yield Difference(message, "records Optuna's", repair)
            elif len(values) > 1:
                message = f"The {CURVE} of epoch {epoch} is in MLflow {len(values)} times ({shown(*values)})."
                yield Difference(message, RECREATED, self._recreate)
            elif not same(values[0], expected):
                message = f"Optuna's {CURVE} of epoch {epoch} is {expected:.6g}, MLflow's {shown(*values)}."
                yield Difference(message, RECREATED, self._recreate)

    def _best(self) -> Iterator[Difference]:
        if (expected := self.trial.best) is None or not self.trial.accuracies:
            return
        recorded = self.run.metrics.get("best_val_accuracy")
        if recorded is None:
            yield Difference("MLflow lacks its best_val_accuracy.", "records Optuna's", self._log_best)
        elif not same(recorded, expected):
            message = f"Optuna's best validation accuracy is {expected:.6g}, MLflow's {shown(recorded)}."
            yield Difference(message, RECREATED, self._recreate)

    def _log_best(self) -> None:
        losses = {point.step: point.value for point in recorded_points(self.store, self.run, "val_loss")}
        best = best_epoch(self.trial.accuracies, losses)
        self.store.log(self.run.id, {name: value for name, value in best.items() if name not in self.run.metrics})

    def _end(self) -> Iterator[Difference]:
        outcome = self.trial.outcome
        if not agrees(self.run, outcome):
            reason = self.run.reason or "no reason"
            message = f"Optuna has {self.trial.state} ({outcome.reason}), MLflow {self.run.status} ({reason})."
            remedy = f"sets the run to {outcome.status}, {outcome.reason}"
            yield Difference(message, remedy, partial(end_run, self.store, self.run.id, outcome))


def _recreate(mirror: Mirror) -> None:
    make_run(mirror.store, mirror.config, mirror.trial, mirror.run, mirror.parent)
    delete_run(mirror.store.client, mirror.run.id)


def make_run(store: Store, config: SearchConfig, trial: TrialRecord, source: Run, parent: Run | None) -> None:
    """Makes the run of a trial from Optuna's record of it.

    Args:
        store: where it is made.
        config: the search.
        trial: Optuna's record.
        source: the trial's former run, whose other metrics are copied, or another run of the search: it names the data
            set and the machine.
        parent: the search's run.
    """
    own = training(config, trial.draw, trial.params).params() if trial.params else {}
    run_id = start_run(
        store,
        config,
        trial.number,
        retry_of=trial.retry_of,
        dataset=source.dataset_key,
        params={**surroundings(config, source), **own},
        parent=parent.id if parent else None,
        tags=restored(),
    )
    curve = [point for epoch, value in trial.accuracies.items() for point in points({CURVE: value}, epoch)]
    store.log_points(run_id, curve)
    if source.stage == "trial" and source.trial_number == trial.number:
        for name in source.metrics.keys() - {CURVE, "best_val_accuracy", "best_epoch"}:
            store.log_points(run_id, recorded_points(store, source, name))
    Mirror(store, config, trial, store.get(run_id), parent).complete()


def surroundings(config: SearchConfig, source: Run) -> dict[str, str]:
    """The params of a run of the search that are no settings: its data, machine and versions."""
    settings = {*training(config, 0, {}).params(), *config.settings(), *LOG_RATES, PARAMETERS}
    return {name: value for name, value in source.params.items() if name not in settings}


def start_run(
    store: Store,
    config: SearchConfig,
    number: int,
    *,
    dataset: str,
    params: Mapping[str, Any],
    retry_of: int | None,
    parent: str | None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Starts the run of trial `number`, on the data set with key `dataset`; returns its id."""
    return store.start(
        dataset,
        f"trial {number}",
        tags={**trial_tags(config, number, retry_of), **tags},
        params={**params, **log_rates(params)},
        parent=parent,
    )


def end_run(store: Store, run_id: str, outcome: Outcome) -> None:
    """Ends the run of a trial as the trial ended; a repeated call changes nothing."""
    store.finish(run_id, outcome.status, outcome.reason, **end_tags(outcome.reason, outcome.epoch, outcome.stopped))


def end_tags(reason: str, epoch: int | None, stopped: str) -> dict[str, Any]:
    """The tags of a run, besides `status_reason`, whose trial ended for `reason` after `epoch`; see `Outcome`."""
    return {"stopped_epoch": epoch, "stopped_by": stopped if reason == "diverged" else None}


def agrees(run: Run, outcome: Outcome) -> bool:
    """Whether `run` ended as its trial did."""
    return (run.status, run.reason) == (outcome.status, outcome.reason)


def recorded_points(store: Store, run: Run, name: str) -> list[Point]:
    """Every recorded value of a run's metric, including those of a step that was recorded twice."""
    history = store.client.get_metric_history(run.id, name) if name in run.metrics else []
    return [Point(name, point.value, point.timestamp, point.step) for point in history]


def differing(params: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, str]:
    """The `expected` params that are missing in `params` or have another value there."""
    return {name: value for name, value in expected.items() if name not in params or not _is_same(params[name], value)}


def _is_same(first: str, second: str) -> bool:
    try:
        return first == second or same(float(first), float(second))
    except ValueError:
        return False


def same(first: float, second: float) -> bool:
    """Whether two databases hold the same number."""
    return math.isclose(first, second, rel_tol=EXACT)


def shown(*values: float) -> str:
    """Formats values for a message; MLflow keeps infinity as 1.8e308."""
    return ", ".join("infinite" if abs(value) >= sys.float_info.max else f"{value:.6g}" for value in values)


def shown_params(params: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Formats params that differ for a message."""
    return ", ".join(
        f"{name} is {params.get(name, 'missing')}, not {value}" for name, value in sorted(expected.items())
    )
