"""The trial loop of one process: trains one or several trials in turn, epoch by epoch, and tells Optuna the results."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from study.config import SearchConfig
from study.errors import Diverged, Lost, OutOfMemory, StoreFault
from study.search.draws import first_attempt
from study.search.heartbeat import TrialHeartbeats
from study.search.private import together
from study.search.sampling import Sampler
from study.search.search import FINISHED_STATES, Search, outcome, put_back
from study.search.space import train_config
from study.search.trial import Outcome, Pruned, Suggestion
from study.system import interruption
from study.system.redaction import masked

Values = float | Sequence[float]
Training = Generator[None, None, Values]
"""A generator that trains one epoch at each step, and returns the value of the search's objective, or of each."""
MAX_OUT_OF_MEMORY = 3
"""Number of consecutive out-of-memory trials that ends the search."""


def _ignore(_: object) -> None:
    """Does nothing (default callback)."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Callbacks of the trial loop."""

    on_turn: Callable[[int], None] = _ignore
    """Called with the number of a trial before it trains an epoch."""
    on_end: Callable[[Outcome], None] = _ignore
    """Called with the outcome of a trial, once it is in the storage."""
    on_memory: Callable[[str], None] = _ignore
    """Called with the message of an out-of-memory trial, once its memory is released."""


SILENT = Listener()


def optimise(
    search: Search,
    config: SearchConfig,
    run_trial: Callable[[Suggestion], Training],
    on_wait: Callable[[set[int]], None],
    *,
    listener: Listener = SILENT,
    places: int = 1,
) -> None:
    """Runs trials until `config.trials` are finished, counting those of other processes.

    Concurrent trials take turns, epoch by epoch, and the next trial takes the place of one that ends. With one process
    the order of trials is therefore deterministic, however long each takes.

    Args:
        search: the opened search.
        config: its settings.
        run_trial: makes the generator that trains a suggestion; it may raise `Pruned`, `Diverged`, `OutOfMemory` or
            `Lost`.
        on_wait: called with the trials that other processes run, while there is none left to start; requeues
            interrupted trials.
        listener: further callbacks.
        places: maximum number of concurrent trials; reduced when one of several runs out of memory.

    Raises:
        OutOfMemory: after `MAX_OUT_OF_MEMORY` trials in a row.
    """
    search.sampler = Sampler(config)
    with (
        TrialHeartbeats(search) as heartbeats,
        closing(_RunningTrials(search, config, run_trial, places, heartbeats, listener)) as under_way,
    ):
        while True:
            interruption.check()
            under_way.fill()
            if not under_way.attempts:
                if not _more_to_come(search, config, on_wait):
                    return
                under_way.has_room = True
            for message in under_way.advance():
                listener.on_memory(message)


class _RunningTrials:
    """The running trials of this process, and whether there is room for more."""

    def __init__(
        self,
        search: Search,
        config: SearchConfig,
        run_trial: Callable[[Suggestion], Training],
        places: int,
        heartbeats: TrialHeartbeats,
        listener: Listener,
    ):
        self.search, self.config, self.run_trial, self.places = search, config, run_trial, places
        self.heartbeats, self.listener = heartbeats, listener
        self.attempts: list[_Attempt] = []
        self.has_room = True
        self._failures = 0

    def close(self) -> None:
        """Ends the running trials as interrupted."""
        # A trial that fails to stop does not keep the others from stopping.
        with ExitStack() as stack:
            for attempt in self.attempts:
                stack.callback(attempt.stop)

    def fill(self) -> None:
        """Starts trials in the free places."""
        while self.has_room and len(self.attempts) < self.places:
            if suggestion := _next(self.search, self.config):
                self.heartbeats.add(suggestion.trial)
                self.attempts.append(_Attempt(self.search, suggestion, self.run_trial, self._ended))
            else:
                self.has_room = False

    def _ended(self, trial: FrozenTrial) -> None:
        self.heartbeats.remove(trial.number)
        self.listener.on_end(outcome(trial))

    def advance(self) -> Iterator[str]:
        """Trains one more epoch of each trial; yields the messages of those that ran out of memory."""
        for attempt in tuple(self.attempts):
            self.listener.on_turn(attempt.trial.number)
            if attempt.advance():
                continue
            self.attempts.remove(attempt)
            self.has_room = True
            if not attempt.out_of_memory:
                self._failures = 0
                continue
            # Counts only without other trials: those may be what memory is short for.
            self._failures += not self.attempts
            self.places = max(1, len(self.attempts))
            if self._failures == MAX_OUT_OF_MEMORY:
                raise OutOfMemory(attempt.out_of_memory)
            yield attempt.out_of_memory


def _more_to_come(search: Search, config: SearchConfig, on_wait: Callable[[set[int]], None]) -> bool:
    """Whether there are trials to start, now or after others have ended; this process has none under way."""
    trials = search.get_trials(deepcopy=False)
    finished, running = _numbers(trials, *FINISHED_STATES), _numbers(trials, TrialState.RUNNING)
    if len(finished) >= config.trials:
        return False
    if len(finished) + len(running) >= config.trials:
        on_wait(running)
        interruption.sleep(1)
    elif config.sampler == "grid" and not _numbers(trials, TrialState.WAITING):
        # The missing points were interrupted: just now in another process, or too often.
        on_wait(set())
        return bool(_numbers(search.get_trials(deepcopy=False), TrialState.WAITING))
    return True


def _next(search: Search, config: SearchConfig) -> Suggestion | None:
    """Begins the next trial; None where the total is reached or no grid point is left."""
    try:
        with together(search):
            return _begun(search, config)
    except UpdateFinishedTrialError:
        # This process stalled for so long that another one has ended the trial.
        return None


def _begun(search: Search, config: SearchConfig) -> Suggestion | None:
    trials = search.get_trials(deepcopy=False)
    is_full = len(_numbers(trials, *FINISHED_STATES, TrialState.RUNNING)) >= config.trials
    if is_full or (config.sampler == "grid" and not _numbers(trials, TrialState.WAITING)):
        return None
    trial = search.ask()
    # Read again: other processes have begun trials meanwhile.
    trials = search.get_trials(deepcopy=False)
    if is_duplicate := _is_duplicate(trials, trial.number, config):
        trial.set_user_attr("is_duplicate", True)
    elif _has_place(trials, trial.number, config):
        return Suggestion(trial.number, train_config(trial, config), trial)
    # Another process was first.
    trial.set_user_attr("status_reason", "surplus")
    if not is_duplicate:
        put_back(search, trials[trial.number])
    search.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
    return None


def _is_duplicate(trials: Sequence[FrozenTrial], number: int, config: SearchConfig) -> bool:
    """Whether an earlier trial that has not failed attempts the same: two processes enqueued it at once.

    Of several the first in the order of their numbers counts, so that no process needs a lock to enqueue one.
    """

    def point(trial: FrozenTrial) -> object:
        return trial.system_attrs.get("fixed_params") if config.sampler == "grid" else first_attempt(trial)

    own = point(trials[number])
    is_possible = own is not None and own != number  # its own number: nobody enqueued it
    return is_possible and any(other.state != TrialState.FAIL and point(other) == own for other in trials[:number])


def _has_place(trials: Sequence[FrozenTrial], number: int, config: SearchConfig) -> bool:
    """Whether a trial is within the total: trials count in the order of their numbers."""
    is_off_grid = config.sampler == "grid" and "fixed_params" not in trials[number].system_attrs
    counted = _numbers(trials[:number], *FINISHED_STATES, TrialState.RUNNING, TrialState.WAITING)
    return not is_off_grid and len(counted) < config.trials


def _numbers(trials: Sequence[FrozenTrial], *states: TrialState) -> set[int]:
    """The numbers of the trials in one of these states."""
    return {trial.number for trial in trials if trial.state in states}


class _Attempt:
    """A running trial of this process: trained epoch by epoch; its end is recorded in Optuna."""

    def __init__(
        self,
        search: Search,
        suggestion: Suggestion,
        run_trial: Callable[[Suggestion], Training],
        on_end: Callable[[FrozenTrial], None],
    ):
        self.search, self.trial, self.training = search, suggestion.trial, run_trial(suggestion)
        self.on_end = on_end
        self.under_way = True
        self.out_of_memory = ""
        """The message, where the trial ran out of memory."""

    def advance(self) -> bool:
        """Trains one more epoch; returns whether the trial goes on."""
        try:
            next(self.training)
        except StopIteration as end:
            self._end(TrialState.COMPLETE, "complete", value=end.value)
        except (Pruned, Diverged) as end:
            self._end(TrialState.PRUNED, end.reason, stopped=str(end), stopped_epoch=end.epoch)
        except OutOfMemory as error:
            self.out_of_memory = str(error)
            self._end(TrialState.FAIL, "out of memory", stopped=str(error))
        except Lost as end:
            cause: dict[str, Any] = {"stopped": str(end)} if end.is_failure else {}
            self._end(TrialState.FAIL, end.reason, **cause)
        except UpdateFinishedTrialError:
            # This process stalled for so long that it counted as dead, and its trial was requeued.
            self._end(TrialState.FAIL, "interrupted")
        except (KeyboardInterrupt, StorageInternalError, StoreFault):
            self._interrupt()
            raise
        except Exception as error:
            self._end(TrialState.FAIL, "crashed", stopped=masked(f"{type(error).__name__}: {error}"))
            raise
        return self.under_way

    def stop(self) -> None:
        """Ends the trial as interrupted, unless it has ended."""
        if self.under_way:
            try:
                self.training.close()
            finally:
                self._interrupt()

    def _interrupt(self) -> None:
        # Where the tracking store is away, the trial's run stays open until the next command.
        with suppress(StoreFault):
            self._end(TrialState.FAIL, "interrupted")

    def _end(self, state: TrialState, reason: str, *, value: Values | None = None, **attributes: Any) -> None:
        self.under_way = False
        try:
            with together(self.search):
                for name, attribute in {"status_reason": reason, **attributes}.items():
                    self.trial.set_user_attr(name, attribute)
                ended = self.search.tell(self.trial, value, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            # Another process has ended the trial: its record stays.
            ended = self.search.get_trials(deepcopy=False)[self.trial.number]
        self.on_end(ended)
