"""Stage 1, `study tune`: search learning rate and weight decay on the validation split, every trial tracked.

Leaves one run for the search, with its figures, and one run below it for every trial.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from analysis import search as figures
from pipelines.context import Context
from pipelines.output import write_figure
from pipelines.pages import compare_page, trials_page
from pipelines.progress import Bar
from study import search
from study.config import DataConfig, SearchConfig
from study.data import Dataset, Splits
from study.errors import Diverged, StudyError
from study.files import locked, masked
from study.models import build_model
from study.selection import rank
from study.tracking import metric
from study.training import Epoch, TrainingState, fit, resident
from study.trial import Pruned, Score, Suggestion


def tune(config: SearchConfig, data: DataConfig, dataset: Dataset, context: Context) -> str:
    """Searches until `config.trials` trials are finished, and returns the id of the search's run.

    Raises:
        StudyError: where a search of this name began with other settings.
        KeyboardInterrupt: after the current trial was closed in both stores.
    """
    splits = dataset.splits(data)
    with locked(context.home):
        opened = search.open_search(config, context.storage, digest=dataset.digest)
        _require_its_runs(opened, config, dataset, context)
        parent = _search_run(config, data, dataset, context)
    done = search.finished(opened)
    recover = partial(_recover, opened, config, context)
    try:
        if done >= config.trials:
            context.display.say(
                f"Search {config.name} has {done} finished trials already; a larger --trials adds to them."
            )
        else:
            recover()
        runner = _TrialRunner(config, data, dataset, splits, context, parent, recover)
        with context.display.bar(f"search {config.name}", config.trials) as bar:
            runner.begin(bar, done, search.trials_table(opened))
            search.optimise(opened, config, runner.run, runner.wait)
        table = search.trials_table(opened)
        if context.store.get(parent).tags.get("trials") != str(len(table)):
            _log_results(parent, table, search.importance(opened), context)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        context.store.finish(parent, "KILLED" if interrupted else "FAILED", "interrupted" if interrupted else "crashed")
        raise
    context.store.finish(parent, "FINISHED", "complete")
    _say_results(parent, table, config, dataset, context)
    return parent


def _require_its_runs(opened: search.Search, config: SearchConfig, dataset: Dataset, context: Context) -> None:
    if search.finished(opened) and not context.store.runs([dataset.key], stage="search", search=config.name):
        raise StudyError(
            f"Search {config.name} is in {masked(context.storage)}, but its runs are not in "
            f"{masked(context.store.uri)}: use the tracking store that it began with, or a new --search."
        )


def _search_run(config: SearchConfig, data: DataConfig, dataset: Dataset, context: Context) -> str:
    """The run that the trials are recorded below: a continued search keeps its own."""
    found = context.store.runs([dataset.key], stage="search", search=config.name)
    if found:
        context.store.resume(found[0].id)
        return found[0].id
    return context.store.start(
        dataset.key,
        config.name,
        tags={"stage": "search", "model": config.model.name, "search": config.name, "dataset": dataset.key},
        # The total may grow, and a param may not change: it is a tag of the run instead.
        params={**config.settings(), **context.params(data, dataset)},
    )


def _recover(opened: search.Search, config: SearchConfig, context: Context) -> None:
    """Ends, in both stores, what a killed process left open, and lines up its parameters again."""
    with locked(context.home):
        search.close_orphans(opened)
        runs = [run for run in context.store.runs(stage="trial", search=config.name) if run.status == "RUNNING"]
        under_way = search.running(opened)
        for run in runs:
            # Looked at again: another process ends its runs before their trials, and may just have done so.
            if int(run.tags["optuna_trial"]) not in under_way and context.store.get(run.id).status == "RUNNING":
                context.store.finish(run.id, "KILLED", "interrupted")
        again = search.requeue(opened)
    if again:
        context.display.say(f"Trying again what was interrupted: trial {', '.join(map(str, again))}.")


class _TrialRunner:
    """Trains one trial after the other and mirrors each in MLflow."""

    def __init__(
        self,
        config: SearchConfig,
        data: DataConfig,
        dataset: Dataset,
        splits: Splits,
        context: Context,
        parent: str,
        recover: Callable[[], None],
    ):
        self.recover = recover
        self.config, self.dataset, self.context, self.parent = config, dataset, context, parent
        self.train, self.validation = (resident(part, context.machine) for part in (splits.train, splits.validation))
        self.params = context.params(data, dataset)
        self.waited = False

    def begin(self, bar: Bar, done: int, table: pd.DataFrame) -> None:
        """Takes the bar that the trials move, and what earlier ones reached."""
        self.bar, self.done = bar, done
        complete = table[table["state"] == "complete"]["val_accuracy"]
        self.best = complete.max() if len(complete) else 0.0
        bar.advance(done)

    def wait(self, running: set[int]) -> None:
        """Says once what is waited for, and takes over from a process that died meanwhile."""
        if not self.waited:
            self.context.display.say(f"Waiting for other processes: trial {', '.join(map(str, sorted(running)))}.")
        self.waited = True
        self.recover()

    def run(self, suggestion: Suggestion) -> float:
        """Trains `suggestion`; whatever ends it is recorded on its run before it goes on upwards."""
        store, run_id, score = self.context.store, self._start(suggestion), Score(suggestion)
        try:
            self._fit(suggestion, run_id, score)
            self.best = max(self.best, score.accuracy)
            self._end(suggestion, run_id, score, "complete", f"best in epoch {score.epoch}")
        except Diverged as end:
            store.tag(run_id, stopped_epoch=end.epoch, stopped_by=str(end))
            self._end(suggestion, run_id, score, "diverged", str(end))
            raise
        except Pruned as end:
            store.tag(run_id, stopped_epoch=end.epoch)
            self._end(suggestion, run_id, score, "pruned", str(end))
            raise
        except KeyboardInterrupt:
            store.finish(run_id, "KILLED", "interrupted")
            raise
        except BaseException:
            store.finish(run_id, "FAILED", "crashed")
            raise
        return score.accuracy

    def _start(self, suggestion: Suggestion) -> str:
        tags = {
            "stage": "trial",
            "model": self.config.model.name,
            "search": self.config.name,
            "dataset": self.dataset.key,
            "optuna_trial": str(suggestion.number),
            "base_seed": str(self.config.seed),
        }
        if suggestion.retry_of is not None:
            tags["retry_of"] = str(suggestion.retry_of)
        run_id = self.context.store.start(
            self.dataset.key,
            f"trial {suggestion.number} of {self.config.name}",
            tags=tags,
            params={**suggestion.config.params(), **self.params},
            parent=self.parent,
        )
        suggestion.bind(run_id)
        return run_id

    def _fit(self, suggestion: Suggestion, run_id: str, score: Score) -> None:
        config, context = suggestion.config, self.context
        model = build_model(config.model, classes=len(self.dataset.classes), seed=config.seed)
        images = len(self.train)
        with context.display.bar(f"  trial {suggestion.number}", config.epochs * images) as bar:

            def on_epoch(epoch: Epoch) -> None:
                if epoch.number == 0:
                    return
                recorded = {
                    # First, since MLflow compares runs by the first metric unless told otherwise.
                    "val_accuracy": epoch.metrics["val_accuracy"],
                    **epoch.metrics,
                    "epoch_seconds": epoch.seconds,
                    "images_per_second": epoch.images_per_second,
                }
                context.store.log(run_id, recorded, epoch.number)
                bar.note(f"val {epoch.metrics['val_accuracy']:.3f} · {epoch.images_per_second:,.0f} images/s")
                score.update(epoch.number, epoch.metrics["val_accuracy"], epoch.metrics["val_loss"])

            state = TrainingState(model, config, context.machine)
            fit(
                state,
                self.train,
                config,
                context.machine,
                evaluate={"val": self.validation},
                on_epoch=on_epoch,
                on_batch=bar.advance,
            )

    def _end(self, suggestion: Suggestion, run_id: str, score: Score, reason: str, detail: str) -> None:
        if score.epoch:
            best = {"best_val_accuracy": score.accuracy, "best_val_loss": score.loss, "best_epoch": score.epoch}
            self.context.store.log(run_id, best)
        self.context.store.finish(run_id, "FINISHED", reason)
        self.done += 1
        self.bar.advance()
        self.bar.note(f"{self.done}/{self.config.trials} trials · best val {self.best:.3f}")
        reached = f"val {score.accuracy:.4f}" if score.epoch else "no finite result"
        self.context.display.log(
            f"trial {suggestion.number} ({self.done}/{self.config.trials}): lr {suggestion.config.learning_rate:.2e}, "
            f"decay {suggestion.config.weight_decay:.2e}: {reached}, {reason} ({detail}); best {self.best:.4f}"
        )


def _log_results(parent: str, table: pd.DataFrame, importance: pd.DataFrame, context: Context) -> None:
    history = figures.history(table)
    drawn = {
        "history": (history, figures.draw_history),
        "importance": (importance, figures.draw_importance),
        "slices": (table, figures.draw_slices),
        "heatmap": (figures.heatmap(table), lambda _: figures.draw_heatmap(table)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (numbers, draw) in drawn.items():
            write_figure(Path(folder), name, numbers, draw(numbers))
        context.store.log_folder(parent, Path(folder), "search")
    complete = table[table["state"] == "complete"]
    if len(complete):
        context.store.log(parent, {"best_val_accuracy": float(complete["val_accuracy"].max())}, step=len(table))
    context.store.log(parent, {"epochs_spent": float(table["epochs"].sum())}, step=len(table))
    # Last, as what says that all this is there and need not be logged again.
    context.store.tag(parent, trials=len(table))


def _say_results(parent: str, table: pd.DataFrame, config: SearchConfig, dataset: Dataset, context: Context) -> None:
    trials = context.store.runs([dataset.key], stage="trial", search=config.name)
    complete = [run for run in trials if run.tags.get("status_reason") == "complete"]
    counts = ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
    context.display.say(f"Search {config.name}: {len(table)} trials ({counts}), {table['epochs'].sum()} epochs in all.")
    best_first = sorted(complete, key=rank)
    for run in best_first[:1]:
        params = run.params
        context.display.say(
            f"Best: trial {run.tags['optuna_trial']}, learning rate {float(params['learning_rate']):.3e}, weight decay "
            f"{float(params['weight_decay']):.3e}, validation accuracy {metric(run, 'best_val_accuracy'):.4f}."
        )
    if not best_first:
        context.display.say("No trial was completed: widen the ranges (--lr, --decay), or raise --trials.")
    experiment = context.store.get(parent).experiment_id
    context.say_pages(
        trials=trials_page(experiment), compare=compare_page(experiment, [run.id for run in best_first[:10]])
    )
