"""The private interface of Optuna that a search relies on; `pyproject.toml` bounds the versions that have it.

Optuna's public interface writes to a trial only through the object that `ask` returned. A search also ends trials of
killed processes, and sets attributes of a trial before `ask` returns.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.search.cache import TrialCache


def together(search: optuna.Study) -> AbstractContextManager[None]:
    """Context manager in which the writes to a trial of this process are one transaction; see `TrialCache.together`."""
    storage = search._storage
    return storage.together() if isinstance(storage, TrialCache) else nullcontext()


def flush(search: optuna.Study) -> None:
    """Writes what was set within `together` so far."""
    if isinstance(search._storage, TrialCache):
        search._storage.flush()


def set_user_attr(search: optuna.Study, trial: FrozenTrial, name: str, value: Any) -> None:
    """Sets a user attribute of any trial in the storage; the copy `trial` does not change.

    Raises:
        UpdateFinishedTrialError: where the trial has ended.
    """
    search._storage.set_trial_user_attr(trial._trial_id, name, value)


def set_system_attr(search: optuna.Study, trial: optuna.Trial | FrozenTrial, name: str, value: Any) -> None:
    """Sets a system attribute of any trial in the storage, like `set_user_attr`."""
    search._storage.set_trial_system_attr(trial._trial_id, name, value)


def report(trial: optuna.Trial, value: float, step: int) -> bool:
    """Records an intermediate value of a trial; returns whether the pruner ends it.

    With several objectives Optuna refuses intermediate values and has no pruning: the value is recorded all the same.
    """
    if len(trial.study.directions) == 1:
        trial.report(value, step)
        return trial.should_prune()
    trial.study._storage.set_trial_intermediate_value(trial._trial_id, step, value)
    return False


class WithoutPruned:
    """A search as a sampler sees it, without its pruned trials: Optuna's TPE fails on them with several objectives."""

    def __init__(self, search: optuna.Study):
        self._search = search

    def __getattr__(self, name: str) -> Any:
        return getattr(self._search, name)

    def _get_trials(self, **options: Any) -> list[FrozenTrial]:
        states = [state for state in options.pop("states") if state != TrialState.PRUNED]
        return self._search._get_trials(states=states, **options)


def set_note(trial: optuna.Trial, text: str) -> None:
    """Gives a trial the note, a short text in Markdown, that optuna-dashboard shows; as its own `save_note` does."""
    storage, key = trial.study._storage, f"dashboard:{trial._trial_id}:note"
    note: dict[str, Any] = {f"{key}_str:0": text, f"{key}_ver": 1}
    if isinstance(storage, TrialCache):
        storage.set_study_system_attrs(trial._trial_id, note)
        return
    for name, value in note.items():
        storage.set_study_system_attr(trial.study._study_id, name, value)


def study_ids(storage: optuna.storages.BaseStorage) -> dict[str, int]:
    """Ids of the searches in a storage, by name."""
    return {search.study_name: search._study_id for search in storage.get_all_studies()}


def set_failed(search: optuna.Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """Ends any trial as FAIL, with these user attributes; in one transaction where the database allows it.

    Raises:
        UpdateFinishedTrialError: where the trial has ended.
    """
    storage = search._storage
    if isinstance(storage, TrialCache):
        storage.set_trial_failed(trial._trial_id, attributes)
        return
    for name, value in attributes.items():
        set_user_attr(search, trial, name, value)
    storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)


def stored_trials(search: optuna.Study) -> list[FrozenTrial]:
    """All trials in the storage; with some pruners, `search` shows only a part of them."""
    return search._storage.get_all_trials(search._study_id, deepcopy=False)


def require_valid(trial: FrozenTrial) -> None:
    """Checks a trial's record as Optuna does when a trial is added.

    Raises:
        ValueError: where state, times, value or parameters do not fit together.
    """
    trial._validate()
