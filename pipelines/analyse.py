"""Stage 3, `study analyse`: a retrained run's artifacts to tables, figures and a report, logged back to it.

Everything about the run comes through MLflow, so it may lie on another machine; only the image under study comes
from the data set, or a file. Nothing is evaluated anew but the feature maps of that one image.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from analysis import activations, classification, convergence, kernels
from analysis.report import page
from pipelines.artifacts import SPLITS, Network, pull
from pipelines.context import Context
from pipelines.output import Report, Step
from pipelines.pages import run_page
from study import selection
from study.config import CIFAR10_CLASSES, AnalysisConfig, DataConfig
from study.data import Dataset, SelectedImage, select_image
from study.errors import StudyError, unknown
from study.images import read_image
from study.provenance import provenance
from study.tracking import Run

CONVOLUTIONS = {"conv1": ("conv1", "relu1", "pool1"), "conv2": ("conv2", "relu2", "pool2")}
"""The layers that are shown with each convolution."""

DATA_PARAMS = ("dataset", "dataset_digest", "validation_fraction", "split_seed", "skip_unreadable")
"""What a retrained run says of its data set, and its analysis too."""


def analyse(
    spec: str, config: AnalysisConfig, context: Context, data: DataConfig | None = None, loaded: Dataset | None = None
) -> Path:
    """Writes the report of the run that `spec` means, logs it to the run, and returns its page.

    Args:
        spec: see `selection.choose_retrained`.
        config: what is shown.
        context: the surroundings.
        data: the data set, for `best` and for the image under study; by default the run's, or the latest run's.
        loaded: the same, where it is loaded already.

    Raises:
        StudyError: for an unknown run, a run without weights, an unknown image, layer or filter, or a report
            folder that cannot be written.
    """
    if data and loaded is None:
        loaded = context.load(data)
    run = selection.choose_retrained(context.store, spec, loaded.key if loaded else None)
    network = pull(context.store, run)
    filters = _filters(config, network)
    image = _image(config, run, loaded, context) if filters else None
    networks = _with_other(network, context)
    report = Report(_folder(context, run))
    steps = [*_outside(networks, report), *_inside(network, filters, config, image, report)]
    with context.display.bar(f"analysing {network.name}", len(steps)) as bar:
        for name, step in steps:
            bar.note(name)
            step()
            bar.advance()
    return _publish(report, networks, network, image, config, context)


def _image(config: AnalysisConfig, run: Run, loaded: Dataset | None, context: Context) -> SelectedImage:
    """The image under study; only one that is not a file needs the data set."""
    if config.image and Path(config.image).expanduser().is_file():
        return SelectedImage(torch.from_numpy(read_image(Path(config.image).expanduser())), None, config.image)
    loaded = loaded or context.load(DataConfig.from_params(run.params))
    if run.params["dataset_digest"] != loaded.digest:
        raise StudyError(f"Run {run.name} was trained on other images than those of {loaded.source}.")
    return select_image(loaded, config.image)


REPORT_FILTER = 12
"""The first-layer filter that the report follows."""


def _filters(config: AnalysisConfig, network: Network) -> dict[str, int]:
    """The convolutions to be followed, and which filter of each; none for a network that has none."""
    if config.layer not in ("", *CONVOLUTIONS):
        raise unknown("layer", config.layer, CONVOLUTIONS)
    if network.name != "cnn":
        if config.layer or config.filter is not None:
            raise StudyError(f"The {network.name} has no convolutions: leave out --layer and --filter.")
        return {}
    layers = [config.layer] if config.layer else list(CONVOLUTIONS)
    last = {layer: len(network.weights(max(network.files))[f"{layer}.bias"]) - 1 for layer in layers}
    if config.filter is None:
        return {layer: min(REPORT_FILTER, last[layer]) for layer in layers}
    for layer in layers:
        if config.filter > last[layer]:
            raise StudyError(f"Layer {layer} has no filter {config.filter}: choose one from 0 to {last[layer]}.")
    return dict.fromkeys(layers, config.filter)


def _with_other(network: Network, context: Context) -> dict[str, Network]:
    """The network, and beside it the other model's best where that one is retrained."""
    other = "ffnn" if network.name == "cnn" else "cnn"
    networks = {network.name: network}
    try:
        networks[other] = pull(
            context.store, selection.best_retrained(context.store, other, network.run.tags["dataset"])
        )
    except StudyError as error:
        context.display.say(f"The {network.name} is shown alone. {error}")
    return dict(sorted(networks.items()))


def _folder(context: Context, run: Run) -> Path:
    folder = context.home.reports / f"{run.tags['dataset']}-{run.params['model']}-{run.id[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"The report cannot be written to {folder}: {error.strerror}.") from None
    return folder


def metrics_table(networks: Mapping[str, Network]) -> pd.DataFrame:
    """The report's Table 2 of our networks, with the report's numbers beside it where the classes are CIFAR-10's."""
    predictions = {
        (name, split): network.predictions[split] for split in reversed(SPLITS) for name, network in networks.items()
    }
    table = classification.metrics_table(predictions)
    comparable = all(set(network.classes) == set(CIFAR10_CLASSES) for network in networks.values())
    return classification.beside_report(table) if comparable else table


def _outside(networks: Mapping[str, Network], report: Report) -> Iterator[Step]:
    """What is seen from outside: metrics, curves, confusions."""
    yield "metrics", partial(_add_metrics, networks, report)
    yield "convergence", partial(_add_convergence, networks, report)
    yield "confusions", partial(_add_confusion, networks, report)
    yield "ROC", partial(_add_roc, networks, report)


def _add_metrics(networks: Mapping[str, Network], report: Report) -> None:
    table = metrics_table(networks)
    text = "Precision, recall and F1 are averages over the classes, weighted by their size."
    if "report_accuracy" in table:
        text += " Beside each the number in Wik (2023)."
    else:
        text += " Wik's (2023) are of CIFAR-10, and stand beside ours only for its classes."
    report.add_table("metrics", "Accuracy, precision, recall and F1 (Table 2)", text, table)


def _add_convergence(networks: Mapping[str, Network], report: Report) -> None:
    table = convergence.convergence({name: network.history for name, network in networks.items()})
    figure = convergence.draw_convergence(table)
    report.add_figure("convergence", "Convergence (Figure 7)", convergence.caption(table), table, figure)


def _add_confusion(networks: Mapping[str, Network], report: Report) -> None:
    tables = {
        name: classification.confusion(*network.predictions["test"], network.classes)
        for name, network in networks.items()
    }
    text = classification.confusion_caption(tables)
    figure = classification.draw_confusion(tables)
    report.add_figure("confusion", "What is taken for what (Figure 13)", text, _joined(tables), figure)


def _add_roc(networks: Mapping[str, Network], report: Report) -> None:
    tables = {
        name: classification.roc(*network.predictions["test"], network.classes) for name, network in networks.items()
    }
    text = classification.roc_caption(tables)
    figure = classification.draw_roc(tables)
    report.add_figure("roc", "Each class against the rest (Figure 14)", text, _joined(tables), figure)


def _joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)


def _inside(
    network: Network, filters: Mapping[str, int], config: AnalysisConfig, image: SelectedImage | None, report: Report
) -> Iterator[Step]:
    """What is seen inside the CNN: one filter's kernel and maps over the epochs, and all maps of the last."""
    if image is None:
        return
    for layer, number in filters.items():
        epochs = network.epochs(config.epochs_every)
        yield f"kernel of {layer}", partial(_add_kernel, network, layer, number, epochs, report)
        yield f"maps of {layer}", partial(_add_maps, network, layer, number, epochs, image, report)
        for name in CONVOLUTIONS[layer]:
            yield f"all maps of {name}", partial(_add_grid, network, name, image, report)


def _add_kernel(network: Network, layer: str, number: int, epochs: Iterable[int], report: Report) -> None:
    weights = {epoch: network.weights(epoch)[f"{layer}.weight"].numpy() for epoch in epochs}
    table = kernels.kernel_evolution(weights, number)
    figure = kernels.draw_kernel_evolution(table, layer=layer, filter=number)
    heading = f"How a kernel of {layer} forms" + (" (Figure 9)" if layer == "conv1" else "")
    report.add_figure(f"kernel_{layer}_filter{number}", heading, kernels.caption(table, layer, number), table, figure)


def _add_maps(
    network: Network, layer: str, number: int, epochs: Iterable[int], image: SelectedImage, report: Report
) -> None:
    maps = {epoch: network.maps(epoch, image) for epoch in epochs}
    table = activations.activation_evolution(
        {name: {epoch: made[name][number] for epoch, made in maps.items()} for name in CONVOLUTIONS[layer]}
    )
    title = f"Filter {number} of {layer} on {image.description}"
    figure = activations.draw_activation_evolution(table, image=image.image.permute(1, 2, 0).numpy(), title=title)
    heading = f"Feature map, ReLU and max pooling of {layer}" + (" (Figures 10–12)" if layer == "conv1" else "")
    report.add_figure(f"maps_{layer}_filter{number}", heading, activations.caption(table), table, figure)


def _add_grid(network: Network, name: str, image: SelectedImage, report: Report) -> None:
    epoch = max(network.files)
    table = activations.activation_grid(network.maps(epoch, image)[name])
    title = f"{name} on {image.description}, epoch {epoch}"
    figure = activations.draw_activation_grid(table, layer=name, title=title)
    report.add_figure(
        f"grid_{name}", f"All maps of {name}", activations.grid_caption(table, name, epoch), table, figure
    )


def _publish(
    report: Report,
    networks: Mapping[str, Network],
    network: Network,
    image: SelectedImage | None,
    config: AnalysisConfig,
    context: Context,
) -> Path:
    """Writes the page, logs the folder to the retrained run, and records the analysis as a run below it."""
    run, store = network.run, context.store
    measured = metrics_table(networks)
    own = measured[(measured["model"] == network.name) & (measured["split"] == "test")].iloc[0]
    html = page(
        f"{network.name.upper()} on {run.tags['dataset']}",
        _lead(measured),
        _facts(networks, image),
        report.sections,
        {"The first table as Markdown": "metrics.md"},
    )
    path = report.folder / "index.html"
    path.write_text(html, encoding="utf-8")
    store.log_folder(run.id, report.folder, "report")
    kept = store.start(
        run.tags["dataset"],
        f"analysis of {run.name}",
        tags={"stage": "analysis", "model": network.name, "dataset": run.tags["dataset"], "retrain_run": run.id},
        params={
            **asdict(config),
            **{name: run.params[name] for name in DATA_PARAMS},
            **context.machine.params(),
            **provenance(),
        },
        parent=run.id,
    )
    store.log(kept, {f"test_{name}": float(own[name]) for name in ("accuracy", "precision", "recall", "f1")})
    store.finish(kept, "FINISHED", "complete")
    context.display.say(classification.to_markdown(measured))
    context.display.say(f"Report: {path}")
    context.say_pages(report=run_page(run, "report/index.html"))
    return path


def _lead(measured: pd.DataFrame) -> str:
    tests = measured[measured["split"] == "test"]
    said = " and ".join(
        f"the {name.upper()} {accuracy:.1%}" for name, accuracy in zip(tests["model"], tests["accuracy"], strict=True)
    )
    return f"Of {tests['images'].iloc[0]:,} test images that chose nothing, {said} are classified correctly."


def _facts(networks: Mapping[str, Network], image: SelectedImage | None) -> dict[str, str]:
    facts = {}
    for name, network in networks.items():
        params = network.run.params
        facts[f"{name.upper()} run"] = (
            f"{network.run.id}: learning rate {network.config.learning_rate:.3e}, weight decay "
            f"{network.config.weight_decay:.3e}, {network.config.epochs} epochs, seed {network.config.seed}, "
            f"{params['device']}, {params['precision']}, commit {params['git_commit'][:10]}"
        )
    return facts | ({"Image under study": image.description} if image else {})
