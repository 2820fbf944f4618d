"""The trials that one process has under way: they take turns, epoch by epoch, and Optuna is told how each ends."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing

from optuna.trial import TrialState

from study.config import SearchConfig
from study.errors import Diverged, OutOfMemory
from study.process import signals_held
from study.search import COUNTED, Search, finished, parameters_of, running
from study.space import Sampler, train_config
from study.trial import Pruned, Suggestion

Training = Generator[None, None, float]
"""A training that is asked for epoch by epoch, and returns its best validation accuracy."""
MAX_OUT_OF_MEMORY = 3
"""So many trials in a row may fail for want of memory; the last one's error ends the search."""


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
    with closing(_UnderWay(search, config, run_trial, places)) as under_way:
        while True:
            under_way.fill()
            if not under_way.attempts:
                if not _more_to_come(search, config, on_wait):
                    return
                under_way.has_room = True
            for said in under_way.advance():
                on_memory(said)


class _UnderWay:
    """The trials under way in this process, and whether there is room for more."""

    def __init__(self, search: Search, config: SearchConfig, run_trial: Callable[[Suggestion], Training], places: int):
        self.search, self.config, self.run_trial, self.places = search, config, run_trial, places
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
            if attempt := _next(self.search, self.config, self.run_trial):
                self.attempts.append(attempt)
            else:
                self.has_room = False

    def advance(self) -> Iterator[str]:
        """Has each trial train one more epoch; gives what is to be said of those that found no memory."""
        for attempt in tuple(self.attempts):
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
    if lined_up := parameters_of(trial):
        kept = {name: value for name, value in trial.user_attrs.items() if name == "retry_of"}
        search.enqueue_trial(lined_up, user_attrs=kept)
