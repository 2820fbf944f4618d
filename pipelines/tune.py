"""Stage 1, `study tune`: search hyperparameters on the validation split, every trial tracked.

Leaves one run for the search, with its figures, and one run below it for every trial.
"""

import pandas as pd

from analysis.drawing.wording import counted, settings
from pipelines.report.search_results import log_results
from pipelines.session.context import Context
from pipelines.session.mlflow_pages import left_out, search_pages
from pipelines.session.notes import describe_search
from pipelines.session.ties import ties
from pipelines.trials.pool import WorkerPool
from pipelines.trials.recovery import Recovery
from pipelines.trials.runner import Tally, run_trials
from pipelines.trials.worker import Assignment
from study.cautions import warmup_caution
from study.config import BUNDLED, SearchConfig, TrainConfig
from study.data import Dataset
from study.errors import StudyError
from study.home import SQLITE
from study.models import parameter_count
from study.search import search
from study.search.space import largest_feature_maps
from study.search.storage import storage_failures_explained
from study.system.redaction import masked
from study.tracking.best import complete_trials
from study.tracking.failures import failure_recorded
from study.tracking.heartbeat import sending_heartbeats
from study.tracking.hints import searching
from study.tracking.registry import name_on
from study.tracking.runs import metric
from study.tracking.tags import search_tags

GPU_WORKERS = 4
"""Default number of trials that take turns on a GPU: while one is recorded, the others keep the device busy."""
SURE_SHARE = 0.25
"""Share of a search's trials from which the time left can be estimated where trials are pruned."""


def tune(config: SearchConfig, dataset: Dataset, context: Context, *, workers: int = 0) -> str:
    """Searches until `config.trials` trials are finished, and returns the id of the search's run.

    Args:
        config: the search.
        dataset: the images; trials are compared on a validation split of the training images.
        context: the stores, the machine and the display.
        workers: number of trials at a time: on a CPU each in a process with its share of the threads, on a GPU in turns
            in this process; 0 chooses by the device. A cluster has places of its own.

    Raises:
        StudyError: where a search of this name began with other settings.
        KeyboardInterrupt: after every trial under way was closed in both stores.
    """
    # Too few images for a validation split, or too small ones for the layers, are an error before anything is recorded.
    _ = dataset.splits
    parameter_count(largest_feature_maps(config), classes=len(dataset.classes), side=dataset.side)
    with storage_failures_explained(context.storage):
        with context.locked():
            # An experiment that was deleted, or is not this user's, is an error before a search is started.
            context.store.writable(dataset.key, name_on(dataset.key, config.model.name) if context.is_part else "")
            _require_startable(config, dataset, context)
            opened = search.open_search(config, context.storage, digest=dataset.digest, image_size=dataset.side)
            _require_matching_runs(opened, config, dataset, context)
            parent = _search_run(config, dataset, context)
        with failure_recorded(context.store, parent), sending_heartbeats(context.store, parent):
            recovery = Recovery(opened, config, context)
            _run_missing(recovery, dataset, parent, workers)
            recovery.settle()
            table = search.trials_table(opened)
            if context.store.get(parent).trials != len(table):
                log_results(parent, opened, context.store)
    context.store.finish(parent, "FINISHED", "complete")
    _say_results(parent, table, config, dataset, context)
    return parent


def _run_missing(recovery: Recovery, dataset: Dataset, parent: str, workers: int) -> None:
    opened, config, context = recovery.opened, recovery.config, recovery.context
    with context.locked():
        recovery.close(whole=True)
    done = search.finished(opened)
    if done >= config.trials:
        more = "" if config.is_fixed else "; a larger --trials adds to them"
        context.display.say(f"Search {config.name} has {counted(done, 'finished trial')} already{more}.")
        return
    recovery()
    if caution := warmup_caution(_longest_warmup(config), len(dataset.splits.train_rows)):
        context.display.say(caution)
    if len(config.objectives) > 1:
        context.display.say("Two objectives: every trial trains all its epochs, since Optuna prunes by one alone.")
    with context.display.bar(f"search {config.name}", config.trials) as bar, recovery.watching():
        if config.pruner != "none":
            # The first trials train all their epochs, and most later ones are pruned.
            bar.sure_from(config.trials * SURE_SHARE)
        tally = Tally(context, bar, opened, config.trials)
        if context.cluster:
            run_trials(opened, config, dataset, context, parent=parent, on_end=tally.add, places=context.cluster.places)
            return
        on_gpu = context.machine.device.type == "cuda"
        workers = min(workers or (GPU_WORKERS if on_gpu else 1), config.trials - done)
        # With a timeout trials run in worker processes (on a GPU in one), which can be killed when they hang.
        if not config.trial_timeout and (workers == 1 or on_gpu):
            run_trials(opened, config, dataset, context, parent=parent, on_end=tally.add, places=workers)
            return
        assignment = Assignment(
            config=config,
            data=dataset.config,
            key=dataset.key,
            digest=dataset.digest,
            cache=dataset.cache,
            home=context.home,
            uri=context.store.uri,
            storage=context.storage,
            machine=context.machine if on_gpu else context.machine.shared_by(workers),
            places=workers if on_gpu else 1,
            parent=parent,
            has_bars=context.display.has_bars,
        )
        WorkerPool(assignment, context.display, tally.add, recovery).run(1 if on_gpu else workers)


def _longest_warmup(config: SearchConfig) -> TrainConfig:
    """A trial of the most epochs with the longest warm-up."""
    drawn = config.choices["warmup_steps"].values if "warmup_steps" in config.choices else ()
    warmup = max(map(int, drawn), default=config.warmup_steps)
    return TrainConfig(epochs=config.epochs, batch_size=config.batch_size, warmup_steps=warmup)


def _require_startable(config: SearchConfig, dataset: Dataset, context: Context) -> None:
    """Checks, before a new search is created, that no other has its name; says where others cannot join it.

    Raises:
        StudyError: where the tracking store has runs of another search of its name.
    """
    if search.exists(config.name, context.storage):
        return
    store, storage = masked(context.store.uri), masked(context.storage)
    if any(not run.restored for run in context.store.runs([dataset.key], stage="trial", search=config.name)):
        raise StudyError(
            f"{store} has runs of {config.name}, and {storage} has no such search: use the storage that it was started "
            "with (--storage or STUDY_STORAGE), or name a new --search."
        )
    folder = dataset.config.recorded_dataset
    if folder not in BUNDLED:
        before = [run for run in context.store.runs(stage="search") if run.dataset == folder]
        others = {run.dataset_key for run in before if run.image_size == dataset.side} - {dataset.key}
        if others and not any(run.dataset_key == dataset.key for run in before):
            context.display.say(
                f"Earlier searches on {folder} were of other images ({', '.join(sorted(others))}): a new one begins."
            )
    if context.store.is_shared and context.storage.startswith(SQLITE):
        context.display.say(
            f"The trials of {config.name} are kept in {storage}: other machines cannot join this search. To share one, "
            "set STUDY_STORAGE to a database that all can reach before it is started (docs/team.md)."
        )


def _require_matching_runs(opened: search.Search, config: SearchConfig, dataset: Dataset, context: Context) -> None:
    """Checks that the search's trials and the runs of its name belong together.

    Raises:
        StudyError: where one store lacks what the other has, or has those of another search.
    """
    below = context.store.runs([dataset.key], stage="trial", search=config.name)
    if search.finished(opened) and not context.store.runs([dataset.key], stage="search", search=config.name):
        fix = f"have `{context.search_command('doctor', '--fix')}` recreate it, " if below else ""
        raise StudyError(
            f"Search {config.name} is in {masked(context.storage)}, but its run is not in "
            f"{masked(context.store.uri)}: use the tracking store that it was started with, {fix}or name a new "
            "--search."
        )
    trials = opened.get_trials(deepcopy=False)
    named = {trial.user_attrs["mlflow_run"] for trial in trials if "mlflow_run" in trial.user_attrs}
    # No trial names a run that doctor restored, nor its own run if it was killed before it recorded the id.
    is_comparable = any(not run.restored for run in below) and (named or not trials)
    if is_comparable and not named & {run.id for run in below}:
        raise StudyError(
            f"The runs of {config.name} in {masked(context.store.uri)} are of another search than the trials in "
            f"{masked(context.storage)}: use the --storage that they were started with, or name a new --search."
        )


def _search_run(config: SearchConfig, dataset: Dataset, context: Context) -> str:
    """The run that the trials are recorded below: a continued search keeps its own."""
    # The number of trials may grow and a param cannot change: it is a tag of the run instead.
    params = {**config.settings(), **context.params(dataset)}
    if existing := context.store.runs([dataset.key], stage="search", search=config.name):
        context.store.claim(existing[0].id)
        if not existing[0].params:
            context.store.describe(existing[0].id, params)
        return existing[0].id
    run_id = context.store.start(dataset.key, config.name, tags=search_tags(config), params=params)
    context.log_dataset(run_id, dataset, "train", "validation")
    return run_id


def _say_results(parent: str, table: pd.DataFrame, config: SearchConfig, dataset: Dataset, context: Context) -> None:
    best_first = complete_trials(context.store, dataset.key, search=config.name)
    counts = ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
    trials, epochs = counted(len(table), "trial"), counted(int(table["epochs"].sum()), "epoch")
    context.display.say(f"Search {config.name}: {trials} ({counts}), {epochs} in all.")
    for run in best_first[:1]:
        sentence = (
            f"Best: trial {run.trial_number}, {settings(run.train_config.differing())}, validation accuracy "
            f"{metric(run, 'best_val_accuracy'):.4f}. {ties(best_first)}"
        )
        context.display.say(sentence.rstrip())
    if not best_first:
        context.display.say("No trial was completed: widen the ranges (--lr, --decay), or raise --trials.")
    run = context.store.get(parent)
    pages = search_pages(context.store, run, best_first)
    describe_search(context.store, run, best_first, pages, searching(config, dataset.config))
    context.say_pages(**pages)
    if context.store.uri.startswith("http") and (without := left_out(best_first)):
        context.display.say(f"The page compare is {without}.")
