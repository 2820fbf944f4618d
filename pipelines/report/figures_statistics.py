"""The part of `study analyse` that asks whether the models differ, where they are wrong, and how sure that is.

Works on the predictions and curves that the retrainings kept. For 60,000 images and two models it takes 5 seconds on
one core of a busy two-core machine, most of them for drawing; 2,000 bootstrap resamples take 0.8.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.exhibit import Exhibit
from analysis.results import calibration, classification, intervals, kinds, per_class, proportions
from analysis.training import convergence
from pipelines.report.exhibits import command_line, joined
from pipelines.report.network import SPLITS, Network
from study.config import CIFAR10_CLASSES
from study.tracking import best
from study.tracking.runs import Run, metric
from study.tracking.store import Store

Networks = Mapping[str, Network]


def runs_by_seed(store: Store, network: Network) -> dict[int, Run]:
    """The retrainings like the network's, see `selection.finished_seeds`, by seed; for its own seed its own run."""
    trial, precision = store.get(network.run.trial_run), network.run.precision
    runs = best.finished_seeds(store, trial, network.config.epochs, precision)
    return dict(sorted((runs | {network.config.seed: network.run}).items()))


def predicted(networks: Networks) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Logits and labels by model and split, first of the test images, as far as they were kept."""
    return {
        (name, split): network.predictions[split]
        for split in reversed(SPLITS)
        for name, network in networks.items()
        if split in network.predictions
    }


def measured(networks: Networks) -> pd.DataFrame:
    """The report's Table 2 of our networks with intervals; its own numbers beside it where they can be compared."""
    table = intervals.intervals(predicted(networks))
    return intervals.with_report(table) if _comparable(networks) else table


def _comparable(networks: Networks) -> bool:
    return all(set(network.classes) == set(CIFAR10_CLASSES) for network in networks.values())


def predictions_of(networks: Networks) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Logits and labels of the test images, by model."""
    return {name: network.predictions["test"] for name, network in networks.items()}


def show_answer(networks: Networks) -> Iterator[Exhibit]:
    """The measures of the models with intervals, as a table and as a figure."""
    table, note, beside = measured(networks), "", " beside the report's"
    if not _comparable(networks):
        beside = ""
        note = "Wik's (2023) numbers are of CIFAR-10, and stand beside ours only for its classes. "
    note += intervals.note(table)
    heading = f"Accuracy, precision, recall and F1{beside} (Table 2)"
    yield Exhibit("table2", heading, intervals.caption(table), table, shown=intervals.answer(table), note=note)
    heading, text = "How far the numbers of Table 2 are certain", intervals.intervals_caption(table)
    figure, about = intervals.draw_intervals(table), intervals.figure_note(table)
    yield Exhibit("table2_intervals", heading, text, table, figure, note=about)


def show_mcnemar(networks: Networks) -> Iterator[Exhibit]:
    """McNemar's test of the two models."""
    table = proportions.mcnemar(predictions_of(networks))
    heading = " against ".join(name.upper() for name in networks) + ": McNemar's test"
    shown = proportions.mcnemar_readable(table)
    yield Exhibit("mcnemar", heading, proportions.mcnemar_caption(table), table, shown=shown)


def show_convergence(networks: Networks, store: Store, where: Sequence[str]) -> Iterator[Exhibit]:
    """Loss and accuracy over the epochs, and the final accuracy over seeds."""
    runs = {name: runs_by_seed(store, network) for name, network in networks.items()}
    histories = {
        name: pd.concat([store.history(run.id).assign(seed=seed) for seed, run in of.items()])
        for name, of in runs.items()
    }
    table = convergence.convergence(histories)
    figure = convergence.draw_convergence(table)
    text, note = convergence.caption(table), convergence.note(table)
    yield Exhibit("convergence", "Convergence (Figure 7)", text, table, figure, note=note)
    rows = [
        (name, split, seed, metric(run, f"final_{split}_accuracy"))
        for name, of in runs.items()
        for split in reversed(SPLITS)
        for seed, run in of.items()
    ]
    spread = convergence.seeds_table(pd.DataFrame(rows, columns=["model", "split", "seed", "accuracy"]))
    text, points = convergence.seeds_caption(spread), []
    for name, network in networks.items():
        if len(runs[name]) == 1:
            epochs = str(network.config.epochs)
            command = command_line(where, "retrain", "--run", network.run.id[:8], "--epochs", epochs, "--seeds", "3")
            points.append(f"The {name.upper()} was trained with one seed: `{command}` adds two.")
    shown = convergence.seeds_readable(spread)
    yield Exhibit("seeds", "The final accuracy over seeds", text, spread, shown=shown, points=points)


def show_groups(networks: Networks) -> Iterator[Exhibit]:
    """Confusions within animals, within vehicles and across."""
    tables = {
        name: kinds.grouped(classification.confusion(*network.predictions["test"], network.classes))
        for name, network in networks.items()
    }
    heading = "Confusions within animals, within vehicles and across"
    text, figure = kinds.caption(tables), kinds.draw_grouped(tables)
    yield Exhibit("groups", heading, text, joined(tables), figure, note=kinds.NOTE)


def show_classes(networks: Networks) -> Iterator[Exhibit]:
    """How hard each class is."""
    tables = {
        name: per_class.per_class(*network.predictions["test"], network.classes) for name, network in networks.items()
    }
    figure, shown = per_class.draw_per_class(tables), per_class.side_by_side(tables)
    yield Exhibit("classes", "How hard each class is", per_class.caption(tables), joined(tables), figure, shown)


def show_confusion(networks: Networks) -> Iterator[Exhibit]:
    """The confusion matrices."""
    tables = {
        name: classification.confusion(*made, networks[name].classes) for name, made in predictions_of(networks).items()
    }
    text = classification.confusion_caption(tables)
    figure = classification.draw_confusion(tables)
    yield Exhibit("confusion", "What is taken for what (Figure 13)", text, joined(tables), figure)


def show_roc(networks: Networks) -> Iterator[Exhibit]:
    """The ROC curve of each class."""
    tables = {
        name: classification.roc(*made, networks[name].classes) for name, made in predictions_of(networks).items()
    }
    text = classification.roc_caption(tables)
    figure = classification.draw_roc(tables)
    yield Exhibit("roc", "Each class against the rest (Figure 14)", text, joined(tables), figure)


def show_calibration(networks: Networks) -> Iterator[Exhibit]:
    """Reliability diagrams."""
    tables = {name: calibration.reliability(*made) for name, made in predictions_of(networks).items()}
    figure = calibration.draw_reliability(tables)
    yield Exhibit("calibration", "As often right as sure?", calibration.caption(tables), joined(tables), figure)
