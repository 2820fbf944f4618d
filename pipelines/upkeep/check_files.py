"""Checks retrained runs: the hashes of their files and models, their curves, and their results."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlflow.exceptions import MlflowException

from pipelines.session.display import Bar
from pipelines.trials.mirror import recorded_points, same, shown
from pipelines.upkeep.findings import Finding, label
from study.errors import StudyError
from study.system import interruption
from study.system.files import is_abandoned
from study.tracking.artifacts import DESCRIPTION, MODEL_SUMS, SPLITS, SUMS, predictions_path, weights_path
from study.tracking.checkpoints import is_whole_slot
from study.tracking.hints import retraining
from study.tracking.registry import delete_run, model_digests
from study.tracking.runs import NOT_CONTINUED, Run
from study.tracking.store import Store

CURVE = "test_accuracy"
"""The metric that a finished run has once of every epoch."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a retrained run, as they were recorded and as they are now."""

    run: Run
    listed: Collection[str]
    """The paths of its weights, its predictions, the description of its images, and the hashes of its model."""
    sums: Mapping[str, str]
    """The recorded SHA-256 of each."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Why files could not be read, by path."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each as it is now."""
    altered_slots: Collection[str] = ()
    """Its files of the training state that differ from the hash within them."""
    unfinished: Collection[Path] = ()
    """Half-written files of killed processes; empty where a server keeps the files."""
    model: Mapping[str, str] | None = None
    """The SHA-256 of the files of a finished run's model as they are now; empty where it has none."""
    model_sums: Mapping[str, str] = field(default_factory=dict)
    """The recorded SHA-256 of those; empty where none were recorded."""
    steps: Mapping[int, int] | None = None
    """The number of values that a finished run's curve has of each epoch."""
    results: Mapping[str, float] = field(default_factory=dict)
    """The metrics computed from a finished run's predictions, where these are unaltered."""

    @property
    def expected(self) -> set[str]:
        """The files that a finished run must have; of an interrupted run, those that it recorded."""
        if self.run.status != "FINISHED":
            return set(self.sums)
        weights = map(weights_path, range(self.run.epochs + 1))
        return {*weights, *map(predictions_path, SPLITS), DESCRIPTION, *self.sums}

    @property
    def missing(self) -> set[str]:
        """The expected files that are not there."""
        return self.expected - set(self.listed)

    @property
    def altered(self) -> set[str]:
        """The files whose hash is not the recorded one."""
        return {path for path, digest in self.digests.items() if self.sums.get(path, digest) != digest}

    @property
    def altered_model(self) -> set[str]:
        """The files of an existing model that are missing, or whose hash is not the recorded one."""
        return {path for path, digest in self.model_sums.items() if self.model and self.model.get(path) != digest}

    def damage(self) -> Iterator[str]:
        """Messages on missing, altered or unreadable parts of the training, which only a new training repairs."""
        yield from self._of_files((self.missing | self.altered | self.broken.keys()) - {MODEL_SUMS})
        yield from self._curve()
        for name, value in self.results.items():
            recorded = self.run.metrics.get(name, value)
            if not same(recorded, value):
                yield f"Its {name} is {shown(recorded)}; by its predictions it is {value:.6g}."

    def model_damage(self) -> Iterator[str]:
        """Messages on missing, altered or unreadable parts of the model, which can be exported again."""
        yield from self._of_files({MODEL_SUMS})
        if self.model == {}:
            yield "Its MLflow model is missing."
        for path in sorted(self.altered_model):
            yield f"{path} of its MLflow model is missing, or was altered: its SHA-256 is not that in {MODEL_SUMS}."

    def _of_files(self, paths: set[str]) -> Iterator[str]:
        for path in sorted(self.missing & paths):
            yield f"{path} is missing."
        for path in sorted(self.altered & paths):
            yield f"{path} was altered: its SHA-256 is not that in {SUMS}."
        for path in sorted(self.broken.keys() & paths):
            yield f"{path} cannot be read: {self.broken[path]}"

    def _curve(self) -> Iterator[str]:
        if self.steps is not None:
            last = self.run.epochs
            for epoch in sorted(self.steps.keys() | set(range(last + 1))):
                if (count := self.steps.get(epoch, 0)) != (epoch <= last):
                    yield f"Its {CURVE} has {count or 'no'} values of epoch {epoch}, of {last}."


def read_files(run: Run, store: Store, bar: Bar) -> RunFiles:
    """Reads and hashes all files of `run`, and collects the errors of those that cannot be read."""
    listed = [path for part in ("weights", "predictions") for path in _listed(store, run.id, part)]
    listed += [path for path in _listed(store, run.id, "") if path in (DESCRIPTION, MODEL_SUMS)]
    broken, digests = {}, {}
    sums: dict[str, dict[str, str]] = {SUMS: {}, MODEL_SUMS: {}}
    for name in sums:
        try:
            sums[name] = store.sums(run.id, name)
        except StudyError as error:
            broken[name] = str(error)
    for number, path in enumerate(listed, 1):
        interruption.check()
        bar.note(f"{run.name}: {number}/{len(listed)}")
        try:
            digests[path] = store.digest(run.id, path)
            if path not in sums[SUMS] and path != MODEL_SUMS:
                _require_readable(run, path, store)
        except StudyError as error:
            broken[path] = str(error)
    bar.advance()
    root = store.root(run.id)
    return RunFiles(
        run=run,
        listed=listed,
        sums=sums[SUMS],
        broken=broken,
        digests=digests,
        altered_slots=[path for path in _listed(store, run.id, "resume") if not is_whole_slot(store, run.id, path)],
        unfinished=sorted(filter(is_abandoned, root.rglob(".*.part"))) if root and root.is_dir() else [],
        model=model_digests(store, run.id) if run.status == "FINISHED" else None,
        model_sums=sums[MODEL_SUMS],
        steps=Counter(point.step for point in recorded_points(store, run, CURVE)) if run.status == "FINISHED" else None,
        results=dict(_results(run, store, sums[SUMS], digests)),
    )


def _require_readable(run: Run, path: str, store: Store) -> None:
    """Checks a file without a recorded hash, as far as that is possible."""
    if path != DESCRIPTION:
        store.load_arrays(run.id, path)
    elif store.load_json(run.id, path).get("digest") != run.dataset_digest:
        raise StudyError("its digest is not that of the images that the run was trained on.")


def _listed(store: Store, run_id: str, path: str) -> list[str]:
    """The artifacts directly below `path`; none where the store has no such folder."""
    try:
        return store.artifacts(run_id, path)
    except (MlflowException, OSError):
        return []


def _results(
    run: Run, store: Store, sums: Mapping[str, str], digests: Mapping[str, str]
) -> Iterator[tuple[str, float]]:
    for split in SPLITS if run.status == "FINISHED" else ():
        path = predictions_path(split)
        if path in digests and digests[path] == sums.get(path):
            kept = store.load_arrays(run.id, path)
            for name in (f"final_{split}_accuracy", *((CURVE,) if split == "test" else ())):
                yield name, float((kept["logits"].argmax(1) == kept["labels"]).mean())


def check_files(all_files: Collection[RunFiles], store: Store) -> Iterator[Finding]:
    """Missing, altered and half-written files of all retrained runs."""
    for files in all_files:
        others = [other for other in all_files if _is_same_training(other.run, files.run)]
        whole = (other.run for other in others if not (any(other.damage()) or any(other.model_damage())))
        yield from _check(files, next(whole, None), store)


def _is_same_training(candidate: Run, run: Run) -> bool:
    if candidate.id == run.id or candidate.status != "FINISHED" or candidate.trial_run != run.trial_run:
        return False
    return (candidate.seed, candidate.epochs, candidate.precision) == (run.seed, run.epochs, run.precision)


def _check(files: RunFiles, twin: Run | None, store: Store) -> Iterator[Finding]:
    run, where = files.run, label(files.run)
    command, damage, repair = retraining(store, run), list(files.damage()), None
    remedy = f"nothing: `{command} --again` trains it again"
    if not damage:
        remedy = f"nothing: `{command}` exports the model again from the weights"
    if twin:
        remedy = f"deletes this run: {label(twin)} is the same training, and whole"
        repair = partial(delete_run, store.client, run.id)
    for message in [*damage, *files.model_damage()]:
        yield Finding(message, where, remedy, repair)
    for slot in files.altered_slots:
        yield _altered_slot(run, slot, store)
    for path in files.unfinished:
        yield Finding(f"{path.name} is incomplete.", where, "removes it", partial(path.unlink, missing_ok=True))
    # By its hashes `study retrain` knows whether it can continue a run.
    is_continuable = run.reason not in NOT_CONTINUED
    if is_continuable and not files.broken and (unknown := files.digests.keys() - files.sums.keys()):
        yield _unrecorded(files, unknown, store)
    for name, value in files.results.items():
        if name not in run.metrics:
            record = partial(store.log, run.id, {name: value}, run.epochs)
            yield Finding(f"MLflow lacks its {name}.", where, "records that of its predictions", record)


def _altered_slot(run: Run, path: str, store: Store) -> Finding:
    message, root = f"{path} was altered: its content is not what the SHA-256 in it says.", store.root(run.id)
    if root is None:
        return Finding(message, label(run), "nothing: no training is continued from it")
    repair = partial((root / path).unlink, missing_ok=True)
    return Finding(message, label(run), "removes it: no training is continued from it", repair)


def _unrecorded(files: RunFiles, unknown: Collection[str], store: Store) -> Finding:
    message = f"The SHA-256 of {len(unknown)} of its files is not recorded: whether they were altered cannot be known."
    remedy = f"records the current ones in {SUMS}; each file is complete"
    sums = {**files.sums, **{path: files.digests[path] for path in unknown}}
    return Finding(message, label(files.run), remedy, partial(store.log_sums, files.run.id, sums))
