"""The runs of an experiment: it is a run itself, and its replicates are runs below it."""

import json

from study.tracking.runs import Run
from study.tracking.store import Store


def find(store: Store, dataset: str, experiment: str, **tags: str) -> list[Run]:
    """The runs of an experiment on the data set with key `dataset`, the latest first."""
    return store.runs([dataset], stage="experiment", experiment=experiment, **tags)


def compared(store: Store, parent: Run) -> list[Run]:
    """The finished replicates that the experiment's run compared last, in the order of its seeds and conditions."""
    conditions, seeds = json.loads(parent.tags["conditions"]), json.loads(parent.tags["seeds"])
    found = {
        (int(run.params["seed"]), run.tags["condition"]): run
        for run in replicates_of(store, parent.tags["dataset"], parent.id, status="FINISHED")
    }
    wanted = [(seed, condition) for seed in seeds for condition in conditions]
    return [found[replicate] for replicate in wanted if replicate in found]


def replicates_of(store: Store, dataset: str, parent: str, **wanted: str) -> list[Run]:
    """The replicates below the run `parent` of an experiment, with these tags or this status."""
    return store.runs([dataset], stage="replicate", **{"mlflow.parentRunId": parent}, **wanted)
