"""What `study doctor` reads of a retrained run's files: their hashes, and what the predictions amount to."""

from collections.abc import Iterator, Mapping

from pipelines.checkpoints import SPLITS, predictions_path
from pipelines.context import Context
from pipelines.progress import Bar
from study import mending
from study.doctor_files import Files
from study.errors import StudyError
from study.runs import Run
from study.tracking import Store
from study.training import accuracy


def read_files(run: Run, context: Context, bar: Bar) -> Files:
    """What lies with `run`, all of it read; what cannot be is named."""
    store = context.store
    listed = [path for part in ("weights", "predictions") for path in mending.listed(store, run.id, part)]
    broken, digests, sums = {}, {}, {}
    try:
        sums = store.sums(run.id)
    except StudyError as error:
        broken["SHA256SUMS"] = str(error)
    for number, path in enumerate(listed, 1):
        bar.note(f"{run.name}: {number}/{len(listed)}")
        try:
            digests[path] = store.digest(run.id, path)
            if path not in sums:
                store.load_tensors(run.id, path)
        except StudyError as error:
            broken[path] = str(error)
    bar.advance()
    return Files(
        run=run,
        listed=listed,
        sums=sums,
        broken=broken,
        digests=digests,
        unfinished=[str(path) for path in mending.unfinished(store, run.id)],
        has_model=run.status != "FINISHED" or mending.has_model(store, run.id),
        accuracies=dict(_accuracies(run, store, sums, digests)),
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
