"""The hyperparameter search: its storage, its trials and what became of them; like its space, it imports optuna.

Optuna's record of a search is the truth about it. A trial ends there as COMPLETE; as PRUNED, which also holds
diverged ones; or as FAIL, when it was interrupted or crashed. The user attribute `status_reason` says which.
"""

import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from study.config import Home, SearchConfig
from study.errors import Diverged, OutOfMemory, StudyError, first_line
from study.files import SQLITE, require_sqlite
from study.process import is_gone, signals_held, this_process
from study.space import GRID, Sampler, pruner_of, train_config
from study.trial import Pruned, Suggestion

# Its warnings repeat, with tracebacks, what is recorded and said of a trial that failed.
optuna.logging.set_verbosity(optuna.logging.ERROR)

Search = optuna.Study
Training = Generator[None, None, float]
"""A training that is asked for epoch by epoch, and returns its best validation accuracy."""

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
MAX_RETRIES = 2
MAX_OUT_OF_MEMORY = 3
"""So many trials in a row may fail for want of memory; the last one's error ends the search."""


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


def _line_up_grid(search: Search, config: SearchConfig) -> None:
    """Puts the grid's points in line in an order that the seed decides: each is then taken by one worker only."""
    points = list(itertools.product(GRID, GRID))
    for place in np.random.default_rng(config.seed).permutation(len(points)):
        learning_rate, weight_decay = points[place]
        search.enqueue_trial({"learning_rate": learning_rate, "weight_decay": weight_decay}, skip_if_exists=True)


def finished(search: Search) -> int:
    """How many trials count towards the total."""
    return len(search.get_trials(deepcopy=False, states=COUNTED))


def optimise(
    search: Search,
    config: SearchConfig,
    run_trial: Callable[[Suggestion], Training],
    on_wait: Callable[[set[int]], None],
    *,
    on_memory: Callable[[str], None] = lambda said: None,
    places: int = 1,
) -> None:
    """Runs trials until `config.trials` are finished, counting those of other processes.

    Trials that are under way together take turns, epoch by epoch; the place of one that ends goes to the next. With
    one process the trials are then the same each time, however long each takes.

    Args:
        search: the opened search.
        config: its settings.
        run_trial: trains what it is given, an epoch each time the next value is asked for, and returns its best
            validation accuracy; may raise `Pruned`, `Diverged` or `OutOfMemory`.
        on_wait: told the trials that other processes still run, while there is none left to start; lines up again
            what was interrupted.
        on_memory: told why a trial failed for want of memory, once nothing holds on to what it had.
        places: how many trials may be under way at a time; fewer from when one of several finds no memory.

    Raises:
        OutOfMemory: where trial after trial fails for want of memory.
    """
    search.sampler = Sampler(config)
    attempts: list[_Attempt] = []
    has_room, failures = True, 0
    with ExitStack() as stack:
        while True:
            while has_room and len(attempts) < places:
                if attempt := _next(search, config, run_trial):
                    attempts.append(attempt)
                    stack.callback(attempt.stop)
                else:
                    has_room = False
            if not attempts:
                if not _more_to_come(search, config, on_wait):
                    return
                has_room = True
            for attempt in tuple(attempts):
                if attempt.advance():
                    continue
                attempts.remove(attempt)
                has_room = True
                if not attempt.out_of_memory:
                    failures = 0
                    continue
                # Where others train, memory is short for so many at a time, and not for any.
                failures += not attempts
                places = max(1, len(attempts))
                if failures == MAX_OUT_OF_MEMORY:
                    raise OutOfMemory(attempt.out_of_memory)
                on_memory(attempt.out_of_memory)


def _more_to_come(search: Search, config: SearchConfig, on_wait: Callable[[set[int]], None]) -> bool:
    """Whether there are trials to be started, now or after others have ended, when this process has none under way."""
    if (done := finished(search)) >= config.trials:
        return False
    if done + len(under_way := running(search)) >= config.trials:
        on_wait(under_way)
        time.sleep(1)
    elif config.sampler == "grid" and not _in_line(search):
        # What is missing was interrupted: just now in another process, or too often.
        on_wait(set())
        return _in_line(search)
    return True


def _next(search: Search, config: SearchConfig, run_trial: Callable[[Suggestion], Training]) -> "_Attempt | None":
    """The next trial to be run, begun; None where there is no place for one, or no point left."""
    if finished(search) + len(running(search)) >= config.trials or (config.sampler == "grid" and not _in_line(search)):
        return None
    # A trial that was born but does not say yet whose it is could not be closed.
    with signals_held():
        trial = search.ask()
    off_grid = config.sampler == "grid" and "fixed_params" not in search._storage.get_trial_system_attrs(
        trial._trial_id
    )
    if off_grid or _rank(search, trial.number) >= config.trials:
        # Another process was first.
        trial.set_user_attr("status_reason", "surplus")
        _put_back(search, trial.number)
        search.tell(trial, state=TrialState.FAIL)
        return None
    return _Attempt(search, Suggestion(trial.number, train_config(trial, config), trial), run_trial)


class _Attempt:
    """A trial under way in this process: trained epoch by epoch, and told to Optuna as what it ends as."""

    def __init__(self, search: Search, suggestion: Suggestion, run_trial: Callable[[Suggestion], Training]):
        self.search, self.trial, self.training = search, suggestion.trial, run_trial(suggestion)
        self.under_way = True
        self.out_of_memory = ""
        """Why the trial failed, where that is the reason."""

    def advance(self) -> bool:
        """Trains one more epoch; whether there are more to come."""
        try:
            next(self.training)
        except StopIteration as end:
            self._end(TrialState.COMPLETE, "complete", value=end.value)
        except (Pruned, Diverged) as end:
            self._end(TrialState.PRUNED, "pruned" if isinstance(end, Pruned) else "diverged", stopped=str(end))
        except OutOfMemory as error:
            self.out_of_memory = str(error)
            self._end(TrialState.FAIL, "out of memory", stopped=str(error))
        except KeyboardInterrupt:
            self._end(TrialState.FAIL, "interrupted")
            raise
        except Exception as error:
            self._end(TrialState.FAIL, "crashed", stopped=f"{type(error).__name__}: {error}")
            raise
        return self.under_way

    def stop(self) -> None:
        """Ends the trial as interrupted, unless it has ended."""
        if self.under_way:
            try:
                self.training.close()
            finally:
                self._end(TrialState.FAIL, "interrupted")

    def _end(self, state: TrialState, reason: str, *, value: float | None = None, stopped: str = "") -> None:
        self.under_way = False
        self.trial.set_user_attr("status_reason", reason)
        if stopped:
            self.trial.set_user_attr("stopped", stopped)
        self.search.tell(self.trial, value, state)


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
