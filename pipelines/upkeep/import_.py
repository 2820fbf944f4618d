"""`study import`: an exported study, verified, brought into another home, where it is analysed with equal results.

MLflow gives runs new ids; every reference follows, and the tag `imported_from` keeps the first id. The runs appear
together, when all of them are whole: an import that was cut off before is undone by the next one, and finished
where only that was missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.session.context import Context
from pipelines.session.display import Display
from pipelines.upkeep import archive_models, archive_runs, archive_searches
from pipelines.upkeep.archive import Archive, counts, in_words, read_archive
from pipelines.upkeep.archive_files import Advance, Sizes, unpacked
from pipelines.upkeep.archive_format import ORIGIN, Images, RunRecord, SearchRecord
from pipelines.upkeep.archive_plan import (
    Plan,
    other_content,
    parse_renames,
    planned,
    renamed_run,
    renamed_search,
    require_no_strangers,
    translated,
)
from pipelines.upkeep.archive_searches import RDBStorage
from study.config import BUNDLED, Home
from study.errors import StudyError
from study.search.storage import open_storage
from study.system.files import locked
from study.system.processes import is_gone, this_process


@contextmanager
def verified(source: Path, home: Home, *, most: int, display: Display) -> Iterator[Archive]:
    """The archive in the folder or zip `source`, after every check of it that needs no store.

    Args:
        source: what `study export` wrote.
        home: where a zip is unpacked meanwhile.
        most: how many bytes it may hold, unpacked.
        display: is told how far the checks are.

    Raises:
        StudyError: where it is not what `study export` writes.
    """
    with display.bar("verifying", 1) as bar:

        def advance(sizes: Sizes) -> Advance:
            bar.to(0, sizes.bytes)
            return bar.advance

        with unpacked(source, home.store, most, advance) as folder:
            archive = read_archive(folder)
            for search in archive.searches.values():
                archive_searches.require_whole(search)
            bar.note("whole")
            yield archive


@dataclass(frozen=True)
class _Incoming:
    """The records of an archive as they are called here, and what is here of them already."""

    archive: Archive
    runs: Mapping[str, RunRecord]
    searches: Sequence[SearchRecord]
    """Those that are not here."""
    plan: Plan


def renames_in(archive: Archive, pairs: Sequence[str]) -> dict[str, str]:
    """The new names of searches of `archive`, by the old ones, from texts OLD=NEW.

    Raises:
        StudyError: for a text that is none, or a search that is not in it.
    """
    own = {record.tags["search"] for record in archive.runs.values() if "search" in record.tags}
    return parse_renames(pairs, own | archive.searches.keys())


def import_study(archive: Archive, context: Context, *, renames: Mapping[str, str]) -> None:
    """Brings what of `archive` is not here into the stores of `context`.

    Args:
        archive: what was verified.
        context: the surroundings.
        renames: new names of searches, by the old ones; see `renames_in`.

    Raises:
        StudyError: where another import is under way, or a search of the same name is here with other content.
        KeyboardInterrupt: after what was begun was undone.
    """
    lock = FileLock(context.home.store / ".import.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(f"Another import into {context.home.root} is under way: wait for it.") from None
    with lock:
        with locked(context.home):
            storage = open_storage(context.storage)
        _settle(storage, context)
        incoming = _incoming(archive, renames, storage, context)
        try:
            if incoming.plan.missing or incoming.searches:
                _bring(incoming, storage, context)
        except BaseException:
            context.display.say("The import was cut off: what it began is undone, or finished where all was there.")
            _settle(storage, context)
            raise
    _say(incoming, context)


def _settle(storage: RDBStorage, context: Context) -> None:
    """Finishes or undoes the imports that processes which are gone, or this one, left unfinished."""

    def ended(token: str) -> bool:
        return token == this_process() or is_gone(token)

    runs = archive_runs.unfinished(context.store.runs())
    sealed = {token for token, marked in runs.items() if archive_runs.is_sealed(marked)}
    for name, token in archive_searches.unfinished(storage).items():
        if ended(token):
            (archive_searches.complete if token in sealed else archive_searches.undo)(storage, name)
    for token, marked in runs.items():
        if ended(token):
            (archive_runs.complete if token in sealed else archive_runs.undo)(context.store, marked)


def _incoming(archive: Archive, names: Mapping[str, str], storage: RDBStorage, context: Context) -> _Incoming:
    records = {run_id: renamed_run(record, names) for run_id, record in archive.runs.items()}
    missing = []
    for search in (renamed_search(search, names) for search in archive.searches.values()):
        relation = archive_searches.relation(storage, search)
        if relation == archive_searches.OTHER:
            raise other_content(search.name)
        if relation == archive_searches.NEW:
            missing.append(search)
    here = context.store.runs()
    require_no_strangers(records, here)
    return _Incoming(archive, records, missing, planned(records, here))


def _bring(incoming: _Incoming, storage: RDBStorage, context: Context) -> None:
    store, archive, token = context.store, incoming.archive, this_process()
    ids, models = dict(incoming.plan.here), dict[str, str]()
    with context.display.bar("importing", len(incoming.plan.missing) + len(incoming.searches)) as bar:
        for record in incoming.plan.missing:
            bar.note(record.name)
            tags = {**translated(record.tags, ids), ORIGIN: record.origin}
            ids[record.id], made = archive_runs.bring(store, archive, record, tags, token)
            models |= made
            bar.advance()
        for model in archive.manifest.registered:
            archive_models.bring_versions(store, model, ids, models)
        for search in incoming.searches:
            bar.note(search.name)
            archive_searches.bring(storage, search, ids, token)
            bar.advance()
        brought = [ids[record.id] for record in incoming.plan.missing]
        if brought:
            archive_runs.seal(store, brought)
        for search in incoming.searches:
            archive_searches.complete(storage, search.name)
        archive_runs.complete(store, [store.get(run_id) for run_id in brought])


def _say(incoming: _Incoming, context: Context) -> None:
    say, missing = context.display.say, incoming.plan.missing
    if missing or incoming.searches:
        made = counts({record.id: record for record in missing}, {search.name: search for search in incoming.searches})
        say(f"Imported {in_words(made)} into {context.home.root}.")
    if incoming.plan.here:
        count = len(incoming.plan.here)
        say(f"{count:,} run{' is' if count == 1 else 's are'} here already.")
    for images in incoming.archive.manifest.datasets:
        say(_images_needed(images))
    if report := _report(incoming, context):
        say(f"Its report: {report}")


def _images_needed(images: Images) -> str:
    if images.dataset in BUNDLED:
        return f"The images are not in it: {images.dataset}, digest {images.digest[:16]}, as --dataset finds them."
    return (
        f"The images are not in it: {images.key}, digest {images.digest[:16]}, which lay in {images.dataset}; give "
        "`study analyse` and `study retrain` the folder that holds them here with --dataset."
    )


def _report(incoming: _Incoming, context: Context) -> str:
    """The command that analyses what was brought; nothing where nothing of it was retrained."""
    origins = {run.origin for run in incoming.runs.values()}
    runs = context.store.runs(stage="retrain", status="FINISHED")
    brought = [run for run in runs if run.tags.get(ORIGIN, run.id) in origins]
    if not brought:
        return ""
    chosen = next((run for run in brought if run.tags["model"] == "cnn"), brought[0])
    # Where other studies are here too, `best` may be one of theirs.
    spec = "best" if len(brought) == len(runs) and chosen.tags["model"] == "cnn" else chosen.id
    folder = "" if chosen.params["dataset"] in BUNDLED else " --dataset PATH"
    return f"{context.command('analyse')} --run {spec}{folder}"
