"""`study export`: a snapshot of a study, a folder or a zip: both databases, the artifacts, and the hashes of all.

The databases are copied together, while nothing can be written to either; what is not wanted is deleted from the
copies. `study import` makes another home of it; the images stay where they are.
"""

import contextlib
import shlex
import shutil
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
    Images,
    Manifest,
    Sizes,
    in_words,
    write_sums,
    written_whole,
)
from pipelines.upkeep.archived_tables import compact, counted, keep_only
from pipelines.upkeep.relocate import Tables, local
from pipelines.upkeep.selection import chosen, require_ended
from study.config import Home
from study.errors import StudyError
from study.provenance import provenance
from study.search.records import Searches
from study.search.search import default_storage
from study.search.storage import open_storage, storage_failures_explained
from study.system import interruption
from study.system.databases import back_up
from study.system.files import SQLITE, is_hidden, locked
from study.system.redaction import masked
from study.tracking import best
from study.tracking.runs import Run
from study.tracking.store import Store

TIMEOUT = 60
"""Seconds for which a copy waits while others write."""


def require_files(uri: str, storage: str) -> None:
    """Checks that both databases are files of SQLite's, of which there can be a snapshot.

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
) -> None:
    """Writes `target`, a folder or (by its ending) a zip, which is there only when it is whole.

    Args:
        target: nothing may be there yet.
        context: the surroundings.
        searches: the names of searches; everything of the study, where nothing is named at all.
        datasets: the keys of data sets.
        runs: see `best.choose_retrained`; a run brings what it needs and what is below it.

    Raises:
        StudyError: for what is unknown or under way, or where the target cannot be written.
    """
    require_files(context.store.uri, context.storage)
    with written_whole(target) as folder, storage_failures_explained(context.storage):
        # A home of its own, which is removed with the folder that is filled; new, since MLflow keeps its connections.
        with _copied(context, Home(root=folder.parent / uuid4().hex)) as copy:
            picked = _picked(copy, context, searches, datasets, runs)
            _keep_searches(picked, copy, context)
            _copy_artifacts(picked, copy, context, folder / ARTIFACTS)
            _keep_runs(picked, copy, context, folder)
            for name in (RUNS, SEARCHES):
                compact(copy.home.store / name, folder / name)
        manifest = _manifest(picked, folder)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with context.display.bar("hashing", total) as bar:
            sizes = write_sums(folder, bar.advance)
    _say(target, manifest, sizes, context)


@contextlib.contextmanager
def _copied(context: Stores, home: Home) -> Iterator[Store]:
    """The tracking store in `home`, in which both databases of `context` are copied as of one moment."""
    urls = {"optuna": context.storage, "mlflow": context.store.uri}
    with locked(context.home):
        open_storage(context.storage)  # which makes it where no search was ever begun
        with contextlib.ExitStack() as held:
            for url in urls.values():
                database = held.enter_context(
                    contextlib.closing(sqlite3.connect(url.removeprefix(SQLITE), timeout=TIMEOUT))
                )
                try:
                    # Nobody writes between the two copies; reading goes on.
                    database.execute("BEGIN IMMEDIATE")
                except sqlite3.Error as error:
                    raise StudyError(f"The database {masked(url)} cannot be copied ({error}).") from None
            back_up(urls, home.store)
    try:
        yield Store(home)
    finally:
        # It is the one that was opened last, which MLflow would look models up in.
        mlflow.set_tracking_uri(context.store.uri)


def _picked(
    copy: Store, context: Stores, searches: Sequence[str], datasets: Sequence[str], runs: Sequence[str]
) -> list[Run]:
    ids = {_named(copy, spec).id for spec in runs}
    picked = chosen(copy.runs(), searches, datasets, ids)
    if not picked:
        first = context.search_command("tune")
        raise StudyError(f"There are no runs in {masked(context.store.uri)}: `{first}` makes the first.")
    require_ended(picked)
    return picked


def _named(store: Store, spec: str) -> Run:
    is_best = spec == "best" or spec.startswith("best:")
    return best.choose_retrained(store, spec) if is_best else best.find(store, spec)


def _keep_searches(runs: Sequence[Run], copy: Store, context: Stores) -> None:
    wanted = {run.search for run in runs} - {""}
    searches = Searches(default_storage(copy.home))
    searches.keep_only(wanted)
    there = {search.name: search for search in searches.read()}
    for name in sorted(wanted - there.keys()):
        context.display.say(f"Search {name} is not in {masked(context.storage)}: only its runs are exported.")
    for name, search in there.items():
        if under_way := [str(trial.number) for trial in search.trials if trial.state == "RUNNING"]:
            raise StudyError(
                f"Trial {', '.join(under_way)} of search {name} is under way: wait for it, or name other searches "
                "with --search; what a killed process left, `study doctor --fix` or the same `study tune` closes."
            )


def _copy_artifacts(runs: Sequence[Run], copy: Store, context: Stores, target: Path) -> None:
    """Copies the files of `runs` and of their models, each to where it lies below the folder of all artifacts."""
    target.mkdir()
    with context.display.bar("copying files", len(runs)) as bar:
        for run in runs:
            interruption.check()
            bar.note(run.name)
            recorded = copy.client.get_run(run.id)
            places = [recorded.info.artifact_uri]
            for output in recorded.outputs.model_outputs if recorded.outputs else []:
                places.append(copy.client.get_logged_model(output.model_id).artifact_location)
            for place in places:
                _copy_folder(place, target, context)
            bar.advance()


def _copy_folder(place: str, target: Path, context: Stores) -> None:
    root = local(str(context.store.artifacts_root))
    if not local(place).is_relative_to(root):
        command = context.search_command("doctor", "--fix")
        raise StudyError(f"MLflow looks for files in {place}, outside {root}: run `{command}` first.")
    if local(place).is_dir():
        # A hidden file is half of one, which a killed process left.
        shutil.copytree(local(place), target / local(place).relative_to(root), ignore=_hidden)


def _hidden(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if is_hidden(Path(name))]


def _keep_runs(runs: Sequence[Run], copy: Store, context: Stores, folder: Path) -> None:
    """Deletes the other runs from the copy, and takes out of it where the files were."""
    file = copy.home.store / RUNS
    keep_only(file, {run.id for run in runs})
    tables = Tables(SQLITE + str(file))
    try:
        for experiment in copy.client.search_experiments(filter_string="name = 'Default'"):
            # MLflow's own, which lies wherever a command was typed first.
            tables.relocate(experiment.artifact_location, f"{ROOT}/{experiment.experiment_id}", folder / ARTIFACTS)
        tables.relocate(str(context.store.artifacts_root), ROOT, folder / ARTIFACTS)
    finally:
        tables.close()


def _manifest(runs: Sequence[Run], folder: Path) -> Manifest:
    return Manifest(
        exported=datetime.now(UTC).replace(microsecond=0),
        versions=provenance(),
        counts=counted(folder),
        datasets=_images(runs),
    )


def _images(runs: Sequence[Run]) -> tuple[Images, ...]:
    found = {
        (run.dataset_key, run.dataset, run.dataset_digest)
        for run in runs
        if run.dataset_key and run.dataset and run.dataset_digest
    }
    return tuple(Images(key=key, dataset=name, digest=digest) for key, name, digest in sorted(found))


def _say(target: Path, manifest: Manifest, sizes: Sizes, context: Stores) -> None:
    files = f"{sizes.files:,} files, {_megabytes(sizes.bytes)}"
    packed = f"{_megabytes(target.stat().st_size)}, unpacked {files}" if target.is_file() else files
    context.display.say(f"Exported {in_words(manifest.counts)} to {target}: {packed}.")
    for images in manifest.datasets:
        context.display.say(f"Its images are not in it: {images.key}, digest {images.digest[:16]}.")
    context.display.say(f"Anywhere else: study import {shlex.quote(str(target))} --home NEW")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
