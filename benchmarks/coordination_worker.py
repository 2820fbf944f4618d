"""The workers of the coordination benchmark: processes that run a search's own loop, and count what it costs."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import requests
import sqlalchemy

from benchmarks import untrained
from pipelines.session.context import Context
from pipelines.trials import runner as stage
from pipelines.trials.recovery import Recovery
from study.config import SearchConfig, TrainConfig
from study.device import prepare
from study.home import Home
from study.search import loop, search
from study.search import trial as of_trial
from study.search.sampling import pruner_of
from study.search.space import search_space
from study.tracking.heartbeat import sending_heartbeats
from study.tracking.store import Store

CONFIG = SearchConfig(name="coordination")
CALLS: dict[str, tuple[Any, str]] = {
    "ask": (loop, "_next"),
    "begin": (stage._TrialRunner, "_start"),
    "report": (of_trial, "report"),
    "write": (Store, "log_points"),
    "tell": (optuna.Study, "tell"),
    "end": (Store, "close"),
}
"""What is timed: the function or method, by its owner and name. `report` prunes too, `begin` starts the MLflow run."""
EVENTS = {"before_cursor_execute": "statement", "commit": "transaction", "rollback": "transaction"}
"""What is counted of a database, by SQLAlchemy's event."""


@dataclass(frozen=True)
class Order:
    """What a worker is to do."""

    storage: str
    uri: str
    parent: str
    trials: int
    """The total of the search."""
    pause: float
    """Seconds of an epoch."""


@dataclass
class Cost:
    """What a worker's trials cost, without its first one."""

    trials: int = 0
    processor: float = 0.0
    """Seconds of processor time of the process."""
    wall: float = 0.0
    durations: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of each call, by its name in `CALLS`."""
    processors: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of processor time of all calls, in their threads."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of SQL statements, transactions and requests, by the call that made them."""


class Meter:
    """Counts and times what a process does."""

    def __init__(self) -> None:
        self.cost = Cost()
        self._thread = threading.local()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block, what the process does is counted and timed."""
        with ExitStack() as stack:
            for name, (owner, method) in CALLS.items():
                stack.enter_context(mock.patch.object(owner, method, self._timed(name, getattr(owner, method))))
            send = self._counted("request", requests.Session.send)
            stack.enter_context(mock.patch.object(requests.Session, "send", send))
            for event, what in EVENTS.items():
                listener = partial(self._count, what)
                sqlalchemy.event.listen(sqlalchemy.Engine, event, listener, named=True)
                stack.callback(sqlalchemy.event.remove, sqlalchemy.Engine, event, listener)
            yield

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            if getattr(self._thread, "call", ""):
                # A part of another one.
                return call(*arguments, **options)
            self._thread.call = name
            start, processor = time.perf_counter(), time.thread_time()
            try:
                return call(*arguments, **options)
            finally:
                self.cost.durations[name].append(time.perf_counter() - start)
                self.cost.processors[name] += time.thread_time() - processor
                self._thread.call = ""

        return timed

    def _counted(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self._count(what)
            return call(*arguments, **options)

        return counted

    def _count(self, what: str, **event: object) -> None:
        self.cost.counts[getattr(self._thread, "call", ""), what] += 1


def work(order: Order, home: Path, ready: Any, results: "Queue[Cost]") -> None:
    """Runs trials until the search has its total, and puts their cost into `results`."""
    opened, context = _opened(order, home)
    config = SearchConfig(name=CONFIG.name, trials=order.trials)
    meter, marks, costs = Meter(), [], [Cost()]

    def curve(config: TrainConfig) -> np.ndarray:
        # Equal, so that no trial is pruned, and all have as many epochs.
        return np.full(config.epochs, 0.9)

    def on_end(ended: stage.EndedTrial) -> None:
        marks.append((time.process_time(), time.perf_counter()))
        if len(marks) == 1:
            meter.cost = Cost()
        meter.cost.trials = len(marks) - 1
        meter.cost.processor, meter.cost.wall = np.subtract(marks[-1], marks[0]).tolist()
        # What follows the last trial, such as waiting for those of others, does not count.
        costs.append(deepcopy(meter.cost))

    recovery = Recovery(opened, config, context)
    untimed = mock.patch.object(stage, "trial", untrained.trial_on(curve, pause=order.pause))
    with untimed, meter.installed(), sending_heartbeats(context.store, order.parent), recovery.watching():
        ready.wait()
        stage.run_trials(opened, config, untrained.dataset(), context, parent=order.parent, on_end=on_end)
    results.put(costs[-1])


def _opened(order: Order, home: Path) -> tuple[search.Search, Context]:
    machine = prepare("cpu", "float32", 1)
    place = Home(root=home)
    context = Context(place, Store(place, order.uri), order.storage, machine, display=untrained.NoBars(is_quiet=True))
    opened = search.open_search(CONFIG, order.storage, digest=untrained.dataset().digest)
    # As a worker has after its first trial.
    opened.get_trials(deepcopy=False)
    return opened, context


def alone(storage: str, trials: int) -> float:
    """Seconds of processor time of a trial with Optuna alone, in this process: the same sampler, pruner and epochs."""
    plain = optuna.load_study(
        study_name=CONFIG.name,
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=pruner_of(CONFIG.pruner, CONFIG.epochs),
    )
    for number in range(trials + 1):
        trial = plain.ask(search_space(CONFIG))
        for epoch in range(1, CONFIG.epochs + 1):
            trial.report(0.9, epoch)
            trial.should_prune()
        plain.tell(trial, 0.9)
        if not number:
            start = time.process_time()
    return (time.process_time() - start) / trials
