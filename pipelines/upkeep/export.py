"""`study export`: a study's runs, searches and models as plain files with their hashes, a folder or a zip.

What is written, `study import` reads into any other store; the images stay where they are.
"""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipelines.session.context import Context
from pipelines.upkeep import archive_models, archive_runs, archive_searches
from pipelines.upkeep.archive import counts, in_words, write_points
from pipelines.upkeep.archive_files import Sizes, write_sums, written_whole
from pipelines.upkeep.archive_format import (
    MANIFEST,
    Images,
    Manifest,
    RunRecord,
    SearchRecord,
    run_folder,
    search_file,
    written,
)
from pipelines.upkeep.archive_plan import chosen, require_ended
from study.errors import StudyError
from study.provenance import provenance
from study.search.storage import open_storage, storage_failures_explained
from study.system.databases import exists
from study.system.files import locked
from study.system.redaction import masked
from study.tracking import best
from study.tracking.runs import Run


def export(
    target: Path, context: Context, *, searches: Sequence[str], datasets: Sequence[str], runs: Sequence[str]
) -> None:
    """Writes `target`, a folder or (by its ending) a zip, which is there only when it is whole.

    Args:
        target: nothing may be there yet.
        context: the surroundings.
        searches: the names of searches; everything of the study, where nothing is named at all.
        datasets: the keys of data sets.
        runs: see `selection.choose_retrained`; a run brings what it needs and what is below it.

    Raises:
        StudyError: for what is unknown or under way, or where the target cannot be written.
    """
    with written_whole(target) as folder:
        with locked(context.home), storage_failures_explained(context.storage):
            # Together, so that no search goes on between what the two stores say.
            picked = _picked(context, searches, datasets, runs)
            kept = _searches(picked, context)
        records = _write_runs(picked, folder, context)
        manifest = _manifest(records, kept, context)
        (folder / "searches").mkdir()
        for name, path in manifest.searches.items():
            (folder / path).write_text(written(kept[name]), encoding="utf-8")
        (folder / MANIFEST).write_text(written(manifest), encoding="utf-8")
        total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with context.display.bar("hashing", total) as bar:
            sizes = write_sums(folder, bar.advance)
    _say(target, manifest, sizes, context)


def _picked(context: Context, searches: Sequence[str], datasets: Sequence[str], runs: Sequence[str]) -> list[Run]:
    ids = {_named(context, spec).id for spec in runs}
    picked = chosen(context.store.runs(), searches, datasets, ids)
    if not picked:
        first = context.search_command("tune")
        raise StudyError(f"There are no runs in {masked(context.store.uri)}: `{first}` makes the first.")
    require_ended(picked)
    return picked


def _named(context: Context, spec: str) -> Run:
    is_best = spec == "best" or spec.startswith("best:")
    return best.choose_retrained(context.store, spec) if is_best else best.find(context.store, spec)


def _searches(runs: Sequence[Run], context: Context) -> dict[str, SearchRecord]:
    wanted = {run.tags["search"] for run in runs if "search" in run.tags}
    if not wanted or not exists(context.storage):
        storage, there = None, set[str]()
    else:
        storage = open_storage(context.storage)
        there = archive_searches.names(storage)
    for name in sorted(wanted - there):
        context.display.say(f"Search {name} is not in {masked(context.storage)}: only its runs are exported.")
    return {name: archive_searches.record_of(storage, name) for name in sorted(wanted & there) if storage}


def _write_runs(runs: Sequence[Run], folder: Path, context: Context) -> dict[str, RunRecord]:
    store, records = context.store, {}
    experiments = archive_runs.experiment_names(store)
    with context.display.bar("exporting runs", len(runs)) as bar:
        for run in runs:
            bar.note(run.name)
            record = archive_runs.record_of(store, run.id, experiments[run.experiment_id])
            own = folder / run_folder(run.id)
            own.mkdir(parents=True)
            (own / "run.json").write_text(written(record), encoding="utf-8")
            write_points(own / "metrics.csv", archive_runs.points_of(store, run.id))
            archive_runs.fetch_artifacts(store, run.id, own / "artifacts")
            for model in record.models:
                archive_runs.fetch_model(store, model.id, own / "models" / model.id)
            records[run.id] = record
            bar.advance()
    return records


def _manifest(records: Mapping[str, RunRecord], searches: Mapping[str, SearchRecord], context: Context) -> Manifest:
    files: dict[str, str] = {}
    for name in searches:
        files[name] = search_file(name, files)
    return Manifest(
        exported=datetime.now(UTC).replace(microsecond=0),
        versions=provenance(),
        counts=counts(records, searches),
        datasets=_images(records),
        runs=tuple(records),
        searches=files,
        registered=archive_models.registered_of(context.store, records),
    )


def _images(records: Mapping[str, RunRecord]) -> tuple[Images, ...]:
    found = {
        (record.tags["dataset"], record.params["dataset"], record.params["dataset_digest"])
        for record in records.values()
        if "dataset" in record.tags and {"dataset", "dataset_digest"} <= record.params.keys()
    }
    return tuple(Images(key=key, dataset=name, digest=digest) for key, name, digest in sorted(found))


def _say(target: Path, manifest: Manifest, sizes: Sizes, context: Context) -> None:
    files = f"{sizes.files:,} files, {_megabytes(sizes.bytes)}"
    packed = f"{_megabytes(target.stat().st_size)}, unpacked {files}" if target.is_file() else files
    context.display.say(f"Exported {in_words(manifest.counts)} to {target}: {packed}.")
    for images in manifest.datasets:
        context.display.say(f"Its images are not in it: {images.key}, digest {images.digest[:16]}.")
    context.display.say(f"Anywhere else: study import {shlex.quote(str(target))}")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
