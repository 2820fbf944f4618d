"""Checks the figures and tables of searches and experiments by their recorded hashes."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath

from pipelines.report.search_results import log_results
from pipelines.upkeep.findings import Facts, Finding, label
from study.errors import StudyError
from study.system import interruption
from study.tracking.artifacts import SUMS
from study.tracking.runs import Run
from study.tracking.store import Store


def has_figures(run: Run) -> bool:
    """Whether a run must have figures."""
    return run.stage in ("search", "experiment") and run.status == "FINISHED"


def lost_figures(run: Run, store: Store) -> tuple[set[str], set[str]]:
    """The missing and the altered files of a run that has figures."""
    try:
        sums = store.sums(run.id)
    except StudyError:
        return set(), {SUMS}
    folders = {str(PurePosixPath(path).parent) for path in sums}
    listed = {path for folder in folders for path in store.artifacts(run.id, folder)}
    altered = {path for path in listed & sums.keys() if _digest(run, path, store) != sums[path]}
    return (sums.keys() - listed if sums else {SUMS}), altered


def _digest(run: Run, path: str, store: Store) -> str | None:
    interruption.check()
    try:
        return store.digest(run.id, path)
    except StudyError:
        return None


def check_figures(facts: Facts) -> Iterator[Finding]:
    """Missing and altered figures of finished searches and experiments."""
    for run in filter(has_figures, facts.runs):
        remedy, redraw = _redrawing(run, facts)
        missing, altered = lost_figures(run, facts.store)
        for path in sorted(missing):
            yield Finding(f"{path} of its figures is missing.", label(run), remedy, redraw)
        for path in sorted(altered):
            message = f"{path} of its figures was altered: its SHA-256 is not that in {SUMS}."
            yield Finding(message, label(run), remedy, redraw)


def _redrawing(run: Run, facts: Facts) -> tuple[str, Callable[[], None] | None]:
    if run.stage == "experiment":
        return "nothing: the same `study experiment` draws them again", None
    if run.search not in {search.name for search in facts.searches if not search.fault}:
        return "nothing: they are drawn from the search, which cannot be read", None
    return "draws them again", partial(log_results, run.id, facts.storage.opened(run.search), facts.store)
