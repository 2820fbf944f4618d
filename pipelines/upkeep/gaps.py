"""The gaps of an export: what is missing, altered or left out in it, a line for each kind."""

from collections import defaultdict
from collections.abc import Collection, Sequence, Set

from pipelines.upkeep.check_files import RunFiles
from study.system.redaction import one_line
from study.tracking.artifacts import SUMS
from study.tracking.runs import Run

NAMED = 3
"""Maximum number of runs that a line names, and of files of each."""
LONGEST_NAME, LONGEST = 60, 300
"""Maximum number of characters of a run's name in a line, and of a path or reason."""
MODEL = "its MLflow model"


class Gaps:
    """Files that are missing, altered or unreadable, by the run that they belong to."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._paths: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def add(self, kind: str, run: Run, paths: Collection[str]) -> None:
        """Adds files of a run that are missing, altered or unreadable, or the reason for which it is left out."""
        if paths:
            self._runs[run.id] = run
            self._paths[kind][run.id].update(paths)

    def add_files(self, files: RunFiles) -> None:
        """Adds what is wrong with the exported files of a retrained run."""
        run = files.run
        missing = files.missing | ({MODEL} if files.model == {} else set())
        if run.status == "FINISHED" and not (files.sums or files.broken):
            missing.add(SUMS)
        altered = {
            *files.altered,
            *files.broken,
            *files.altered_slots,
            *(f"model/{name}" for name in files.altered_model),
        }
        self.add_lost(run, missing, altered)

    def add_lost(self, run: Run, missing: Set[str], altered: Set[str]) -> None:
        """Adds the missing and the altered files of a run, but those that could not be read, and so were not copied."""
        unreadable = self._paths["unreadable"][run.id]
        self.add("missing", run, missing - unreadable)
        self.add("altered", run, altered - unreadable)

    def lines(self) -> tuple[str, ...]:
        """A line for each kind, which names the first runs and the first files of each."""
        kinds = {kind: self._listed(paths) for kind, paths in self._paths.items()}
        return tuple(f"{kind.capitalize()}: {listed}." for kind, listed in kinds.items() if listed)

    def _listed(self, paths: dict[str, set[str]]) -> str:
        named = [
            f"{self._name(run_id)}: {_first(sorted(one_line(path)[:LONGEST] for path in lost), ', ')}"
            for run_id, lost in paths.items()
            if lost
        ]
        return _first(named, "; ")

    def _name(self, run_id: str) -> str:
        return f"{one_line(self._runs[run_id].name)[:LONGEST_NAME]} ({run_id[:8]})"


def _first(texts: Sequence[str], separator: str) -> str:
    more = len(texts) - NAMED
    return separator.join(texts[:NAMED]) + (f" and {more} more" if more > 0 else "")
