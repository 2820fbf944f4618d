"""`study import`: creates a home from an exported study, after checking all of it.

Everything is unpacked and checked in a hidden folder beside the new stores, and renamed last: an interrupted import
leaves nothing that looks like a study.
"""

import shutil
from pathlib import Path
from uuid import uuid4

from pipelines.session.display import Display
from pipelines.upkeep.archive import (
    ARTIFACTS,
    ROOT,
    RUNS,
    SEARCHES,
    Advance,
    DatasetRecord,
    Manifest,
    Sizes,
    files_below,
    in_words,
    malformed,
    read_manifest,
)
from pipelines.upkeep.archived_tables import counted, require_harmless
from pipelines.upkeep.check_archive import check_runs
from pipelines.upkeep.relocate import Tables
from pipelines.upkeep.unpack import unpacked
from study.config import BUNDLED
from study.errors import StudyError
from study.home import SQLITE, Home
from study.search.checks import impossible
from study.system.files import flush
from study.system.redaction import one_line
from study.tracking.hints import command_at
from study.tracking.runs import Run
from study.tracking.store import Store


def import_study(source: Path, home: Home, *, most: int, display: Display) -> None:
    """Creates the stores of the empty `home` from an archive that `study export` wrote.

    Args:
        source: a folder, or a zip of one.
        home: a home in which nothing is recorded yet.
        most: maximum number of bytes when unpacked.
        display: shows the progress and what was imported.

    Raises:
        StudyError: where the home has stores, or `source` is not what `study export` writes.
    """
    _require_empty(home)
    with display.bar("verifying", 1) as bar:

        def advance(sizes: Sizes) -> Advance:
            bar.to(0, sizes.bytes)
            return bar.advance

        with unpacked(source, home.root, most, advance) as folder:
            manifest, reports = _checked(folder, home)
            _install(folder, home)
            bar.note("whole")
    _say(manifest, reports, home, display)


def _require_empty(home: Home) -> None:
    # A command that found no store leaves a lock.
    if home.store.exists() and (not home.store.is_dir() or {file.name for file in home.store.iterdir()} - {".lock"}):
        raise StudyError(f"{home.store} already exists: import into an empty home, with --home NEW.")


def _checked(folder: Path, home: Home) -> tuple[Manifest, list[str]]:
    """Checks the archive in `folder`; returns its manifest and the commands that make its reports in `home`."""
    require_harmless(folder, files_below(folder))
    manifest = read_manifest(folder)
    counts = counted(folder)
    for name, count in manifest.counts.items():
        if counts.get(name) != count:
            raise malformed(f"it has {counts.get(name)} {name[:100]}, not {count} as its manifest says")
    # Opened as copies: opening adds files and may change the verified ones, and MLflow caches connections by path.
    copy = Home(root=folder.parent / uuid4().hex)
    copy.store.mkdir(parents=True)
    for name in (RUNS, SEARCHES):
        shutil.copyfile(folder / name, copy.store / name)
    try:
        store = Store(copy)
        problem = next(impossible(copy.storage_url), "")
    except StudyError as error:
        versions = ", ".join(f"{name} {version}"[:60] for name, version in manifest.versions.items())
        raise malformed(f"its databases, written with {versions[:500]}, cannot be opened here: {error}") from None
    if problem:
        raise malformed(problem)
    check_runs(store, counts["runs"])
    return manifest, _reports(store, home)


def _install(folder: Path, home: Home) -> None:
    """Moves the unpacked study in `folder` to the stores of `home`."""
    tables = Tables(SQLITE + str(folder / RUNS))
    try:
        tables.relocate(ROOT, (home.store / ARTIFACTS).resolve().as_uri(), folder / ARTIFACTS)
    finally:
        tables.close()
    finished = folder.with_name("stores")
    finished.mkdir()
    for name in (RUNS, SEARCHES, ARTIFACTS):
        if (folder / name).exists():
            (folder / name).rename(finished / name)
    for file in finished.rglob("*"):
        flush(file)
    try:
        if home.store.is_dir():
            (home.store / ".lock").unlink(missing_ok=True)
        # Fails where another process has made stores there meanwhile.
        finished.rename(home.store)
        flush(home.root)
    except OSError as error:
        raise StudyError(f"{home.store} cannot be written ({error.strerror}): import into an empty home.") from None


def _say(manifest: Manifest, reports: list[str], home: Home, display: Display) -> None:
    display.say(f"Imported {in_words(manifest.counts)} into {home.root}.")
    for images in manifest.datasets:
        display.say(_images_needed(images))
    if reports:
        display.say(f"The reports are not in {home.reports}; to make them again:")
    for command in reports:
        display.say(f"  {command}")
    for line in manifest.gaps:
        display.say(one_line(line))
    if manifest.gaps:
        display.say("The study is incomplete: this was missing or altered when it was exported.")


def _images_needed(images: DatasetRecord) -> str:
    if images.dataset in BUNDLED:
        return f"The images are not in it: {images.dataset}, digest {images.digest[:16]}, as --dataset finds them."
    return (
        f"The images are not in it: {images.key}, digest {images.digest[:16]}, which lay in {images.dataset}; give "
        "`study analyse` and `study retrain` the folder that holds them here with --dataset."
    )


def _reports(store: Store, home: Home) -> list[str]:
    """For each data set on which something was retrained, the command that makes its report in `home`."""
    retrained = store.runs(stage="retrain", status="FINISHED")
    chosen: dict[str, Run] = {}
    for run in sorted(retrained, key=lambda run: run.model != "cnn"):
        chosen.setdefault(run.dataset_key, run)
    return [_report(run, home) for run in chosen.values()]


def _report(run: Run, home: Home) -> str:
    folder = () if run.dataset in BUNDLED else ("--dataset", "PATH")
    return command_at(home, home.tracking_uri, "analyse", "--run", run.id, *folder)
