"""Checks of an imported storage: whether this program can have made its searches, settings and trials."""

from collections.abc import Iterator
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from study.config import RATES, SearchConfig
from study.errors import StudyError, first_line
from study.search.draws import draw_of, first_attempt
from study.search.private import require_valid
from study.search.search import Search
from study.search.settings import config_of
from study.search.space import training
from study.search.storage import open_storage

IMPOSSIBLE = (
    StudyError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OptunaError,
    SQLAlchemyError,
)
"""Exceptions that reading a value may raise which this program did not write."""


def impossible(url: str) -> Iterator[str]:
    """Describes everything impossible about the searches in the storage at `url`.

    Raises:
        StudyError: where it is no storage of this version of Optuna.
    """
    storage = open_storage(url)
    try:
        for name in optuna.get_all_study_names(storage):
            yield from _of_search(optuna.load_study(study_name=name, storage=storage))
    except IMPOSSIBLE as error:
        yield f"the searches cannot be read: {first_line(error)}"
    finally:
        storage.engine.dispose()


def _of_search(search: Search) -> Iterator[str]:
    name = search.study_name
    try:
        settings: Any = search.user_attrs["settings"]
        config = config_of(name, settings)
        trials = search.get_trials(deepcopy=False)
    except IMPOSSIBLE as error:
        yield f"the settings or trials of the search {name[:100]!r} cannot be: {first_line(error)}"
        return
    if [trial.number for trial in trials] != list(range(len(trials))):
        yield f"the trials of the search {name[:100]!r} are not numbered from 0"
    for trial in trials:
        try:
            _require_possible(trial, config)
        except IMPOSSIBLE as error:
            yield f"trial {trial.number} of the search {name[:100]!r} cannot be: {first_line(error)}"


def _require_possible(trial: FrozenTrial, config: SearchConfig) -> None:
    """Checks everything that this package relies on when it reads a trial."""
    require_valid(trial)
    if trial.state == TrialState.RUNNING:
        raise ValueError("it is under way")
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and not set(trial.params) >= set(RATES):
        raise ValueError("it has no learning_rate and weight_decay")
    for name in ("status_reason", "worker", "mlflow_run"):
        if not isinstance(trial.user_attrs.get(name, ""), str):
            raise ValueError(f"its {name} is {trial.user_attrs[name]!r}")
    if trial.state == TrialState.COMPLETE and len(trial.values) != len(config.objectives):
        raise ValueError(f"it has {len(trial.values)} values, and the search {len(config.objectives)} objectives")
    if type(trial.user_attrs.get("parameters", 0)) is not int:
        raise ValueError(f"its parameters are {trial.user_attrs['parameters']!r}")
    if not isinstance(trial.system_attrs.get("fixed_params", {}), dict):
        raise ValueError("its fixed_params are no parameters")
    first_attempt(trial)
    draw = draw_of(trial)
    if set(trial.params) >= set(RATES):
        training(config, draw, trial.params)
