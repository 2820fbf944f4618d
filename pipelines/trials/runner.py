"""The trials of a search, one after the other or in turns, each mirrored in MLflow as a run below the search's."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from analysis.drawing.wording import settings
from pipelines.session.context import Context
from pipelines.session.display import Bar
from pipelines.session.notes import trial_note
from pipelines.trials.mirror import agrees, end_run, end_tags, start_run
from pipelines.trials.recovery import Recovery
from pipelines.trials.trainings import Images, trial
from study.config import RATES, SearchConfig
from study.data import Dataset
from study.device import failures_explained, release_device_memory
from study.errors import Diverged, Lost, StoreFault, Unbuildable
from study.models import parameter_count
from study.search import search
from study.search.loop import Listener, Training, optimise
from study.search.trial import COUNTED, Outcome, Pruned, Score, Suggestion
from study.tracking.runs import PARAMETERS
from study.tracking.writer import Writer
from study.training import Epoch

FEWER_WORKERS = "run fewer trials at a time with --workers"


@dataclass(frozen=True)
class EndedTrial:
    """The result of a trial that counts."""

    number: int
    settings: Mapping[str, Any]
    """Its hyperparameters, see `TrainConfig.differing`."""
    accuracy: float | None
    """The best on the validation split; None where no epoch had a finite result."""
    reason: str
    """`complete`, `pruned` or `diverged`."""
    detail: str


class Tally:
    """Counts the trials of a search as they end, and shows the best so far."""

    def __init__(self, context: Context, bar: Bar, opened: search.Search, total: int):
        self.display, self.bar, self.total = context.display, bar, total
        table = search.trials_table(opened)
        complete = table[table["state"] == "complete"]["val_accuracy"]
        self.done = len(table)
        self.best: float | None = complete.max() if len(complete) else None
        bar.advance(self.done)

    def add(self, trial: EndedTrial) -> None:
        """Counts a trial that has just ended."""
        self.done += 1
        if trial.reason == "complete" and trial.accuracy is not None:
            self.best = trial.accuracy if self.best is None else max(self.best, trial.accuracy)
        self.bar.advance()
        best = "none" if self.best is None else f"{self.best:.4f}"
        self.bar.note(f"{self.done}/{self.total} · best {best}")
        reached = "no finite result" if trial.accuracy is None else f"val {trial.accuracy:.4f}"
        self.display.say(
            f"trial {trial.number} ({self.done}/{self.total}): {_short(trial.settings)}: {reached}, {trial.reason} "
            f"({trial.detail}); best {best}"
        )


def _short(values: Mapping[str, Any]) -> str:
    rates = {"lr": values["learning_rate"], "decay": values["weight_decay"]}
    others = settings({name: value for name, value in values.items() if name not in RATES})
    return ", ".join([*(f"{name} {rate:.2e}" for name, rate in rates.items()), *filter(None, [others])])


def run_trials(
    opened: search.Search,
    config: SearchConfig,
    dataset: Dataset,
    context: Context,
    *,
    parent: str,
    on_end: Callable[[EndedTrial], None],
    on_turn: Callable[[int | None], None] = lambda number: None,
    places: int = 1,
) -> None:
    """Runs trials in this process, or on the cluster's nodes, until the search has its total.

    Args:
        opened: the search.
        config: its settings.
        dataset: the images; those of the test split are not used.
        context: the stores, the machine and the display.
        parent: the id of the search's run.
        on_end: called with each trial that counts, once both stores have it.
        on_turn: called with the number of each trial that is about to train an epoch; with None while waiting.
        places: number of trials that take turns, epoch by epoch, which keeps a GPU busy, or all nodes.

    Raises:
        KeyboardInterrupt: after the trials under way were closed in both stores.
        OutOfMemory: where trial after trial runs out of memory.
    """

    def on_memory(message: str) -> None:
        release_device_memory()
        context.display.say(f"A trial failed: {message}")

    def on_wait(running: set[int]) -> None:
        on_turn(None)
        recovery.wait()

    def on_trial_end(outcome: Outcome) -> None:
        runner.ended(outcome)
        if outcome.number in runner.lost:
            recovery()

    recovery = Recovery(opened, config, context)
    try:
        with Writer(context.store) as writer:
            runner = _TrialRunner(config, dataset, context, writer, parent, on_end)
            listener = Listener(on_turn=on_turn, on_end=on_trial_end, on_memory=on_memory)
            optimise(opened, config, runner.run, on_wait, listener=listener, places=places)
    except BaseException:
        # The stop may have come when one store had the start or end of a trial and the other had not yet, or had queued
        # another reason for the end: makes both equal. Where the store cannot be reached, the next command does.
        with suppress(StoreFault), context.locked():
            recovery.close(and_own=True, whole=True)
        raise


QUIET = 60.0
"""Seconds without a line after which the progress of a trial is one, where there are no bars."""


class _TrialRunner:
    def __init__(
        self,
        config: SearchConfig,
        dataset: Dataset,
        context: Context,
        writer: Writer,
        parent: str,
        on_end: Callable[[EndedTrial], None],
    ):
        self.config, self.dataset, self.context, self.writer = config, dataset, context, writer
        self.parent, self.on_end = parent, on_end
        self.begun: dict[int, tuple[str, Score]] = {}
        self.lost: set[int] = set()
        """The numbers of trials whose worker was lost."""
        with failures_explained(context.machine, FEWER_WORKERS):
            self.images = Images.of_splits(dataset, None if context.cluster else context.machine)
        self.params = context.params(dataset)

    def run(self, suggestion: Suggestion) -> Training:
        """Trains `suggestion`; all its metrics are written when it ends, whatever ends it."""
        run_id, score = self._start(suggestion)
        try:
            with failures_explained(self.context.machine, FEWER_WORKERS):
                yield from self._fit(suggestion, run_id, score)
        except Lost as end:
            self.context.display.say(f"Trial {suggestion.number}: {end}.")
            self.lost.add(suggestion.number)
            self.writer.drain()
            raise
        except BaseException as end:
            if isinstance(end, Pruned | Diverged):
                tags = end_tags(end.reason, end.epoch, str(end))
                self.writer.log(run_id, score.best, status_reason=end.reason, **tags)
            self.writer.drain(is_patient=isinstance(end, Exception))
            raise
        self.writer.log(run_id, score.best, status_reason="complete")
        self.writer.drain()
        values = {"accuracy": score.accuracy, "parameters": self.parameters(suggestion)}
        return [values[objective] for objective in self.config.objectives]

    def ended(self, outcome: Outcome) -> None:
        """Ends the run of a trial as Optuna ended the trial."""
        if outcome.number not in self.begun:
            return
        run_id, score = self.begun.pop(outcome.number)
        best, store = score.best, self.context.store
        if outcome.reason in COUNTED:
            # Its reason came with its last metrics.
            store.close(run_id, outcome.status)
        # Who ends the trial of a process that stalls for long ends its run, too.
        elif not outcome.is_abandoned or not agrees(store.get(run_id), outcome):
            end_run(store, run_id, outcome)
        if outcome.reason in COUNTED:
            config, detail = score.suggestion.config, outcome.stopped or f"best in epoch {best['best_epoch']}"
            accuracy = best.get("best_val_accuracy")
            self.on_end(EndedTrial(outcome.number, config.differing(), accuracy, outcome.reason, detail))

    def parameters(self, suggestion: Suggestion) -> int:
        """Number of parameters of a suggestion's network."""
        return parameter_count(suggestion.config.model, classes=len(self.dataset.classes), side=self.dataset.side)

    def _start(self, suggestion: Suggestion) -> tuple[str, Score]:
        count = None
        # `_fit` raises it again, where the trial can be ended for it.
        with suppress(Unbuildable):
            count = self.parameters(suggestion)
        run_id = start_run(
            self.context.store,
            self.config,
            suggestion.number,
            retry_of=suggestion.retry_of,
            dataset=self.dataset.key,
            params={**suggestion.config.params(), **self.params} | ({} if count is None else {PARAMETERS: count}),
            parent=self.parent,
        )
        # First: binding fails where another process has ended the trial, and the run has to be ended then.
        self.begun[suggestion.number] = run_id, Score(suggestion)
        suggestion.bind(run_id, trial_note(self.context.store, self.dataset.key, run_id), count)
        return self.begun[suggestion.number]

    def _fit(self, suggestion: Suggestion, run_id: str, score: Score) -> Iterator[None]:
        config, context, images = suggestion.config, self.context, len(self.images)
        try:
            self.parameters(suggestion)
        except Unbuildable as error:
            # As Optuna recommends for infeasible points: the sampler learns to avoid a pruned trial, not a failed one.
            raise Pruned(0, str(error)) from error
        with context.display.bar(f"  trial {suggestion.number}", config.epochs * images) as bar:
            training = context.run(trial, self.images, config, on_batch=bar.advance, timeout=self.config.trial_timeout)
            with closing(training):
                for epoch in training:
                    if epoch is None:
                        yield
                        continue
                    if context.cluster:
                        bar.advance(images)
                    self._keep_epoch(suggestion.number, epoch, run_id, score, bar)

    def _keep_epoch(self, number: int, epoch: Epoch, run_id: str, score: Score, bar: Bar) -> None:
        recorded = {
            # First, since by default MLflow compares runs by the first metric.
            "val_accuracy": epoch.metrics["val_accuracy"],
            **epoch.metrics,
            **epoch.speed,
        }
        self.writer.log(run_id, recorded, epoch.number)
        progress = f"val {epoch.metrics['val_accuracy']:.3f} · {epoch.images_per_second:,.0f} images/s"
        bar.note(progress)
        # A log without a line for minutes looks as if nothing went on.
        self.context.display.log(f"trial {number}, epoch {epoch.number}: {progress}", after=QUIET)
        score.update(epoch.number, epoch.metrics["val_accuracy"], epoch.metrics["val_loss"])
