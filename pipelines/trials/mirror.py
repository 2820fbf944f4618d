"""MLflow's mirror of a trial's end: the run ends as the trial did, for the same reason, with its best epoch."""

import math

from study.search.trial import COUNTED, Outcome
from study.tracking.runs import Run, points
from study.tracking.store import Point, Store


def agrees(run: Run, told: Outcome) -> bool:
    """Whether `run` ended as its trial did."""
    return (run.status, run.tags.get("status_reason")) == (told.status, told.reason)


def end_run(store: Store, run_id: str, told: Outcome, best: dict[str, float]) -> None:
    """Ends the run of a trial of which `told` is known.

    Args:
        store: where the run is.
        run_id: its id.
        told: what became of the trial.
        best: the metrics of its best epoch, see `best_epoch`; of a trial that does not count they are not recorded.
    """
    tags: dict[str, object] = {}
    if told.epoch is not None:
        tags["stopped_epoch"] = told.epoch
    if told.reason == "diverged":
        tags["stopped_by"] = told.stopped
    last: list[Point] = points(best, 0) if told.reason in COUNTED else []
    store.finish(run_id, told.status, told.reason, last, **tags)


def best_epoch(store: Store, run: Run) -> dict[str, float]:
    """What of its best epoch is not yet recorded on `run`, from the epochs that are; empty where there is none."""
    best = {"best_val_accuracy": -math.inf, "best_val_loss": math.inf, "best_epoch": 0.0}
    if "val_accuracy" in run.metrics:
        for row in store.history(run.id).query("epoch > 0").to_dict("records"):
            if (row["val_accuracy"], -row["val_loss"]) > (best["best_val_accuracy"], -best["best_val_loss"]):
                best = {
                    "best_val_accuracy": row["val_accuracy"],
                    "best_val_loss": row["val_loss"],
                    "best_epoch": row["epoch"],
                }
    return {name: value for name, value in best.items() if best["best_epoch"] and name not in run.metrics}
