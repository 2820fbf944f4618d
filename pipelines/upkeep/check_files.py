"""What is wrong with the files of retrained runs: weights, predictions, the model; see `pipelines.upkeep.findings`."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipelines.upkeep.check_runs import same, shown
from pipelines.upkeep.findings import AddPoint, DeleteRun, Finding, RecordSums, RemoveFile, SetPoint, called
from study.tracking.artifacts import MODEL_SUMS, SPLITS, SUMS, predictions_path, weights_path
from study.tracking.runs import NOT_CONTINUED, Run, epochs_of


@dataclass(frozen=True)
class Files:
    """What lies with a retrained run."""

    run: Run
    listed: Collection[str]
    """The paths of its weights, its predictions, and the hashes of its model."""
    sums: Mapping[str, str]
    """The SHA-256 that was recorded of each."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with those that could not be read."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each as it is now."""
    unfinished: Collection[str] = ()
    """Files that a killed process left half-written."""
    model: Mapping[str, str] | None = None
    """The SHA-256 of the files of a finished run's model as they are now; empty where it has none."""
    model_sums: Mapping[str, str] = field(default_factory=dict)
    """Those that were recorded; empty where none were."""
    accuracies: Mapping[str, float] = field(default_factory=dict)
    """What a finished run's predictions of each split amount to, where they are as they were kept."""

    @property
    def expected(self) -> set[str]:
        """What a finished run must have; of one that was interrupted, what it had recorded."""
        if self.run.status != "FINISHED":
            return set(self.sums)
        weights = map(weights_path, range(epochs_of(self.run) + 1))
        return {*weights, *map(predictions_path, SPLITS), *self.sums}

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is missing, altered or unreadable."""
        is_there = self.expected <= set(self.listed) and self.model != {}
        return is_there and not (self.broken or self.altered or self.altered_model)

    @property
    def altered(self) -> list[str]:
        """The files that are not what was recorded."""
        return sorted(path for path, digest in self.digests.items() if self.sums.get(path, digest) != digest)

    @property
    def altered_model(self) -> list[str]:
        """The files of its model that are not there, or not what was recorded."""
        return sorted(path for path, digest in self.model_sums.items() if self.model and self.model.get(path) != digest)


def check_files(all_files: Collection[Files], command: Callable[[Run], str]) -> Iterator[Finding]:
    """Missing, altered and half-written files.

    Args:
        all_files: those of every retrained run.
        command: what trains a run anew.
    """
    for files in all_files:
        again = [other.run for other in all_files if other.is_whole and _is_same_training(other.run, files.run)]
        yield from _check(files, again[0] if again else None, command)


def _is_same_training(one: Run, other: Run) -> bool:
    if one.id == other.id or one.status != "FINISHED" or one.tags.get("trial_run") != other.tags.get("trial_run"):
        return False
    return all(one.params.get(name) == other.params.get(name) for name in ("seed", "epochs", "precision"))


def _check(files: Files, again: Run | None, command: Callable[[Run], str]) -> Iterator[Finding]:
    where, repairs = called(files.run), tuple[DeleteRun, ...]()
    if again:
        mend = f"deletes this run: {called(again)} is the same training, and whole"
        repairs = (DeleteRun(files.run.id),)
    else:
        mend = f"nothing: `{command(files.run)}` trains it anew"
    for path in sorted(files.expected - set(files.listed)):
        yield Finding(f"{path} is missing.", where, mend, repairs)
    for path in files.altered:
        yield Finding(f"{path} was altered: its SHA-256 is not that in {SUMS}.", where, mend, repairs)
    for path, said in sorted(files.broken.items()):
        yield Finding(f"{path} cannot be read: {said}", where, mend, repairs)
    if files.model == {}:
        yield Finding("Its MLflow model is missing.", where, mend, repairs)
    for path in files.altered_model:
        what = f"{path} of its MLflow model is missing, or was altered: its SHA-256 is not that in {MODEL_SUMS}."
        yield Finding(what, where, mend, repairs)
    for path in sorted(files.unfinished):
        remove = (RemoveFile(path),)
        yield Finding(f"{PurePosixPath(path).name} was never finished.", where, "removes it", remove)
    # By its hashes `study retrain` knows whether it can continue a run.
    is_of_use = files.run.tags.get("status_reason") not in NOT_CONTINUED
    if is_of_use and not files.broken and (unknown := set(files.digests) - set(files.sums)):
        yield _unrecorded(files, unknown, where)
    yield from _results(files, where)


def _unrecorded(files: Files, unknown: set[str], where: str) -> Finding:
    what = f"The SHA-256 of {len(unknown)} of its files is not recorded: whether they were altered cannot be known."
    mend = f"records those of today in {SUMS}; each is a whole file"
    sums = {**files.sums, **{path: files.digests[path] for path in unknown}}
    return Finding(what, where, mend, (RecordSums(files.run.id, sums),))


def _results(files: Files, where: str) -> Iterator[Finding]:
    """Metrics of the last weights that are not what the predictions of these amount to."""
    run, step = files.run, epochs_of(files.run)
    for split, true in files.accuracies.items():
        for name in (f"final_{split}_accuracy", *(("test_accuracy",) if split == "test" else ())):
            said = run.metrics.get(name)
            if said is None:
                add = AddPoint(run.id, name, step, true)
                yield Finding(f"MLflow lacks its {name}.", where, "records that of its predictions", (add,))
            elif not same(said, true):
                what = f"Its {name} is {shown([said])}; by its predictions it is {true:.6g}."
                yield Finding(what, where, "keeps the predictions'", (SetPoint(run.id, name, step, true),))
