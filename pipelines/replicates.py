"""The replicates of an experiment: each of its conditions trained with each of its seeds, a run below the experiment's.

Losses and accuracies are recorded by epoch. The counts of silent and collapsed filters change fastest in the first
steps: they are recorded by optimiser step, before training, in the first steps and after every epoch.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from analysis.drawing.wording import counted
from pipelines.session.context import Context
from pipelines.session.display import Bar
from pipelines.trials.trainings import Images, Measured, replicate
from pipelines.trials.turns import retried, take_turns
from study.cautions import warmup_caution
from study.config import TrainConfig
from study.data import Dataset
from study.device import failures_explained
from study.errors import Diverged, StudyError
from study.experiments import Condition
from study.search.trial import best_epoch
from study.system.processes import named
from study.tracking.failures import failure_recorded
from study.tracking.heartbeat import close_dead, require_own, sending_heartbeats
from study.tracking.runs import Run, is_under_way, points
from study.tracking.tags import experiment_tags, replicate_tags
from study.training import Epoch


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The conditions, seeds and epochs of an experiment."""

    experiment: str
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...]
    epochs: int
    model: str
    search: str = ""
    """The search whose trials are compared; empty for other experiments."""

    @property
    def tags(self) -> dict[str, str]:
        """The tags that, with the epochs, tell the experiment from others on the same images."""
        return experiment_tags(self.experiment, self.model, self.search)

    def replicates(self) -> list[tuple[Condition, TrainConfig]]:
        """Every condition with every seed, seed by seed, so that an unfinished experiment compares all conditions."""
        return [
            (condition, replace(condition.config, seed=seed)) for seed in self.seeds for condition in self.conditions
        ]


@contextmanager
def claimed(plan: Plan, dataset: Dataset, context: Context) -> Iterator[str]:
    """Starts or continues the experiment's run for this process alone while the block lasts; yields its id.

    Raises:
        StudyError: where another process works on it.
    """
    close_dead(context.store, [run for run in _matching(plan, dataset, context) if run.status == "RUNNING"])
    with context.locked():
        parent = _resume_run(plan, dataset, context) or _start_run(plan, dataset, context)
    with failure_recorded(context.store, parent), sending_heartbeats(context.store, parent):
        yield parent
        require_own(context.store, parent)
    context.store.finish(parent, "FINISHED", "complete")


def _matching(plan: Plan, dataset: Dataset, context: Context) -> list[Run]:
    """The runs of the same experiment with the same number of epochs and precision."""
    same = (plan.epochs, context.machine.precision)
    return [run for run in context.store.runs([dataset.key], **plan.tags) if (run.epochs, run.precision) == same]


def _resume_run(plan: Plan, dataset: Dataset, context: Context) -> str | None:
    for run in _matching(plan, dataset, context):
        if is_under_way(run):
            raise StudyError(f"This experiment is already running (run {run.id}, {named(run.worker)}): wait for it.")
        # Left by a process that was killed.
        for orphan in context.store.runs([dataset.key], stage="replicate", parent=run.id, status="RUNNING"):
            context.store.finish(orphan.id, "KILLED", "interrupted")
        context.store.claim(run.id)
        return run.id
    return None


def _start_run(plan: Plan, dataset: Dataset, context: Context) -> str:
    return context.store.start(
        dataset.key,
        f"{plan.experiment} on {dataset.key}, {counted(plan.epochs, 'epoch')}",
        tags=plan.tags,
        # Not the conditions and seeds: they may grow, which params cannot, so the last comparison's are tags.
        params={"epochs": plan.epochs, **context.params(dataset)},
    )


def run_missing(plan: Plan, parent: str, dataset: Dataset, context: Context) -> None:
    """Trains every replicate that is not finished, and tags the run with what it compares.

    One after the other; on a cluster several at a time.
    """
    finished = context.store.runs([dataset.key], stage="replicate", parent=parent, status="FINISHED")
    done = {(run.condition, run.seed) for run in finished}
    replicates = plan.replicates()
    missing = [(condition, config) for condition, config in replicates if (condition.label, config.seed) not in done]
    if len(missing) < len(replicates):
        context.display.say(f"{len(replicates) - len(missing)} of {len(replicates)} trainings are finished already.")
    if missing:
        rows = len(dataset.splits.train_rows)
        for caution in filter(None, dict.fromkeys(warmup_caution(config, rows) for _, config in missing)):
            context.display.say(caution)
        runner = _Runner(plan, parent, dataset, context)
        epochs, left = (sum(config.epochs for _, config in some) for some in (replicates, missing))
        with context.display.bar(plan.experiment, epochs * len(runner.images)) as bar:
            bar.advance((epochs - left) * len(runner.images))
            first = len(replicates) - len(missing) + 1
            trainings = (
                runner.run(condition, config, bar, f"{number}/{len(replicates)}")
                for number, (condition, config) in enumerate(missing, start=first)
            )
            take_turns(trainings, context.cluster.places if context.cluster else 1)
    context.store.tag(parent, conditions=[condition.label for condition in plan.conditions], seeds=plan.seeds)


class _Runner:
    def __init__(self, plan: Plan, parent: str, dataset: Dataset, context: Context):
        self.plan, self.parent, self.dataset, self.context = plan, parent, dataset, context
        self.images = Images.of_splits(dataset, None if context.cluster else context.machine)
        self.params = context.params(dataset)

    def run(self, condition: Condition, config: TrainConfig, bar: Bar, place: str) -> Generator[None]:
        """Trains and records one replicate, yielding in between; that its loss diverges is a result too."""
        require_own(self.context.store, self.parent)
        label = f"{place} {condition.label}, seed {config.seed}"
        yield from retried(lambda: self._run(condition, config, bar, label), label, self.context.display.say)

    def _run(self, condition: Condition, config: TrainConfig, bar: Bar, label: str) -> Generator[None]:
        run_id, epochs = self._start(condition, config), list[Epoch]()
        reason, detail, stopped_epoch = "complete", "", None
        with failure_recorded(self.context.store, run_id):
            try:
                with failures_explained(self.context.machine):
                    yield from self._fit(run_id, config, epochs, bar, label)
            except Diverged as end:
                bar.advance((config.epochs - end.epoch) * len(self.images))
                reason, detail, stopped_epoch = "diverged", f"; {end}", end.epoch
        self.context.store.finish(run_id, "FINISHED", reason, points(_best(epochs), 0), stopped_epoch=stopped_epoch)
        accuracy = f"val {epochs[-1].metrics['val_accuracy']:.4f}" if epochs else "no finite result"
        self.context.display.say(f"{label}: {accuracy}{detail}")

    def _start(self, condition: Condition, config: TrainConfig) -> str:
        return self.context.store.start(
            self.dataset.key,
            f"{condition.label}, seed {config.seed}",
            tags=replicate_tags(self.plan.experiment, condition),
            params={**config.params(), **self.params},
            parent=self.parent,
        )

    def _fit(self, run_id: str, config: TrainConfig, epochs: list[Epoch], bar: Bar, label: str) -> Generator[None]:
        training = self.context.run(replicate, self.images, config, on_batch=bar.advance)
        with closing(training):
            for measured in training:
                if measured is None:
                    yield
                    continue
                self._record(run_id, measured)
                if epoch := measured.epoch:
                    epochs.append(epoch)
                    accuracy = f"val {epoch.metrics['val_accuracy']:.3f}"
                    bar.note(f"epoch {epoch.number}/{config.epochs} · {accuracy} · {label}")
                    if self.context.cluster:
                        bar.advance(len(self.images))

    def _record(self, run_id: str, measured: Measured) -> None:
        if epoch := measured.epoch:
            require_own(self.context.store, run_id)
            self.context.store.log(run_id, epoch.metrics | epoch.speed, epoch.number)
        for step, counts in measured.counts.items():
            self.context.store.log(run_id, counts, step)


def _best(epochs: Sequence[Epoch]) -> dict[str, float]:
    accuracies, losses = (
        {epoch.number: epoch.metrics[name] for epoch in epochs} for name in ("val_accuracy", "val_loss")
    )
    return best_epoch(accuracies, losses)
