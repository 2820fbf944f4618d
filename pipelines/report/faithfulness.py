"""Measures the faithfulness of the attribution methods on a network, and keeps the result with its run.

100 images take about 9 minutes of one core's time for a CNN (Intel Xeon), most of it for LIME, KernelSHAP, integrated
gradients and DeepSHAP.
"""

import math
import tempfile
from itertools import count
from pathlib import Path

import pandas as pd
import torch

from analysis.drawing.wording import counted
from analysis.exhibit import Exhibit
from analysis.explanations import faithfulness
from pipelines.report.exhibits import write_table
from pipelines.report.network import Network
from pipelines.session.display import Display
from study.data import Dataset, normalise
from study.probes import activity
from study.probes import faithfulness as probe
from study.probes.attributions import METHODS
from study.tracking.store import Store

FOLDER = "faithfulness"
"""The artifacts' folder."""
IMAGES, CHECKED, BACKGROUND = 100, 20, 30
"""Test images, those of them whose maps are compared with random weights and other classes, and background images."""
EACH, INTERVAL = 5.4, 30
"""Seconds that an image takes (Intel Xeon); those between two lines of progress where there is no bar."""
SEED = 0
SCORES = {"image": int, "infill": str, "method": str, "squares": float, "sets": float, "insertion_deletion": float}
CHECKS = {"image": int, "method": str, "check": str, "rank_correlation": float}
"""The columns of the two tables, with their types."""


def measure(network: Network, dataset: Dataset, display: Display, *, images: int = IMAGES) -> Exhibit:
    """Measures every method on test images, as many of each class, and keeps the tables as artifacts of the run."""
    rows = activity.stratified_rows(dataset.test.labels, images)
    # In random order: those that are checked are then of all classes.
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))][:images]
    chosen = normalise(dataset.test.subset(rows).images)
    background = normalise(
        dataset.train.subset(activity.stratified_rows(dataset.train.labels, BACKGROUND)[:BACKGROUND]).images
    )
    display.say(
        f"Measuring on {len(chosen)} test images which methods can be believed, once for this run: about "
        f"{counted(math.ceil(EACH * len(chosen) / 60), 'minute')} of one core's time for a CNN."
    )
    with display.bar("faithfulness", total=len(chosen)) as bar:
        done = count(1)

        def advance() -> None:
            bar.advance()
            display.log(f"faithfulness: {next(done)} of {len(chosen)} images", after=INTERVAL)

        tables = probe.measure(
            network.report_model(network.last),
            chosen,
            background,
            checked=max(1, CHECKED * len(chosen) // IMAGES),
            on_image=advance,
        )
    _keep(network.store, network.run.id, dict(zip(("scores", "checks"), tables, strict=True)))
    return _exhibit(*tables)


def _keep(store: Store, run_id: str, tables: dict[str, pd.DataFrame]) -> None:
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        for name, table in tables.items():
            write_table(Path(folder), name, table)
        store.log_folder(run_id, Path(folder), FOLDER)


def is_kept(network: Network) -> bool:
    """Whether the faithfulness was measured on the network."""
    return f"{FOLDER}/checks.csv" in network.store.artifacts(network.run.id, FOLDER)


def show(network: Network) -> Exhibit:
    """What was measured on the network.

    Raises:
        StudyError: where an artifact is missing or cannot be read.
    """
    load, run = network.store.load_table, network.run.id
    return _exhibit(load(run, f"{FOLDER}/scores.csv", SCORES), load(run, f"{FOLDER}/checks.csv", CHECKS))


def _exhibit(scores: pd.DataFrame, checks: pd.DataFrame) -> Exhibit:
    return faithfulness.show(scores, checks, {name: method.title for name, method in METHODS.items()})
