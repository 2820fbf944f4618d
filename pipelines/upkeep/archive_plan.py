"""What of a study is exported, and what an import has to make: decided from records alone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.upkeep.archive_format import ORIGIN, REFERENCES, RunRecord, SearchRecord
from study.config import can_be_name
from study.errors import StudyError, unknown
from study.tracking.runs import Run


def chosen(
    runs: Sequence[Run], searches: Collection[str], datasets: Collection[str], ids: Collection[str]
) -> list[Run]:
    """The runs with one of these searches, data sets or ids, and all that they need; by default every run of a study.

    A run needs those that it names and those below it, and a search is whole or not there.

    Raises:
        StudyError: where nothing has such a search or data set.
    """
    known = {run.id: run for run in runs if "stage" in run.tags}
    if not (searches or datasets or ids):
        return list(known.values())
    _require_found("search", "search", searches, known.values())
    _require_found("data set", "dataset", datasets, known.values())
    found = {
        run.id
        for run in known.values()
        if run.tags.get("search") in searches or run.tags.get("dataset") in datasets or run.id in ids
    }
    while more := {run.id for run in known.values() if run.id not in found and _is_needed(run, found, known)}:
        found |= more
    return [run for run in known.values() if run.id in found]


def _require_found(what: str, tag: str, wanted: Collection[str], runs: Iterable[Run]) -> None:
    there = sorted({run.tags[tag] for run in runs if tag in run.tags})
    for value in wanted:
        if value not in there:
            raise unknown(what, value, there or ["none: nothing was searched yet"])


def _is_needed(run: Run, found: Collection[str], known: Mapping[str, Run]) -> bool:
    if any(known[other].tags.get(name) == run.id for other in found for name in REFERENCES):
        return True
    if run.tags.get("mlflow.parentRunId") in found:
        return True
    return run.tags["stage"] in ("search", "trial") and any(_search(known[other]) == _search(run) for other in found)


def _search(run: Run) -> tuple[str, str]:
    return run.tags.get("search", ""), run.tags.get("dataset", "")


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


def parse_renames(pairs: Sequence[str], searches: Collection[str]) -> dict[str, str]:
    """The new names of searches, from texts OLD=NEW.

    Raises:
        StudyError: for a text without =, a search that is not there, or a name that no search may have.
    """
    renames = {}
    for pair in pairs:
        before, _, now = pair.partition("=")
        if not now.strip() or not can_be_name(now):
            raise StudyError(
                f"--rename is {pair!r}: write OLD=NEW, where NEW is not empty and has no quotation mark, slash or "
                "control character."
            )
        if before not in searches:
            raise unknown("search", before, sorted(searches) or ["none: the archive has no search"])
        renames[before] = now
    names = [renames.get(name, name) for name in searches]
    if len(set(names)) < len(names):
        raise StudyError(f"--rename {' '.join(pairs)} would give two searches one name: choose another.")
    return renames


def renamed_search(search: SearchRecord, renames: Mapping[str, str]) -> SearchRecord:
    """The search as it is called here."""
    return search.model_copy(update={"name": renames.get(search.name, search.name)})


def renamed_run(run: RunRecord, renames: Mapping[str, str]) -> RunRecord:
    """The run as it is called here, which says what search it belongs to."""
    before = run.tags.get("search", "")
    now = renames.get(before, before)
    if now == before:
        return run
    name = run.name.removesuffix(before) + now if run.name.endswith(before) else run.name
    tags = {**run.tags, "search": now}
    if "mlflow.runName" in tags:
        tags["mlflow.runName"] = name
    return run.model_copy(update={"name": name, "tags": tags})


@dataclass(frozen=True)
class Plan:
    """What an import does about each run of an archive."""

    here: Mapping[str, str]
    """The ids here, by those in the archive, of the runs that are here already."""
    missing: tuple[RunRecord, ...]
    """Those that are not, each after the runs that it names."""


def planned(records: Mapping[str, RunRecord], runs: Sequence[Run]) -> Plan:
    """Compares the `records` of an archive, each after those that it names, with the `runs` that are here.

    A run is here where one that began with the same id names the same runs.
    """
    by_origin: dict[str, list[Run]] = {}
    for run in runs:
        by_origin.setdefault(run.tags.get(ORIGIN, run.id), []).append(run)
    here: dict[str, str] = {}
    for record in records.values():
        if record.references & records.keys() <= here.keys():
            wanted = _relations(translated(record.tags, here))
            for run in by_origin.get(record.origin, []):
                if _relations(run.tags) == wanted:
                    here[record.id] = run.id
    return Plan(here, tuple(record for record in records.values() if record.id not in here))


def _relations(tags: Mapping[str, str]) -> list[str | None]:
    return [tags.get(name) for name in (*REFERENCES, "search")]


def translated(tags: Mapping[str, str], ids: Mapping[str, str]) -> dict[str, str]:
    """The tags, in which runs are called by their ids here."""
    return {name: ids.get(value, value) if name in REFERENCES else value for name, value in tags.items()}


def require_no_strangers(records: Mapping[str, RunRecord], runs: Sequence[Run]) -> None:
    """Checks that the searches of an archive are no others of the same name here.

    Raises:
        StudyError: where one is.
    """
    origins = {record.origin for record in records.values()}
    names = {(record.tags["search"], record.tags["dataset"]) for record in records.values() if "search" in record.tags}
    for run in runs:
        if run.tags.get("stage") == "search" and run.tags.get(ORIGIN, run.id) not in origins and _search(run) in names:
            raise other_content(run.tags["search"])


def other_content(name: str) -> StudyError:
    """The error for a search that is here with other trials than in an archive."""
    return StudyError(
        f"The search {name!r} is here already, with other content than in the archive: import that one under another "
        f"name with --rename {name!r}=NEW, or into another home with --home."
    )
