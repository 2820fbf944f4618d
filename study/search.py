"""The hyperparameter search: its storage, its trials and what became of them; like its space, it imports optuna.

Optuna's record of a search is the truth about it. A trial ends there as COMPLETE; as PRUNED, which also holds
diverged ones; or as FAIL, when it was interrupted or crashed. The user attribute `status_reason` says which.
"""

import itertools
import json
import math
import warnings
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from study.config import Home, SearchConfig
from study.databases import require_database
from study.errors import StudyError, first_line
from study.files import SQLITE
from study.process import is_gone, this_process
from study.shown import masked
from study.space import GRID, pruner_of

# Its warnings repeat, with tracebacks, what is recorded and said of a trial that failed.
optuna.logging.set_verbosity(optuna.logging.ERROR)

Search = optuna.Study

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
MAX_RETRIES = 2


def default_storage(home: Home) -> str:
    """The search database inside `home`: never MLflow's own, since both would migrate it."""
    return SQLITE + str(home.store / "optuna.db")


def open_search(config: SearchConfig, storage: str, *, digest: str) -> Search:
    """Opens the search called `config.name`, making it where it is new; only one process at a time may do so.

    Args:
        config: its settings; a continued search must have begun with the same.
        storage: an Optuna storage URL.
        digest: the data set's, which must also be the same.

    Raises:
        StudyError: where the settings differ, or the storage is no database.
    """
    require_database(storage)
    try:
        opened = optuna.create_study(
            study_name=config.name,
            storage=optuna.storages.RDBStorage(storage),
            direction="maximize",
            pruner=pruner_of(config.pruner, config.epochs),
            load_if_exists=True,
        )
    except Exception as error:  # SQLAlchemy's, alembic's and the driver's have no common ancestor
        raise StudyError(f"The search storage {masked(storage)} cannot be opened: {first_line(error)}") from None
    if opened.user_attrs.get("importing"):
        raise StudyError(f"The search {config.name!r} is not imported to its end: the same `study import` does that.")
    # JSON makes lists of tuples, as the storage does.
    settings = json.loads(json.dumps({**config.settings(), "dataset": digest[:12]}))
    if "settings" not in opened.user_attrs:
        if config.sampler == "grid":
            _line_up_grid(opened, config)
        opened.set_user_attr("settings", settings)
    _require_equal(config.name, opened.user_attrs["settings"], settings)
    return opened


def _require_equal(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    differing = [key for key in now if before.get(key) != now[key]]
    if differing:
        what = "; ".join(f"{key} was {before.get(key)}, now {now[key]}" for key in differing)
        raise StudyError(f"The search {name!r} began with other settings ({what}): name a new one with --search.")


def _line_up_grid(search: Search, config: SearchConfig) -> None:
    """Puts the grid's points in line in an order that the seed decides: each is then taken by one worker only."""
    points = list(itertools.product(GRID, GRID))
    for place in np.random.default_rng(config.seed).permutation(len(points)):
        learning_rate, weight_decay = points[place]
        search.enqueue_trial({"learning_rate": learning_rate, "weight_decay": weight_decay}, skip_if_exists=True)


def finished(search: Search) -> int:
    """How many trials count towards the total."""
    return len(search.get_trials(deepcopy=False, states=COUNTED))


def parameters_of(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial tries: what it was lined up with, or drew; nothing where it ended before either."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def running(search: Search) -> set[int]:
    """The numbers of the trials under way."""
    return {trial.number for trial in search.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}


def close_orphans(search: Search, *, and_own: bool = False) -> list[FrozenTrial]:
    """Ends, as FAIL, the trials whose process on this machine is gone, or is this one; returns them."""
    under_way = search.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    own = this_process() if and_own else None
    orphans = [trial for trial in under_way if _is_orphan(trial) or (own and trial.user_attrs.get("worker") == own)]
    for trial in orphans:
        search._storage.set_trial_user_attr(trial._trial_id, "status_reason", "interrupted")
        search.tell(trial.number, state=TrialState.FAIL)
    return orphans


def _is_orphan(trial: FrozenTrial) -> bool:
    worker = trial.user_attrs.get("worker")
    if worker:
        return is_gone(worker)
    # Killed before it said whose it is, which it does at once.
    return trial.datetime_start is not None and datetime.now() - trial.datetime_start > timedelta(minutes=1)


def requeue(search: Search) -> list[int]:
    """Puts the parameters of interrupted and crashed trials in line again; returns those trials' numbers."""
    trials = search.get_trials(deepcopy=False)
    again = []
    for trial in trials:
        reason = trial.user_attrs.get("status_reason", "")
        root = trial.user_attrs.get("retry_of", trial.number)
        attempts = [other for other in trials if other.user_attrs.get("retry_of") == root]
        is_last = trial.number == max([root, *(other.number for other in attempts)])
        failed = trial.state == TrialState.FAIL and parameters_of(trial) and reason != "surplus"
        if failed and is_last and len(attempts) < MAX_RETRIES:
            search.enqueue_trial(parameters_of(trial), user_attrs={"retry_of": root})
            again.append(trial.number)
    return again


def trials_table(search: Search) -> pd.DataFrame:
    """The finished trials: number, state (complete, pruned, diverged), hyperparameters, best val_accuracy, epochs."""
    columns = ["number", "state", "learning_rate", "weight_decay", "val_accuracy", "epochs"]
    rows = []
    for trial in search.get_trials(deepcopy=False, states=COUNTED):
        curve = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
        state = trial.user_attrs.get("status_reason", "complete")
        rows.append(
            (
                trial.number,
                state,
                trial.params["learning_rate"],
                trial.params["weight_decay"],
                max(curve, default=math.nan),
                max(trial.intermediate_values, default=0),
            )
        )
    return pd.DataFrame(rows, columns=columns)


def curves_table(search: Search) -> pd.DataFrame:
    """Every epoch of the finished trials: number, learning_rate, weight_decay, epoch, val_accuracy."""
    rows = [
        (trial.number, trial.params["learning_rate"], trial.params["weight_decay"], epoch, value)
        for trial in search.get_trials(deepcopy=False, states=COUNTED)
        for epoch, value in sorted(trial.intermediate_values.items())
    ]
    return pd.DataFrame(rows, columns=["number", "learning_rate", "weight_decay", "epoch", "val_accuracy"])


def importance(search: Search) -> pd.DataFrame:
    """How much of the variance of the complete trials' accuracy each hyperparameter explains (fANOVA).

    Hutter et al. 2014, as computed by Optuna. Empty where fewer than two complete trials differ.
    """
    complete = search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shares: dict[str, float] = {}
    if len({trial.value for trial in complete}) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            shares = optuna.importance.get_param_importances(search, evaluator=evaluator)
    return pd.DataFrame(shares.items(), columns=["parameter", "importance"])
