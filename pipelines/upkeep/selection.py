"""Selects the runs that are exported: those that are named, and all that they need."""

from collections.abc import Collection, Mapping, Sequence

from study.errors import StudyError, unknown
from study.tracking.runs import Run, dataset_keys


def chosen(
    runs: Sequence[Run], searches: Collection[str], datasets: Collection[str], ids: Collection[str]
) -> list[Run]:
    """The runs with one of these searches, data sets or ids, and all that they need; by default every run of a study.

    A run needs those that it refers to and those below it; a search is exported whole or not at all.

    Raises:
        StudyError: where nothing has such a search or data set.
    """
    known = {run.id: run for run in runs if run.stage}
    if not (searches or datasets or ids):
        return list(known.values())
    choices = sorted({run.search for run in known.values()} - {""})
    for search in searches:
        if search not in choices:
            raise unknown("search", search, choices or ["none: nothing was searched yet"])
    keys = {key for dataset in datasets for key in dataset_keys(known.values(), dataset)}
    chosen_ids = {
        run.id for run in known.values() if run.search in searches or run.dataset_key in keys or run.id in ids
    }
    while more := {run.id for run in known.values() if run.id not in chosen_ids and _is_needed(run, chosen_ids, known)}:
        chosen_ids |= more
    return [run for run in known.values() if run.id in chosen_ids]


def _is_needed(run: Run, others: Collection[str], known: Mapping[str, Run]) -> bool:
    if any(run.id in known[other].references.values() for other in others):
        return True
    if run.parent in others:
        return True
    return run.stage in ("search", "trial") and any(_search(known[other]) == _search(run) for other in others)


def _search(run: Run) -> tuple[str, str]:
    return run.search, run.dataset_key


def require_ended(runs: Sequence[Run]) -> None:
    """Checks that none of `runs` is under way.

    Raises:
        StudyError: where one is.
    """
    for run in runs:
        if run.status not in ("FINISHED", "FAILED", "KILLED"):
            raise StudyError(
                f"Run {run.name} ({run.id}) is under way: wait for it, or name what else is exported with --search, "
                "--dataset or --run; what a killed process left, `study doctor --fix` or the same command closes."
            )
