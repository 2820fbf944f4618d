"""`study export`: a snapshot of a study as a folder or zip: both databases, the artifacts, and the hashes of all.

The databases are copied together, while nothing can be written to either; what is not exported is deleted from the
copies. `study import` makes another home of the snapshot; the images are not in it.
"""

import contextlib
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import mlflow

from pipelines.session.context import Stores
from pipelines.upkeep.archive import (
    ARTIFACTS,
    MANIFEST,
    ROOT,
    RUNS,
    SEARCHES,
    DatasetRecord,
    Manifest,
    Sizes,
    in_words,
    sizes_of,
)
from pipelines.upkeep.archived_tables import compact, counted, keep_only
from pipelines.upkeep.check_archive import problem_of
from pipelines.upkeep.check_figures import has_figures, lost_figures
from pipelines.upkeep.check_files import read_files
from pipelines.upkeep.gaps import Gaps
from pipelines.upkeep.pack import copy_readable, packed, read_back, write_sums, written_whole
from pipelines.upkeep.relocate import SERVED, Tables, local
from pipelines.upkeep.selection import chosen, require_ended
from study.errors import StudyError
from study.home import SQLITE, Home
from study.provenance import provenance
from study.search.records import Searches
from study.search.storage import open_storage, storage_failures_explained
from study.system import interruption
from study.system.backups import copy_database
from study.system.databases import begin_immediate
from study.system.faults import explanation
from study.system.redaction import masked
from study.tracking import best
from study.tracking.runs import Run
from study.tracking.store import Store

TIMEOUT = 60
"""Seconds that a copy waits for other writers."""


def require_files(uri: str, storage: str) -> None:
    """Checks that both databases are SQLite files, which can be copied.

    Raises:
        StudyError: where a server keeps one.
    """
    for url in (uri, storage):
        if not url.startswith(SQLITE):
            raise StudyError(
                f"{masked(url)} is on a server, and an export is a copy of SQLite's files: others use the same server "
                "with --tracking-uri and --storage."
            )


def export(
    target: Path, context: Stores, *, searches: Sequence[str], datasets: Sequence[str], runs: Sequence[str]
) -> bool:
    """Writes `target`, a folder or (by its suffix) a zip, which appears only after it was read back.

    Returns whether it holds all that was asked for, every file with its recorded hash; prints what it lacks.

    Args:
        target: a path that does not exist yet.
        context: the stores and the display.
        searches: the names of searches; without searches, data sets and runs the whole study is exported.
        datasets: the keys of data sets.
        runs: see `best.choose_retrained`; a run brings what it needs and what is below it.

    Raises:
        StudyError: for what is unknown or under way, or a target that cannot be written.
    """
    require_files(context.store.uri, context.storage)
    gaps = Gaps()
    with written_whole(target) as folder:
        # A temporary home with a new name each time, since MLflow caches its connections by path.
        with _copied_store(context, Home(root=folder.parent / uuid4().hex)) as copy:
            picked = _importable(_picked(copy, context, searches, datasets, runs), gaps)
            _keep_searches(picked, copy, context)
            _copy_artifacts(picked, copy, context, folder / ARTIFACTS, gaps)
            _keep_runs(picked, copy, context, folder, gaps)
            for name in (RUNS, SEARCHES):
                compact(copy.home.store / name, folder / name)
        manifest = _manifest(picked, folder, gaps)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        sizes = _seal(folder, target, context)
    _say(target, manifest, sizes, context)
    return not manifest.gaps


def _seal(folder: Path, target: Path, context: Stores) -> Sizes:
    """Writes the hashes of all files in `folder`, packs them for `target`, and checks the result by reading it back."""
    total = sizes_of(folder).bytes
    with context.display.bar("hashing", total) as bar:
        sums = write_sums(folder, bar.advance)
    with context.display.bar("packing", total) as bar:
        archive = packed(folder, target, bar.advance)
    with context.display.bar("reading back", total) as bar:
        read_back(archive, sums, bar.advance)
    return sizes_of(folder)


@contextlib.contextmanager
def _copied_store(context: Stores, home: Home) -> Iterator[Store]:
    """The tracking store in `home`, in which both databases of `context` are copied as of one moment."""
    urls = {SEARCHES: context.storage, RUNS: context.store.uri}
    with context.locked(), storage_failures_explained(context.storage):
        open_storage(context.storage)  # creates it where no search was ever started
        with contextlib.ExitStack() as stack:
            for url in urls.values():
                database = stack.enter_context(
                    contextlib.closing(sqlite3.connect(url.removeprefix(SQLITE), isolation_level=None))
                )
                try:
                    # Blocks writers, not readers, until both are copied.
                    begin_immediate(database.execute, url, TIMEOUT)
                except sqlite3.Error as error:
                    general = StudyError(f"The database {masked(url)} cannot be copied ({error}).")
                    raise explanation(error, url) or general from None
            for name, url in urls.items():
                copy_database(url, home.store / name)
    try:
        yield Store(home)
    finally:
        # MLflow looks models up in the store that was opened last, which was the copy.
        mlflow.set_tracking_uri(context.store.uri)


def _picked(
    copy: Store, context: Stores, searches: Sequence[str], datasets: Sequence[str], runs: Sequence[str]
) -> list[Run]:
    # By the store itself, whose errors name it.
    ids = {_find_run(context.store, spec).id for spec in runs}
    picked = chosen(copy.runs(), searches, datasets, ids)
    if not picked:
        context.store.experiments.require_not_deleted(lambda run: True)
        first = context.search_command("reproduce", "--dataset", "digits")
        raise StudyError(f"There are no runs in {masked(context.store.uri)}: `{first}` makes the first.")
    require_ended(picked)
    return picked


def _importable(runs: Sequence[Run], gaps: Gaps) -> list[Run]:
    """Those of `runs` that an import accepts."""
    problems = {run.id: problem_of(run) for run in runs}
    for run in runs:
        gaps.add("left out", run, [problems[run.id]] if problems[run.id] else [])
    return [run for run in runs if not problems[run.id]]


def _find_run(store: Store, spec: str) -> Run:
    is_best = spec == "best" or spec.startswith("best:")
    return best.choose_retrained(store, spec) if is_best else best.find(store, spec)


def _keep_searches(runs: Sequence[Run], copy: Store, context: Stores) -> None:
    wanted = {run.search for run in runs} - {""}
    searches = Searches(copy.home.storage_url)
    searches.keep_only(wanted)
    copied = {search.name: search for search in searches.read()}
    for name in sorted(wanted - copied.keys()):
        context.display.say(f"Search {name} is not in {masked(context.storage)}: only its runs are exported.")
    for name, search in copied.items():
        if under_way := [str(trial.number) for trial in search.trials if trial.state == "RUNNING"]:
            raise StudyError(
                f"Trial {', '.join(under_way)} of search {name} is under way: wait for it, or name other searches "
                "with --search; what a killed process left, `study doctor --fix` or the same `study tune` closes."
            )


def _copy_artifacts(runs: Sequence[Run], copy: Store, context: Stores, target: Path, gaps: Gaps) -> None:
    """Copies the files of `runs` and of their models, each to its path relative to the folder of all artifacts."""
    target.mkdir()
    with context.display.bar("copying files", len(runs)) as bar:
        for run in runs:
            interruption.check()
            bar.note(run.name)
            models = copy.client.search_logged_models([run.experiment_id], f"source_run_id = '{run.id}'")
            gaps.add("unreadable", run, _copy_folder(copy.client.get_run(run.id).info.artifact_uri, target, context))
            for model in models:
                unreadable = _copy_folder(model.artifact_location, target, context)
                gaps.add("unreadable", run, [f"model/{path}" for path in unreadable])
            bar.advance()


def _copy_folder(place: str, target: Path, context: Stores) -> list[str]:
    """Copies the files at `place`, which may be missing; returns the paths of those that cannot be read."""
    root, source = local(str(context.store.artifacts_root)), local(context.store.place(place))
    if not source.is_relative_to(root):
        command = context.search_command("doctor", "--fix")
        raise StudyError(f"MLflow looks for files in {place}, outside {root}: run `{command}` first.")
    return copy_readable(source, target / source.relative_to(root))


def _keep_runs(runs: Sequence[Run], copy: Store, context: Stores, folder: Path, gaps: Gaps) -> None:
    """Deletes the other runs from the copy, points it to the copied files, and checks these by their hashes."""
    file, copied_root = copy.home.store / RUNS, (folder / ARTIFACTS).resolve().as_uri()
    tables = Tables(SQLITE + str(file))
    try:
        for recorded_root in (str(context.store.artifacts_root), SERVED):
            tables.relocate(recorded_root, copied_root, folder / ARTIFACTS)
        retrained = [run for run in runs if run.stage == "retrain"]
        with context.display.bar("checking files", len(retrained)) as bar:
            for run in retrained:
                gaps.add_files(read_files(run, copy, bar))
        for run in filter(has_figures, runs):
            gaps.add_lost(run, *lost_figures(run, copy))
        keep_only(file, {run.id for run in runs})
        for experiment in copy.client.search_experiments(filter_string="name = 'Default'"):
            # MLflow's own experiment, located in the folder where the first command ran.
            tables.relocate(experiment.artifact_location, f"{ROOT}/{experiment.experiment_id}", folder / ARTIFACTS)
        tables.relocate(copied_root, ROOT, folder / ARTIFACTS)
    finally:
        tables.close()


def _manifest(runs: Sequence[Run], folder: Path, gaps: Gaps) -> Manifest:
    return Manifest(
        exported=datetime.now(UTC).replace(microsecond=0),
        versions=provenance(),
        counts=counted(folder),
        datasets=_images(runs),
        gaps=gaps.lines(),
    )


def _images(runs: Sequence[Run]) -> tuple[DatasetRecord, ...]:
    datasets = {
        (run.dataset_key, run.dataset, run.dataset_digest)
        for run in runs
        if run.dataset_key and run.dataset and run.dataset_digest
    }
    return tuple(DatasetRecord(key=key, dataset=name, digest=digest) for key, name, digest in sorted(datasets))


def _say(target: Path, manifest: Manifest, sizes: Sizes, context: Stores) -> None:
    files = f"{sizes.files:,} files, {_megabytes(sizes.bytes)}"
    packed = f"{_megabytes(target.stat().st_size)}, unpacked {files}" if target.is_file() else files
    context.display.say(f"Exported {in_words(manifest.counts)} to {target}: {packed}.")
    for images in manifest.datasets:
        context.display.say(f"Not included: the images of {images.key}, digest {images.digest[:16]}.")
    context.display.say(f"To import it: study import {shlex.quote(str(target))} --home NEW")
    for line in manifest.gaps:
        context.display.say(line)
    if manifest.gaps:
        command = context.search_command("doctor")
        context.display.say(f"{target} is incomplete: `{command}` has the details.")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
