"""The cache before Optuna's database, as one process of a search needs it; relies on its private interface.

Optuna loads all unfinished trials at each look, and writes each value in a transaction of its own. Here a look asks for
the states of trials and loads those that changed, a trial of this process is known without a look, and what is written
to it together is one transaction.
"""

import copy
import json
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from study.search.database import Database, Model, Rows

UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


class TrialCache(_CachedStorage):
    """The trials of a database, as one process sees them."""

    def __init__(self, database: Database, last: Sequence[str]):
        """Takes the database, and the hyperparameters that are drawn last: a trial that has them has all."""
        super().__init__(database)
        self._database, self._last = database, frozenset(last)
        self._own: set[int] = set()
        """Ids of the running trials of this process, to which it alone writes."""
        self._highest: dict[int, int] = {}
        """The highest id of a trial that was seen, by search."""
        self._thread = threading.local()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within the block, what is set of a trial of this process is written in one transaction, at the latest at the
        end; and one look is enough, until a trial begins.

        A look then shows of the running trials of others what they have drawn, not what they record later.
        """
        self._thread.rows, self._thread.has_looked = {}, False
        try:
            yield
            self.flush()
        finally:
            self._thread.rows = None

    @property
    def _pending(self) -> dict[int, Rows] | None:
        """The rows of each trial that are not written yet; None outside `together`."""
        return getattr(self._thread, "rows", None)

    def flush(self) -> None:
        """Writes what was set in the block so far."""
        pending, self._thread.rows = self._pending or {}, {}
        for trial_id, rows in pending.items():
            self._database.write(trial_id, rows)

    # The methods of Optuna's storages, see there.
    # ruff: noqa: D102

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is None:
            self._own.add(trial_id)
        self._thread.has_looked = False
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if trial_id in self._own:
            self._end(trial_id, state, values)
            return True
        is_set = super().set_trial_state_values(trial_id, state, values)
        if is_set and state == TrialState.RUNNING:
            # Taken from the queue.
            with self._lock:
                study_id, _ = self._trial_id_to_study_id_and_number[trial_id]
                self._add_trials_to_cache(study_id, self._database.load([trial_id]))
            self._own.add(trial_id)
            self._thread.has_looked = False
        return is_set

    def _end(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> None:
        rows = (self._pending or {}).pop(trial_id, {})
        for objective, value in enumerate(values or ()):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            row = {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
            rows.setdefault(models.TrialValueModel, []).append(row)
        self._own.discard(trial_id)
        now = datetime.now()
        self._database.write(trial_id, rows, (state, now))
        with self._lock:
            ended = copy.copy(self._known(trial_id))
            assert ended
            ended.state, ended.datetime_complete = state, now
            ended.values = None if values is None else list(values)
            self._add_trials_to_cache(self._trial_id_to_study_id_and_number[trial_id][0], [ended])

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        search = self._studies[study_id]
        last = next(reversed(search.trials), -1)
        is_between = any(trial.number < last and trial.number not in search.trials for trial in trials)
        super()._add_trials_to_cache(study_id, trials)
        if is_between:
            # Samplers rely on the order of the numbers.
            search.trials = dict(sorted(search.trials.items()))

    def _known(self, trial_id: int) -> FrozenTrial | None:
        place = self._trial_id_to_study_id_and_number.get(trial_id)
        return self._studies[place[0]].trials.get(place[1]) if place else None

    def _write(self, trial_id: int, model: Model, *rows: dict[str, Any]) -> None:
        """Writes rows that belong to a trial of this process, within `together` later."""
        pending = self._pending
        if pending is None:
            self._database.write(trial_id, {model: list(rows)})
        else:
            pending.setdefault(trial_id, {}).setdefault(model, []).extend(rows)

    def _remember(self, trial_id: int, mapping: str, key: Any, value: Any) -> None:
        """Sets an item of one of the mappings of a trial of this process."""
        with self._lock:
            trial = self._known(trial_id)
            # A new mapping: another thread may read the old one.
            setattr(trial, mapping, {**getattr(trial, mapping), key: value})

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        study_id, _ = self._trial_id_to_study_id_and_number[trial_id]
        before = self._studies[study_id].param_distribution.get(param_name)
        if before is None or trial_id not in self._own:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        else:
            check_distribution_compatibility(before, distribution)
            text = distribution_to_json(distribution)
            row = {"param_name": param_name, "param_value": param_value_internal, "distribution_json": text}
            self._write(trial_id, models.TrialParamModel, {"trial_id": trial_id, **row})
        if trial_id in self._own:
            self._remember(trial_id, "params", param_name, distribution.to_external_repr(param_value_internal))
            self._remember(trial_id, "distributions", param_name, distribution)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        if trial_id not in self._own:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            return
        model = models.TrialIntermediateValueModel
        stored, kind = model.intermediate_value_to_stored_repr(intermediate_value)
        row = {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}
        self._write(trial_id, model, {"trial_id": trial_id, **row})
        self._remember(trial_id, "intermediate_values", step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id in self._own:
            self._set_attr(trial_id, models.TrialUserAttributeModel, "user_attrs", key, value)
        else:
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id in self._own:
            self._set_attr(trial_id, models.TrialSystemAttributeModel, "system_attrs", key, value)
        else:
            super().set_trial_system_attr(trial_id, key, value)

    def _set_attr(self, trial_id: int, model: Model, mapping: str, key: str, value: Any) -> None:
        text = json.dumps(value)
        self._write(trial_id, model, {"trial_id": trial_id, "key": key, "value_json": text})
        self._remember(trial_id, mapping, key, json.loads(text))

    def set_study_system_attrs(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Sets attributes of the search that belong to a trial of this process."""
        study_id, _ = self._trial_id_to_study_id_and_number[trial_id]
        rows = [{"study_id": study_id, "key": key, "value_json": json.dumps(attributes[key])} for key in attributes]
        self._write(trial_id, models.StudySystemAttributeModel, *rows)

    def set_trial_failed(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Ends any trial as FAIL with these user attributes, all or nothing: its own process may be ending it."""
        self._own.discard(trial_id)
        rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(attributes[key])} for key in attributes]
        self._database.write(trial_id, {models.TrialUserAttributeModel: rows}, (TrialState.FAIL, datetime.now()))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._lock:
            if trial_id in self._own and (own := self._known(trial_id)):
                return copy.deepcopy(own)
        return super().get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        is_of_finished = states is not None and not any(state in states for state in UNFINISHED)
        if self._pending is None or not self._thread.has_looked:
            self._look(study_id, is_of_finished=is_of_finished)
            self._thread.has_looked = not is_of_finished
        with self._lock:
            known = self._studies[study_id].trials.values()
            trials = [trial for trial in known if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _look(self, study_id: int, *, is_of_finished: bool) -> None:
        """Loads the trials that changed; with `is_of_finished`, only those that have ended."""
        with self._lock:
            search = self._studies.setdefault(study_id, _StudyInfo())
            highest = self._highest.get(study_id, -1)
            states = self._database.states(study_id, min(search.unfinished_trial_ids, default=highest + 1))
            wanted = [key for key, state in states.items() if not (is_of_finished and state in UNFINISHED)]
            changed = [key for key in wanted if self._is_changed(key, states[key])]
            if changed:
                self._add_trials_to_cache(study_id, self._database.load(sorted(changed)))
                self._own.difference_update(changed)
            self._highest[study_id] = max(highest, *states) if states else highest
            search.unfinished_trial_ids = {key for key, state in states.items() if state in UNFINISHED}

    def _is_changed(self, trial_id: int, state: TrialState) -> bool:
        """Whether a trial, which is in this state now, is to be loaded."""
        known = self._known(trial_id)
        if known is None or known.state != state:
            return True
        is_drawn = self._pending is not None and known.params.keys() >= self._last
        return state == TrialState.RUNNING and trial_id not in self._own and not is_drawn


def cached(database: Database, last: Sequence[str]) -> TrialCache | Database:
    """The cache of a database; the database itself, for Optuna's own cache, where it cannot replace rows."""
    return TrialCache(database, last) if database.can_replace else database
