"""The trials that one process has under way: they take turns, epoch by epoch, and Optuna is told how each ends."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from study.config import SearchConfig
from study.errors import Diverged, OutOfMemory, StoreFault
from study.search.heartbeat import Heart
from study.search.search import FINISHED_STATES, Search, finished, outcome, put_back, running
from study.search.space import Sampler, train_config
from study.search.trial import Outcome, Pruned, Suggestion
from study.system import interruption
from study.system.redaction import masked

Training = Generator[None, None, float]
"""A training that is asked for epoch by epoch, and returns its best validation accuracy."""
MAX_OUT_OF_MEMORY = 3
"""So many trials in a row may fail for want of memory; the last one's error ends the search."""


def _nobody(what: object) -> None:
    """Told what nobody asked for."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Who is told how the trials of a process fare."""

    on_turn: Callable[[int], None] = _nobody
    """The number of a trial that is about to train an epoch."""
    on_end: Callable[[Outcome], None] = _nobody
    """What became of a trial, once the search's storage has it."""
    on_memory: Callable[[str], None] = _nobody
    """Why a trial failed for want of memory, once nothing holds on to what it had."""


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

    Trials that are under way together take turns, epoch by epoch; the place of one that ends goes to the next. With
    one process the trials are then the same each time, however long each takes.

    Args:
        search: the opened search.
        config: its settings.
        run_trial: trains what it is given, an epoch each time the next value is asked for, and returns its best
            validation accuracy; may raise `Pruned`, `Diverged` or `OutOfMemory`.
        on_wait: told the trials that other processes still run, while there is none left to start; lines up again
            what was interrupted.
        listener: who else is told.
        places: how many trials may be under way at a time; fewer from when one of several finds no memory.

    Raises:
        OutOfMemory: where trial after trial fails for want of memory.
    """
    search.sampler = Sampler(config)
    with (
        Heart(search) as heart,
        closing(_UnderWay(search, config, run_trial, places, heart, listener)) as under_way,
    ):
        while True:
            interruption.check()
            under_way.fill()
            if not under_way.attempts:
                if not _more_to_come(search, config, on_wait):
                    return
                under_way.has_room = True
            for said in under_way.advance():
                listener.on_memory(said)


class _UnderWay:
    """The trials under way in this process, and whether there is room for more."""

    def __init__(
        self,
        search: Search,
        config: SearchConfig,
        run_trial: Callable[[Suggestion], Training],
        places: int,
        heart: Heart,
        listener: Listener,
    ):
        self.search, self.config, self.run_trial, self.places = search, config, run_trial, places
        self.heart, self.listener = heart, listener
        self.attempts: list[_Attempt] = []
        self.has_room = True
        self._failures = 0

    def close(self) -> None:
        """Ends what is under way as interrupted."""
        # One that cannot be stopped in order keeps none of the others from it.
        with ExitStack() as stack:
            for attempt in self.attempts:
                stack.callback(attempt.stop)

    def fill(self) -> None:
        """Gives the places that are free to the next trials."""
        while self.has_room and len(self.attempts) < self.places:
            if suggestion := _next(self.search, self.config):
                self.heart.add(suggestion.trial)
                self.attempts.append(_Attempt(self.search, suggestion, self.run_trial, self._ended))
            else:
                self.has_room = False

    def _ended(self, trial: FrozenTrial) -> None:
        self.heart.remove(trial.number)
        self.listener.on_end(outcome(trial))

    def advance(self) -> Iterator[str]:
        """Has each trial train one more epoch; gives what is to be said of those that found no memory."""
        for attempt in tuple(self.attempts):
            self.listener.on_turn(attempt.trial.number)
            if attempt.advance():
                continue
            self.attempts.remove(attempt)
            self.has_room = True
            if not attempt.out_of_memory:
                self._failures = 0
                continue
            # Where others train, memory is short for so many at a time, and not for any.
            self._failures += not self.attempts
            self.places = max(1, len(self.attempts))
            if self._failures == MAX_OUT_OF_MEMORY:
                raise OutOfMemory(attempt.out_of_memory)
            yield attempt.out_of_memory


def _more_to_come(search: Search, config: SearchConfig, on_wait: Callable[[set[int]], None]) -> bool:
    """Whether there are trials to be started, now or after others have ended, when this process has none under way."""
    if (done := finished(search)) >= config.trials:
        return False
    if done + len(under_way := running(search)) >= config.trials:
        on_wait(under_way)
        interruption.sleep(1)
    elif config.sampler == "grid" and not _in_line(search):
        # What is missing was interrupted: just now in another process, or too often.
        on_wait(set())
        return _in_line(search)
    return True


def _next(search: Search, config: SearchConfig) -> Suggestion | None:
    """The next trial to be run, begun; None where there is no place for one, or no point left."""
    if finished(search) + len(running(search)) >= config.trials or (config.sampler == "grid" and not _in_line(search)):
        return None
    try:
        trial = search.ask()
        if _has_place(search, trial.number, config):
            return Suggestion(trial.number, train_config(trial, config), trial)
    except UpdateFinishedTrialError:
        # This process was away for so long that another one has ended the trial already.
        return None
    # Another process was first.
    trial.set_user_attr("status_reason", "surplus")
    put_back(search, search.get_trials(deepcopy=False)[trial.number])
    search.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
    return None


def _has_place(search: Search, number: int, config: SearchConfig) -> bool:
    off_grid = config.sampler == "grid" and "fixed_params" not in search.get_trials(deepcopy=False)[number].system_attrs
    return not off_grid and _rank(search, number) < config.trials


class _Attempt:
    """A trial under way in this process: trained epoch by epoch, and told to Optuna as what it ends as."""

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
        """Why the trial failed, where that is the reason."""

    def advance(self) -> bool:
        """Trains one more epoch; whether there are more to come."""
        try:
            next(self.training)
        except StopIteration as end:
            self._end(TrialState.COMPLETE, "complete", value=end.value)
        except (Pruned, Diverged) as end:
            reason = "pruned" if isinstance(end, Pruned) else "diverged"
            self._end(TrialState.PRUNED, reason, stopped=str(end), stopped_epoch=end.epoch)
        except OutOfMemory as error:
            self.out_of_memory = str(error)
            self._end(TrialState.FAIL, "out of memory", stopped=str(error))
        except UpdateFinishedTrialError:
            # This process was away for so long that it was taken for dead, and what it tried is another's now.
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

    def _end(self, state: TrialState, reason: str, *, value: float | None = None, **said: Any) -> None:
        self.under_way = False
        try:
            for name, told in {"status_reason": reason, **said}.items():
                self.trial.set_user_attr(name, told)
            ended = self.search.tell(self.trial, value, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            # What this process would say of the trial must not go over what another one has said.
            ended = self.search.get_trials(deepcopy=False)[self.trial.number]
        self.on_end(ended)


def _in_line(search: Search) -> bool:
    return bool(search.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def _rank(search: Search, number: int) -> int:
    """How many trials before this one are finished or under way: places are given in the order of the numbers."""
    taken = (*FINISHED_STATES, TrialState.RUNNING, TrialState.WAITING)
    return sum(trial.number < number for trial in search.get_trials(deepcopy=False, states=taken))
