"""The hyperparameter search: its storage, its trials and their outcomes; imports optuna.

Optuna's record of a search is authoritative. A trial ends there as COMPLETE; as PRUNED, which also holds
diverged ones; or as FAIL, when it was interrupted or crashed. The user attribute `status_reason` says which.
"""

import itertools
import math
import warnings
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from study.config import IMAGE_SIZE, MAX_RETRIES, RATES, SearchConfig
from study.errors import StudyError
from study.home import SQLITE
from study.search.cache import cached
from study.search.draws import draw_of, first_attempt, parameters_of
from study.search.heartbeat import COUNTER
from study.search.private import set_failed, study_ids
from study.search.sampling import pruner_of
from study.search.settings import require_equal, require_same_heartbeat, settings_of
from study.search.space import GRID, SIZELESS
from study.search.storage import open_storage, opening
from study.search.trial import Outcome
from study.system.heartbeat import HeartbeatMonitor
from study.system.processes import is_gone, this_process

# Its warnings repeat, with tracebacks, the reported errors of failed trials.
optuna.logging.set_verbosity(optuna.logging.ERROR)

Search = optuna.Study

VALUES: dict[str, tuple[str, Literal["maximize", "minimize"]]] = {
    "accuracy": ("best_val_accuracy", "maximize"),
    "parameters": ("parameters", "minimize"),
}
"""Name of a trial's value, as MLflow has it, and its direction, by objective."""
FINISHED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)
UNOWNED = 60.0
"""Seconds after which a RUNNING trial without a worker is an orphan: a worker is recorded right after the start."""


def open_search(config: SearchConfig, storage: str, *, digest: str, image_size: int = IMAGE_SIZE) -> Search:
    """Opens the search `config.name`, creating it where it is new; only one process at a time may do so.

    Args:
        config: its settings; a continued search must have begun with the same.
        storage: an Optuna storage URL.
        digest: the digest of the data set, which must also be the same.
        image_size: side of its images, in pixels.

    Raises:
        StudyError: where the settings differ, the storage is no database, or a trial in it has an impossible record.
    """
    with opening(storage):
        opened = optuna.create_study(
            study_name=config.name,
            storage=cached(open_storage(storage), RATES),
            directions=[VALUES[objective][1] for objective in config.objectives],
            pruner=pruner_of(config.pruner, config.epochs),
            load_if_exists=True,
        )
    if opened.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            opened.set_metric_names([VALUES[objective][0] for objective in config.objectives])
    settings = settings_of(config, digest, image_size)
    if "settings" not in opened.user_attrs:
        opened.set_user_attr("settings", settings)
    require_equal(config.name, opened.user_attrs["settings"], settings)
    if not storage.startswith(SQLITE):
        require_same_heartbeat(opened)
    _require_possible(opened)
    if config.sampler == "grid" and not opened.user_attrs.get("is_lined_up"):
        _enqueue_grid(opened, config)
        # Set last: if this process is killed before, the next one enqueues the missing points.
        opened.set_user_attr("is_lined_up", True)
    return opened


def exists(name: str, storage: str) -> bool:
    """Whether the storage has a search of this name; creates its tables where it is new."""
    with opening(storage):
        database = open_storage(storage)
        try:
            return name in study_ids(database)
        finally:
            database.engine.dispose()


def _require_possible(search: Search) -> None:
    for trial in search.get_trials(deepcopy=False):
        try:
            first_attempt(trial)
            draw_of(trial)
        except ValueError as error:
            raise StudyError(
                f"Trial {trial.number} of the search {search.study_name!r} has an impossible record ({error}): "
                "restore a backup of the storage, or name a new --search."
            ) from None


def _enqueue_grid(search: Search, config: SearchConfig) -> None:
    """Enqueues the grid's points in a seeded random order; each is then taken by one worker only."""
    points = list(itertools.product(GRID, GRID))
    for place in np.random.default_rng(config.seed).permutation(len(points)):
        learning_rate, weight_decay = points[place]
        search.enqueue_trial({"learning_rate": learning_rate, "weight_decay": weight_decay}, skip_if_exists=True)


def finished(search: Search) -> int:
    """Number of trials that count towards the total."""
    return len(search.get_trials(deepcopy=False, states=FINISHED_STATES))


def workers(search: Search) -> dict[int, str]:
    """The worker of each running trial, by number; see `study.system.processes.this_process`."""
    under_way = search.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return {trial.number: trial.user_attrs["worker"] for trial in under_way if "worker" in trial.user_attrs}


def outcome(trial: FrozenTrial) -> Outcome:
    """The outcome of a trial that has ended."""
    reason = trial.user_attrs.get("status_reason", "interrupted")
    # Where a database takes reason and state in two transactions, another process may have been about to end the trial.
    if trial.state == TrialState.COMPLETE:
        reason = "complete"
    elif trial.state == TrialState.PRUNED and reason not in ("pruned", "diverged"):
        reason = "pruned"
    return Outcome(
        number=trial.number,
        reason=reason,
        stopped=trial.user_attrs.get("stopped", ""),
        epoch=trial.user_attrs.get("stopped_epoch"),
        is_abandoned=trial.state == TrialState.FAIL and "is_abandoned" in trial.user_attrs,
    )


def close_orphans(
    search: Search, monitor: HeartbeatMonitor | None = None, *, and_own: bool = False, stopped: str = ""
) -> list[FrozenTrial]:
    """Ends orphaned trials, whose process has ended or sends no heartbeat, as FAIL; returns them.

    Args:
        search: the search.
        monitor: the heartbeats observed so far; without it, only ended processes of this machine are detected.
        and_own: whether trials of this process are ended too.
        stopped: the cause, where it is known and counts as a failed attempt.
    """
    under_way = search.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    own = this_process()
    is_orphan = {
        trial.number: and_own if trial.user_attrs.get("worker") == own else _is_orphan(trial, monitor)
        for trial in under_way
    }
    return [trial for trial in under_way if is_orphan[trial.number] and fail(search, trial, stopped=stopped)]


def _is_orphan(trial: FrozenTrial, monitor: HeartbeatMonitor | None) -> bool:
    worker = trial.user_attrs.get("worker")
    if worker and is_gone(worker):
        return True
    sign = (worker, trial.system_attrs.get(COUNTER), trial.last_step)
    return monitor is not None and monitor.has_stopped(trial.number, sign, None if worker else UNOWNED)


def fail(search: Search, trial: FrozenTrial, reason: str = "interrupted", stopped: str = "") -> bool:
    """Ends a trial that nobody works on as FAIL for `reason`; False where it has ended meanwhile.

    Args:
        search: the search.
        trial: one of its trials under way.
        reason: the status reason; a reason `surplus` stays.
        stopped: the error, where it failed by itself: it then counts as a failed attempt.
    """
    is_surplus = trial.user_attrs.get("status_reason") == "surplus"
    attributes: dict[str, Any] = {"status_reason": "surplus" if is_surplus else reason, "is_abandoned": True}
    attributes |= {"stopped": stopped} if stopped else {}
    try:
        set_failed(search, trial, attributes)
    except UpdateFinishedTrialError:
        return False
    return True


def requeue(search: Search) -> list[int]:
    """Enqueues the parameters of interrupted and failed trials again; returns those trials' numbers."""
    trials = search.get_trials(deepcopy=False)
    requeued = []
    for trial in trials:
        if trial.state == TrialState.FAIL and parameters_of(trial):
            if outcome(trial).reason == "surplus":
                put_back(search, trial)
            elif _is_due(trial, trials):
                search.enqueue_trial(parameters_of(trial), user_attrs={"retry_of": first_attempt(trial)})
                requeued.append(trial.number)
    return requeued


def put_back(search: Search, trial: FrozenTrial) -> None:
    """Enqueues again, once, the parameters that a surplus trial had taken from the queue, unless it is a duplicate."""
    enqueued = not trial.user_attrs.get("is_duplicate") and trial.system_attrs.get("fixed_params")
    later = search.get_trials(deepcopy=False)[trial.number + 1 :]
    if enqueued and not any(other.system_attrs.get("fixed_params") == enqueued for other in later):
        attributes = {name: value for name, value in trial.user_attrs.items() if name == "retry_of"}
        search.enqueue_trial(enqueued, user_attrs=attributes)


def _is_due(trial: FrozenTrial, trials: list[FrozenTrial]) -> bool:
    """Whether the parameters of a failed trial are to be retried now."""
    same = [other for other in trials if first_attempt(other) == first_attempt(trial)]
    attempts = [other for other in same if not (other.state == TrialState.FAIL and outcome(other).reason == "surplus")]
    failures = sum(other.state == TrialState.FAIL and bool(outcome(other).stopped) for other in attempts)
    return trial.number == attempts[-1].number and failures <= MAX_RETRIES


def trials_table(search: Search) -> pd.DataFrame:
    """The finished trials.

    Columns: number, state (complete, pruned, diverged), learning_rate, weight_decay and the other hyperparameters that
    are drawn (the number of epochs as planned_epochs), parameters (of the network; NaN where it is not recorded), the
    best val_accuracy, and epochs (that were trained).
    """
    names = {name: "planned_epochs" if name == "epochs" else name for name in drawn_names(search)}
    rows = []
    for trial in search.get_trials(deepcopy=False, states=FINISHED_STATES):
        curve = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
        rows.append(
            {
                "number": trial.number,
                "state": outcome(trial).reason,
                **{column: trial.params.get(name) for name, column in names.items()},
                "parameters": trial.user_attrs.get("parameters", math.nan),
                "val_accuracy": max(curve, default=math.nan),
                "epochs": max(trial.intermediate_values, default=0),
            }
        )
    return pd.DataFrame(rows, columns=["number", "state", *names.values(), "parameters", "val_accuracy", "epochs"])


def drawn_names(search: Search) -> list[str]:
    """The names of all hyperparameters that a search draws."""
    return [*RATES, *search.user_attrs.get("settings", {}).get("choices", {})]


def importance(search: Search) -> pd.DataFrame:
    """How much of the variance of the complete trials' accuracy each hyperparameter explains (fANOVA).

    Hutter et al. 2014, as computed by Optuna. Empty where fewer than two complete trials differ. Columns: parameter,
    importance, and in a search with two objectives importance_parameters, that for the network's number of parameters,
    NaN for hyperparameters that cannot change it.
    """
    names = drawn_names(search)
    table = pd.DataFrame(_importances(search, 0, names).items(), columns=["parameter", "importance"])
    if len(search.directions) > 1:
        sizing = _importances(search, 1, [name for name in names if name not in SIZELESS])
        table["importance_parameters"] = table["parameter"].map(sizing).astype(float)
    return table


def _importances(search: Search, objective: int, names: list[str]) -> dict[str, float]:
    complete = search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = [name for name in names if all(name in trial.params for trial in complete)]
    if len({trial.values[objective] for trial in complete}) < 2:
        return {}
    # Of hyperparameters whose ranges differ from trial to trial Optuna computes none: each gets the range of all.
    drawn = {name: _joint([trial.distributions[name] for trial in complete]) for name in names}
    copy = optuna.create_study(direction="maximize")
    for trial in complete:
        params = {name: trial.params[name] for name in names}
        copy.add_trial(optuna.create_trial(params=params, distributions=drawn, value=trial.values[objective]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(copy, evaluator=evaluator))


def _joint(distributions: list[BaseDistribution]) -> BaseDistribution:
    """A distribution that contains all values of these, which are of one kind."""
    ranges = [each for each in distributions if isinstance(each, IntDistribution) and not each.log]
    if not ranges:
        return distributions[0]
    return IntDistribution(min(each.low for each in ranges), max(each.high for each in ranges))
