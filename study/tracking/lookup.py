"""Looks a run up by its id, a unique prefix of it or its name, and the data set of the latest run of a stage."""

from collections.abc import Sequence

from study.errors import StudyError
from study.tracking.hints import command
from study.tracking.runs import Run
from study.tracking.store import Store


def latest_dataset(store: Store, stage: str, **tags: str) -> str:
    """The key of the data set of the latest run of `stage`.

    Raises:
        StudyError: where there is none.
    """
    runs = [run for run in store.runs(stage=stage, **tags) if run.status == "FINISHED"]
    if not runs:
        store.experiments.require_not_deleted(
            lambda run: {"stage": stage, **tags}.items() <= run.tags.items() and run.status == "FINISHED"
        )
        if stage == "trial":
            model = ("--model", tags["model"]) if "model" in tags else ()
            what = f"No {tags['model']}" if "model" in tags else "Nothing"
            raise StudyError(f"{what} was searched yet: run `{command(store, 'tune', *model)}` first.")
        todo = f"`{command(store, 'tune')}` or `{command(store, 'retrain')}`"
        raise StudyError(f"Nothing was retrained yet: run {todo} first.")
    return runs[0].dataset_key


def find(store: Store, spec: str) -> Run:
    """The run with this id, unique prefix of an id, or name, alone or with its search.

    Raises:
        StudyError: where there is none, or several.
    """
    runs = [run for run in store.runs() if run.stage]
    for matches in (
        [run for run in runs if run.id == spec],
        [run for run in runs if spec in (run.name, run.full_name)],
        [run for run in runs if spec and run.id.startswith(spec)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StudyError(f"{spec!r} means {len(matches)} runs ({_listed(matches)}): name one by its id.")
    store.experiments.require_not_deleted(lambda run: run.name == spec or (bool(spec) and run.id.startswith(spec)))
    known = [run for run in runs if run.stage == "retrain"]
    raise StudyError(f"Unknown run {spec!r}: choose best, best:ffnn, a run id or a name{_suggested(known)}.")


def _listed(runs: Sequence[Run]) -> str:
    return ", ".join(run.id[:12] for run in runs[:5]) + (" …" if len(runs) > 5 else "")


def _suggested(runs: Sequence[Run]) -> str:
    return " (retrained: " + ", ".join(f"{run.name} {run.id[:8]}" for run in runs[:5]) + ")" if runs else ""
