"""What `study doctor` reads of a retrained run's files: their hashes, and what the predictions amount to."""

from collections.abc import Iterator, Mapping

from pipelines.session.context import Context
from pipelines.session.display import Bar
from pipelines.upkeep import store_repairs
from pipelines.upkeep.check_files import Files
from study.errors import StudyError
from study.tracking.artifacts import MODEL_SUMS, SPLITS, SUMS, predictions_path
from study.tracking.registry import model_digests
from study.tracking.runs import Run
from study.tracking.store import Store
from study.training import accuracy


def read_files(run: Run, context: Context, bar: Bar) -> Files:
    """What lies with `run`, all of it read; what cannot be is named."""
    store = context.store
    listed = [path for part in ("weights", "predictions") for path in store_repairs.listed(store, run.id, part)]
    listed += [path for path in store_repairs.listed(store, run.id, "") if path == MODEL_SUMS]
    broken, digests = {}, {}
    sums: dict[str, dict[str, str]] = {SUMS: {}, MODEL_SUMS: {}}
    for name in sums:
        try:
            sums[name] = store.sums(run.id, name)
        except StudyError as error:
            broken[name] = str(error)
    for number, path in enumerate(listed, 1):
        bar.note(f"{run.name}: {number}/{len(listed)}")
        try:
            digests[path] = store.digest(run.id, path)
            if path not in sums[SUMS] and path != MODEL_SUMS:
                store.load_tensors(run.id, path)
        except StudyError as error:
            broken[path] = str(error)
    bar.advance()
    return Files(
        run=run,
        listed=listed,
        sums=sums[SUMS],
        broken=broken,
        digests=digests,
        unfinished=[str(path) for path in store_repairs.unfinished(store, run.id)],
        model=model_digests(store, run.id) if run.status == "FINISHED" else None,
        model_sums=sums[MODEL_SUMS],
        accuracies=dict(_accuracies(run, store, sums[SUMS], digests)),
    )


def _accuracies(
    run: Run, store: Store, sums: Mapping[str, str], digests: Mapping[str, str]
) -> Iterator[tuple[str, float]]:
    """That of each split's predictions, where they are those that a finished run kept."""
    for split in SPLITS if run.status == "FINISHED" else ():
        path = predictions_path(split)
        if path in digests and digests[path] == sums.get(path):
            kept, _ = store.load_tensors(run.id, path)
            yield split, accuracy(kept["logits"], kept["labels"]).item()
