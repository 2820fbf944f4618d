"""The hyperparameter search: its space, sampler, pruner and storage; the only importer of optuna.

Optuna's record of a search is the truth about it. A trial ends there as COMPLETE; as PRUNED, which also holds
diverged ones; or as FAIL, when it was interrupted or crashed. The user attribute `status_reason` says which.
"""

import itertools
import json
import math
import time
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from study.config import Home, Range, SearchConfig, TrainConfig
from study.errors import Diverged, StudyError, first_line
from study.files import SQLITE, require_sqlite
from study.process import is_gone, signals_held, this_process
from study.trial import Pruned, Suggestion

# Its warnings repeat, with tracebacks, what is recorded and said of a trial that failed.
optuna.logging.set_verbosity(optuna.logging.ERROR)

GRID = tuple(float(value) for value in np.logspace(-4, 1, 8))
"""The report's grid, for the learning rate and for the weight decay."""

Search = optuna.Study

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
MAX_RETRIES = 2


class Surplus(Exception):
    """Another process was first with the trial that would have reached the total."""


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
    require_sqlite(storage)
    try:
        opened = optuna.create_study(
            study_name=config.name,
            storage=optuna.storages.RDBStorage(storage),
            direction="maximize",
            pruner=pruner_of(config.pruner, config.epochs),
            load_if_exists=True,
        )
    except Exception as error:  # SQLAlchemy's, alembic's and the driver's have no common ancestor
        raise StudyError(f"The search storage cannot be opened: {first_line(error)}") from None
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


def search_space(config: SearchConfig) -> dict[str, FloatDistribution]:
    """What is drawn, and from where: the only place that says so."""
    on_grid = Range(low=GRID[0], high=GRID[-1])
    searched = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
    ranges = {name: on_grid if config.sampler == "grid" else found for name, found in searched.items()}
    return {name: FloatDistribution(found.low, found.high, log=True) for name, found in ranges.items()}


def train_config(trial: optuna.Trial, config: SearchConfig) -> TrainConfig:
    """The training that `trial` stands for."""
    drawn = {
        name: trial.suggest_float(name, found.low, found.high, log=found.log)
        for name, found in search_space(config).items()
    }
    return TrainConfig(
        model=config.model,
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimiser=config.optimiser,
        warmup_steps=config.warmup_steps,
        seed=config.seed + trial.number,
        **drawn,
    )


def pruner_of(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner called `name`, one of `PRUNERS`, for trials of at most `epochs`.

    The settings of the first two lost least of the best accuracy, for few epochs, when recorded learning curves of
    both networks were replayed to each (`benchmarks/pruning.py`); the median's are Optuna's own.
    """
    if name == "percentile":
        return optuna.pruners.PercentilePruner(60, n_startup_trials=5)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=min(2, epochs), max_resource=epochs, reduction_factor=4)
    return optuna.pruners.MedianPruner() if name == "median" else optuna.pruners.NopPruner()


def _line_up_grid(search: Search, config: SearchConfig) -> None:
    """Puts the grid's points in line in an order that the seed decides: each is then taken by one worker only."""
    points = list(itertools.product(GRID, GRID))
    for place in np.random.default_rng(config.seed).permutation(len(points)):
        learning_rate, weight_decay = points[place]
        search.enqueue_trial({"learning_rate": learning_rate, "weight_decay": weight_decay}, skip_if_exists=True)


class _Sampler(optuna.samplers.BaseSampler):
    """Draws each trial with a seed of its own, from the search's and the trial's number.

    With one seed for a process two workers, or a resumed one, would replay the same points. The numbers are never
    given twice; an interrupted trial keeps its own, so that those after it draw with later ones.
    """

    def __init__(self, config: SearchConfig):
        # What the grid's trials are to be is in line already.
        self.kind = optuna.samplers.TPESampler if config.sampler == "tpe" else optuna.samplers.RandomSampler
        self.seed = config.seed
        self.space = search_space(config) if config.sampler == "tpe" else {}

    def before_trial(self, study: Search, trial: FrozenTrial) -> None:
        seed = int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0])
        # Before anything that takes time: a trial that nobody owns could not be told from one that runs.
        study._storage.set_trial_user_attr(trial._trial_id, "worker", this_process())
        self.drawing = self.kind(seed=seed)
        self.drawing.before_trial(study, trial)

    def infer_relative_search_space(self, study: Search, trial: FrozenTrial) -> dict[str, Any]:
        # Known, where a sampler reads it off all earlier trials, which takes longer with each.
        return dict(self.space)

    def sample_relative(self, study: Search, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        return self.drawing.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Search, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        return self.drawing.sample_independent(study, trial, param_name, param_distribution)


def finished(search: Search) -> int:
    """How many trials count towards the total."""
    return len(search.get_trials(deepcopy=False, states=COUNTED))


def optimise(
    search: Search,
    config: SearchConfig,
    run_trial: Callable[[Suggestion], float],
    on_wait: Callable[[set[int]], None],
) -> None:
    """Runs trials until `config.trials` are finished, counting those of other processes.

    Args:
        search: the opened search.
        config: its settings.
        run_trial: trains what it is given and returns its best validation accuracy; may raise `Pruned` or `Diverged`.
        on_wait: told the trials that other processes still run, while there is none left to start; lines up again
            what was interrupted.
    """

    def objective(trial: optuna.Trial) -> float:
        release()
        off_grid = config.sampler == "grid" and "fixed_params" not in search._storage.get_trial_system_attrs(
            trial._trial_id
        )
        if off_grid or _rank(search, trial.number) >= config.trials:
            trial.set_user_attr("status_reason", "surplus")
            _put_back(search, trial.number)
            raise Surplus
        return _outcome(Suggestion(trial.number, train_config(trial, config), trial), run_trial)

    search.sampler = _Sampler(config)
    while (done := finished(search)) < config.trials:
        if done + len(under_way := running(search)) >= config.trials:
            on_wait(under_way)
            time.sleep(1)
            continue
        if config.sampler == "grid" and not _in_line(search):
            # What is missing was interrupted: just now in another process, or too often.
            on_wait(set())
            if not _in_line(search):
                return
        # A trial that was born but does not say yet whose it is could not be closed.
        with signals_held() as release:
            search.optimize(objective, n_trials=1, catch=(Surplus,))


def _in_line(search: Search) -> bool:
    return bool(search.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def _rank(search: Search, number: int) -> int:
    """How many trials before this one are finished or under way: places are given in the order of the numbers."""
    taken = (*COUNTED, TrialState.RUNNING, TrialState.WAITING)
    return sum(trial.number < number for trial in search.get_trials(deepcopy=False, states=taken))


def _put_back(search: Search, number: int) -> None:
    """Lines up again what a trial that found no place had taken from the line, if it had."""
    trial = search.get_trials(deepcopy=False)[number]
    if lined_up := _parameters(trial):
        kept = {name: value for name, value in trial.user_attrs.items() if name == "retry_of"}
        search.enqueue_trial(lined_up, user_attrs=kept)


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial tries: what it was lined up with, or drew; nothing where it ended before either."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _outcome(suggestion: Suggestion, run_trial: Callable[[Suggestion], float]) -> float:
    trial = suggestion.trial
    try:
        value = run_trial(suggestion)
    except (Pruned, Diverged) as end:
        trial.set_user_attr("status_reason", "pruned" if isinstance(end, Pruned) else "diverged")
        trial.set_user_attr("stopped", str(end))
        raise optuna.TrialPruned(str(end)) from None
    except KeyboardInterrupt:
        trial.set_user_attr("status_reason", "interrupted")
        raise
    except Exception as error:
        trial.set_user_attr("status_reason", "crashed")
        trial.set_user_attr("stopped", f"{type(error).__name__}: {error}")
        raise
    trial.set_user_attr("status_reason", "complete")
    return value


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
        failed = trial.state == TrialState.FAIL and _parameters(trial) and reason != "surplus"
        if failed and is_last and len(attempts) < MAX_RETRIES:
            search.enqueue_trial(_parameters(trial), user_attrs={"retry_of": root})
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
