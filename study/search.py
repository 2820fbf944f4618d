"""The hyperparameter search: its space, sampler, pruner and storage; the only importer of optuna.

Optuna's record of a search is the truth about it. A trial ends there as COMPLETE; as PRUNED, which also holds
diverged ones; or as FAIL, when it was interrupted or crashed. The user attribute `status_reason` says which.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from study.config import Home, Range, SearchConfig, TrainConfig
from study.errors import Diverged, StudyError
from study.process import is_gone, this_process
from study.tracking import SQLITE, require_sqlite

optuna.logging.set_verbosity(optuna.logging.WARNING)

GRID = tuple(float(value) for value in np.logspace(-4, 1, 8))
"""The report's grid, for the learning rate and for the weight decay."""

Search = optuna.Study

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
MAX_RETRIES = 2


class Surplus(Exception):
    """Another process was first with the trial that would have reached the total."""


@dataclass(frozen=True)
class Suggestion:
    """A trial to be run: its number, its settings, and the run that an earlier attempt of it left."""

    number: int
    config: TrainConfig
    trial: optuna.Trial

    def bind(self, run_id: str) -> None:
        """Notes which MLflow run mirrors the trial."""
        self.trial.set_user_attr("mlflow_run", run_id)

    @property
    def retry_of(self) -> int | None:
        """The number of the interrupted trial whose parameters are tried again."""
        return self.trial.user_attrs.get("retry_of")


class Pruned(Exception):
    """The pruner ended a trial after this epoch."""

    def __init__(self, epoch: int):
        super().__init__(f"pruned after epoch {epoch}")
        self.epoch = epoch


class Score:
    """The best validation accuracy of a trial so far, told to the pruner epoch by epoch."""

    def __init__(self, suggestion: Suggestion):
        self.suggestion = suggestion
        self.accuracy, self.loss, self.epoch = -math.inf, math.inf, 0

    def update(self, epoch: int, accuracy: float, loss: float) -> None:
        """Takes one epoch's result.

        Raises:
            Pruned: where the trial falls behind; never after its last epoch.
        """
        if (accuracy, -loss) > (self.accuracy, -self.loss):
            self.accuracy, self.loss, self.epoch = accuracy, loss, epoch
        self.suggestion.trial.report(accuracy, epoch)
        if epoch < self.suggestion.config.epochs and self.suggestion.trial.should_prune():
            raise Pruned(epoch)


def default_storage(home: Home) -> str:
    """The search database inside `home`: never MLflow's own, since both would migrate it."""
    return SQLITE + str(home.store / "optuna.db")


def open_search(config: SearchConfig, storage: str, lock: str, *, digest: str) -> Search:
    """Opens the search called `config.name`, making it where it is new.

    Args:
        config: its settings; a continued search must have begun with the same.
        storage: an Optuna storage URL.
        lock: a file that keeps processes from migrating a new storage at once.
        digest: the data set's, which must also be the same.

    Raises:
        StudyError: where the settings differ, or the storage is no database.
    """
    require_sqlite(storage)
    settings = {**config.settings(), "dataset": digest[:12]}
    with FileLock(lock):
        try:
            opened = optuna.create_study(
                study_name=config.name,
                storage=optuna.storages.RDBStorage(storage),
                direction="maximize",
                pruner=_pruner(config),
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's, alembic's and the driver's have no common ancestor
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StudyError(f"The search storage cannot be opened: {line}") from None
        if "settings" not in opened.user_attrs:
            opened.set_user_attr("settings", settings)
    _require_equal(config.name, opened.user_attrs["settings"], settings)
    return opened


def _require_equal(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    # JSON made lists of tuples on the way through the storage.
    differing = [key for key in now if _plain(before.get(key)) != _plain(now[key])]
    if differing:
        what = "; ".join(f"{key} was {before.get(key)}, now {now[key]}" for key in differing)
        raise StudyError(f"The search {name!r} began with other settings ({what}): name a new one with --search.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def train_config(trial: optuna.Trial, config: SearchConfig) -> TrainConfig:
    """The training that `trial` stands for: the only place where hyperparameters are suggested."""

    def suggest(name: str, searched: Range) -> float:
        if config.sampler == "grid":
            return trial.suggest_float(name, GRID[0], GRID[-1], log=True)
        return trial.suggest_float(name, searched.low, searched.high, log=True)

    return TrainConfig(
        model=config.model,
        learning_rate=suggest("learning_rate", config.learning_rate),
        weight_decay=suggest("weight_decay", config.weight_decay),
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimiser=config.optimiser,
        warmup_steps=config.warmup_steps,
        seed=config.seed + trial.number,
    )


def _pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    if config.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=config.epochs, reduction_factor=3)
    return optuna.pruners.MedianPruner() if config.pruner == "median" else optuna.pruners.NopPruner()


def _sampler(config: SearchConfig, trials_so_far: int) -> optuna.samplers.BaseSampler:
    # A resumed process with the first one's seed would replay its points; the count of trials keeps them apart,
    # and makes a continued search draw what an uninterrupted one would have drawn.
    seed = int(np.random.SeedSequence([config.seed, trials_so_far]).generate_state(1)[0])
    if config.sampler == "grid":
        # The grid's seed is the order of its points, so this one stays.
        axes = {"learning_rate": list(GRID), "weight_decay": list(GRID)}
        return optuna.samplers.GridSampler(axes, seed=config.seed)
    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def finished(search: Search) -> int:
    """How many trials count towards the total."""
    return len(search.get_trials(deepcopy=False, states=COUNTED))


def optimise(
    search: Search,
    config: SearchConfig,
    run_trial: Callable[[Suggestion], float],
    on_wait: Callable[[int], None],
) -> None:
    """Runs trials until `config.trials` are finished, counting those of other processes.

    Args:
        search: the opened search.
        config: its settings.
        run_trial: trains what it is given and returns its best validation accuracy; may raise `Pruned` or `Diverged`.
        on_wait: told the number of trials that other processes still run, while there is none left to start.
    """

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("worker", this_process())
        if _rank(search, trial.number) >= config.trials:
            trial.set_user_attr("status_reason", "surplus")
            raise Surplus
        return _outcome(Suggestion(trial.number, train_config(trial, config), trial), run_trial)

    while (done := finished(search)) < config.trials:
        trials = search.get_trials(deepcopy=False)
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if done + running >= config.trials:
            on_wait(running)
            time.sleep(1)
            continue
        search.sampler = _sampler(config, len(trials))
        search.optimize(objective, n_trials=1, catch=(Surplus,))


def _rank(search: Search, number: int) -> int:
    """How many trials before this one are finished or under way: places are given in the order of the numbers."""
    taken = (*COUNTED, TrialState.RUNNING)
    return sum(trial.number < number for trial in search.get_trials(deepcopy=False, states=taken))


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


def close_orphans(search: Search) -> list[FrozenTrial]:
    """Ends the trials whose process on this machine is gone, as FAIL, and returns them."""
    orphans = [
        trial
        for trial in search.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if is_gone(trial.user_attrs.get("worker", ""))
    ]
    for trial in orphans:
        search._storage.set_trial_user_attr(trial._trial_id, "status_reason", "interrupted")
        search.tell(trial.number, state=TrialState.FAIL)
    return orphans


def requeue(search: Search) -> list[int]:
    """Puts the parameters of interrupted and crashed trials in line again; returns those trials' numbers."""
    trials = search.get_trials(deepcopy=False)
    again = []
    for trial in trials:
        reason = trial.user_attrs.get("status_reason", "")
        root = trial.user_attrs.get("retry_of", trial.number)
        attempts = [other for other in trials if other.user_attrs.get("retry_of") == root]
        is_last = trial.number == max([root, *(other.number for other in attempts)])
        failed = trial.state == TrialState.FAIL and trial.params and reason != "surplus"
        if failed and is_last and len(attempts) < MAX_RETRIES:
            search.enqueue_trial(trial.params, user_attrs={"retry_of": root})
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
