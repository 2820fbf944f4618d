"""The figures of the report: one table, with a row for each.

The page's outline, the names that `study analyse --only` takes, and what is missing and why all come from it.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from analysis.exhibit import Exhibit
from analysis.explorer import exhibit as explorer
from analysis.explorer.page import MAPS
from analysis.filters import ablation, health, image_ablation, kernel_convergence, patches, selectivity
from analysis.images import covariance, duplicates, samples
from analysis.inside import activations, animation, kernels
from analysis.layers import architecture, operations, pooling, worked_example
from analysis.results import calibration, confusion, intervals, kinds, per_class, proportions, roc, without_duplicates
from analysis.searches import dead_filters, heatmap, search, winner
from analysis.searches.paired_seeds import not_measured
from analysis.training import convergence
from pipelines.report import demonstrations, measurements, tracked
from pipelines.report.material import Material
from pipelines.report.network import no_weights
from study.duplicates import find_duplicates
from study.errors import StudyError, unknown
from study.probes import layer_table


@dataclass(frozen=True, eq=False)
class Need:
    """A condition that a figure needs to be made."""

    met: Callable[[Material], bool]
    reason: Callable[[Material], str] | None = None
    """Why it is not met; without a reason, the figure does not apply to such a run and is left out silently."""


@dataclass(frozen=True)
class Figure:
    """A figure of the report, a row of the table."""

    name: str
    part: str
    """The part of the page that shows it."""
    needs: tuple[Need, ...]
    show: Callable[[Material], Exhibit | Iterable[Exhibit]]
    """Collects the figure's numbers, and has a module of `analysis` make the exhibit."""
    files: tuple[str, ...] = ()
    """Further names of its files, which `--only` accepts too."""


def _no_predictions(_: Material) -> str:
    return "No predictions of the test images were kept."


WEIGHTS = Need(lambda m: bool(m.network.files), lambda m: no_weights(m.network.run))
PREDICTIONS = Need(lambda m: bool(m.kept_predictions), _no_predictions)
TESTED = Need(lambda m: bool(m.predictions), _no_predictions)
TWO_MODELS = Need(lambda m: len(m.predictions) > 1)
GROUPS = Need(lambda m: bool(m.predictions) and kinds.has_groups(m.classes))
DATASET = Need(lambda m: m.dataset is not None, lambda m: m.no_images)
IMAGE = Need(lambda m: m.selected is not None, lambda m: m.no_images)
CONVOLUTIONS = Need(lambda m: bool(m.filters))
LAYER = {layer: Need(lambda m, layer=layer: layer in m.filters) for layer in MAPS}  # type: ignore[misc]
CNN = Need(lambda m: m.network.name == "cnn")
SEARCH = Need(lambda m: bool(m.own_searches))
TRIALS = Need(lambda m: bool(m.own_searches) and m.own_searches[0].trials is not None)
OF_FILTERS = (CONVOLUTIONS, WEIGHTS, DATASET)
OF_LAYERS = (CONVOLUTIONS, IMAGE)

RESULTS, DATA, TRAINING = "What the models reach", "What the data are", "How training went"
INSIDE, FILTERS = "What formed inside", "What each filter is for"
SEARCHES, LAYERS = "The search and the experiments", "How the layers compute"


def _all_kernels(m: Material, layer: str) -> Exhibit:
    show = {"conv1": kernels.show_sheet, "conv2": kernels.show_mosaic}[layer]
    last = m.network.last
    return show(m.network.layer_weights(layer, [last])[last], layer, last)


def _kernel(m: Material, layer: str) -> Exhibit:
    return kernels.show_evolution(m.network.layer_weights(layer, m.epochs), layer, m.filters[layer])


def _maps(m: Material, layer: str) -> Exhibit:
    maps = measurements.filter_maps(m.network, layer, m.filters[layer], m.epochs, m.image)
    return activations.show_evolution(
        maps,
        layer,
        m.filters[layer],
        image=m.image.pixels,
        description=m.image.description,
        per_map=m.config.per_map,
    )


def _animation(m: Material, layer: str) -> Exhibit:
    return animation.show(
        m.network.layer_weights(layer),
        measurements.filter_maps(m.network, layer, m.filters[layer], m.network.epochs(1), m.image),
        m.network.accuracy,
        layer,
        m.filters[layer],
        image=m.image.pixels,
        description=m.image.description,
    )


def _grid(m: Material, name: str) -> Exhibit:
    maps, image = m.network.maps(m.network.last, m.image)[name], m.image.description
    return activations.show_grid(maps, name, m.network.last, description=image, per_map=m.config.per_map)


def _layer_figures(layer: str) -> Iterable[Figure]:
    """The figures of a convolution: of all its filters, and of the one to follow."""
    kernel, image = (LAYER[layer], WEIGHTS), (LAYER[layer], WEIGHTS, IMAGE)
    yield Figure(f"kernels_{layer}", INSIDE, kernel, lambda m: _all_kernels(m, layer))
    yield Figure(f"kernel_{layer}", INSIDE, kernel, lambda m: _kernel(m, layer))
    yield Figure(f"maps_{layer}", INSIDE, image, lambda m: _maps(m, layer))
    yield Figure(f"animation_{layer}", INSIDE, image, lambda m: _animation(m, layer))
    for name in MAPS[layer]:
        yield Figure(f"grid_{name}", INSIDE, image, partial(_grid, name=name))


def _explorer(m: Material) -> Exhibit:
    trace, pictures = measurements.trace(m.network, m.images), measurements.pictures(m.images)
    title = f"{m.network.name.upper()} on {m.network.run.dataset_key}: every filter, epoch by epoch"
    try:
        return explorer.show(trace, pictures, m.classes, title=title, start=next(iter(m.filters.items())))
    except ValueError as error:
        raise StudyError(f"The explorer cannot be written. {error}") from None


def _duplicates(m: Material) -> Iterable[Exhibit]:
    data = replace(m.data, config=m.network.run.data_config)
    copies = find_duplicates(data.train, data.test, data.splits.validation_rows)
    images = pd.DataFrame(
        {"group": copies.groups, "image": copies.names, "class": [data.classes[label] for label in copies.labels]}
    )
    yield duplicates.show(copies.counts, images, len(data.train) + len(data.test))
    # With another split seed the test images differ.
    predictions = {
        model: kept
        for model, kept in m.predictions.items()
        if m.networks[model].run.data_config.split_seed == data.config.split_seed
    }
    if predictions and copies.is_doubtful.any():
        yield without_duplicates.show(copies.is_doubtful, predictions)


def _kernel_convergence(m: Material) -> Exhibit:
    weights = {layer: m.network.layer_weights(layer) for layer in measurements.layers(m.network)}
    return kernel_convergence.show(weights, m.activity)


def _health(m: Material) -> Exhibit:
    removal = measurements.removal(m.network, m.data.test, m.device, m.activity)
    return health.show(m.activity, len(m.data.test), removal)


def _image_ablation(m: Material) -> Exhibit:
    logits, without = m.ablated.logits(m.image.image[None])
    return image_ablation.show(
        logits[0],
        {layer: changed[:, 0] for layer, changed in without.items()},
        m.classes,
        label=m.image.label,
        by=m.ablated.by,
        image=m.image.pixels,
        description=m.image.description,
    )


def _patches(m: Material, layer: str) -> Exhibit:
    test = m.data.test
    images, labels = test.images.numpy(), test.labels.numpy()
    selectivity, effects = m.ablated.selectivity, m.ablated.effects
    return patches.show(layer, m.ablated.responses(layer), images, labels, m.classes, selectivity, effects)


def _heatmap(m: Material) -> Exhibit:
    store, own = m.network.store, m.own_searches[0]
    shown = [own, *tracked.beside(own, m.searches)[:1]]
    grids = any(run.sampler == "grid" for run in shown)
    return heatmap.show(
        {tracked.title(run): tracked.trials(store, run) for run in shown},
        differences=tracked.differences(shown),
        grid_command="" if grids else tracked.grid_command(own, m.where),
    )


def _importance(m: Material) -> Exhibit:
    store, own = m.network.store, m.own_searches[0]
    return search.show_importance(tracked.importance(store, own), tracked.trials(store, own))


def _experiment(m: Material, name: str, heading: str) -> Iterable[Exhibit]:
    run, model = m.network.run, m.network.name
    parent = tracked.latest_experiment(m.network.store, name, run.dataset_key, model)
    if parent:
        return tracked.experiment_exhibits(m.network.store, parent)
    command = tracked.experiment_command(name, run.dataset, model, m.where)
    return [not_measured(name, heading, run.dataset_key, command)]


def _architecture(m: Material) -> Exhibit:
    networks = m.networks.values()
    return architecture.show(
        [layer_table.architecture(network.config.model, classes=len(network.classes)) for network in networks]
    )


def _convolution(m: Material) -> Exhibit:
    panels, places = demonstrations.convolution(m.patch), demonstrations.PLACES
    return operations.show_convolution(panels, m.image.pixels, m.patch.corner, places)


FIGURES: tuple[Figure, ...] = (
    Figure("table2", RESULTS, (PREDICTIONS,), lambda m: intervals.show(m.table2), ("table2_intervals",)),
    Figure("mcnemar", RESULTS, (TWO_MODELS,), lambda m: proportions.show_mcnemar(m.predictions)),
    Figure("classes", RESULTS, (TESTED,), lambda m: per_class.show(m.predictions, m.classes)),
    Figure("groups", RESULTS, (GROUPS,), lambda m: kinds.show(m.predictions, m.classes)),
    Figure("confusion", RESULTS, (TESTED,), lambda m: confusion.show(m.predictions, m.classes)),
    Figure("roc", RESULTS, (TESTED,), lambda m: roc.show(m.predictions, m.classes)),
    Figure("calibration", RESULTS, (TESTED,), lambda m: calibration.show(m.predictions)),
    Figure("samples", DATA, (DATASET,), lambda m: samples.show(*measurements.pixels(m.data.train), m.data.classes)),
    Figure("covariance", DATA, (DATASET,), lambda m: covariance.show(m.covariance), ("correlation",)),
    Figure("duplicates", DATA, (DATASET,), _duplicates, ("duplicates_accuracy",)),
    Figure(
        "convergence", TRAINING, (), lambda m: convergence.show(*tracked.seed_tables(m.networks, m.where)), ("seeds",)
    ),
    Figure("kernel_convergence", TRAINING, (WEIGHTS, DATASET), _kernel_convergence),
    Figure("image", INSIDE, OF_LAYERS, lambda m: samples.show_image(m.image.pixels, m.image.description)),
    *_layer_figures("conv1"),
    *_layer_figures("conv2"),
    Figure("explorer", INSIDE, (CONVOLUTIONS, WEIGHTS, IMAGE), _explorer),
    Figure("filter_health", FILTERS, (WEIGHTS, DATASET), _health),
    Figure(
        "ablation",
        FILTERS,
        OF_FILTERS,
        lambda m: ablation.show(m.ablated.effects),
        ("ablation_auc_lost", "ablation_accuracy_lost"),
    ),
    Figure("ablation_image", FILTERS, (*OF_FILTERS, IMAGE), _image_ablation),
    Figure("selectivity", FILTERS, OF_FILTERS, lambda m: selectivity.show(m.ablated.selectivity, m.classes)),
    Figure("patches_conv1", FILTERS, OF_FILTERS, lambda m: _patches(m, "conv1")),
    Figure("patches_conv2", FILTERS, OF_FILTERS, lambda m: _patches(m, "conv2")),
    Figure("search_heatmap", SEARCHES, (SEARCH,), _heatmap),
    Figure("search_importance", SEARCHES, (TRIALS,), _importance),
    Figure("dead_filters", SEARCHES, (CNN,), lambda m: _experiment(m, "dead-filters", dead_filters.HEADING)),
    Figure("winner", SEARCHES, (), lambda m: _experiment(m, "winner", winner.HEADING)),
    Figure("architecture", LAYERS, (), _architecture),
    Figure("concept_convolution", LAYERS, OF_LAYERS, _convolution),
    Figure("concept_padding", LAYERS, OF_LAYERS, lambda m: operations.show_padding(demonstrations.padding(m.patch))),
    Figure("concept_dilation", LAYERS, OF_LAYERS, lambda m: operations.show_dilation(demonstrations.dilation(m.patch))),
    Figure("concept_stride", LAYERS, OF_LAYERS, lambda m: operations.show_stride(demonstrations.stride(m.patch))),
    Figure("concept_pooling", LAYERS, OF_LAYERS, lambda m: pooling.show(*demonstrations.pooling(m.patch))),
    Figure(
        "worked_conv1",
        LAYERS,
        (LAYER["conv1"], WEIGHTS, IMAGE),
        lambda m: worked_example.show(**demonstrations.worked_value(m.network, m.filters["conv1"], m.image)),
    ),
)
"""All figures, in the order of the page."""


def names() -> list[str]:
    """The names of all figures."""
    return [figure.name for figure in FIGURES]


def parts() -> list[str]:
    """The parts of the page."""
    return list(dict.fromkeys(figure.part for figure in FIGURES))


def names_of(files: Collection[str]) -> tuple[str, ...]:
    """The names of the figures that these files or tables belong to; a figure may also be given by its name.

    Raises:
        StudyError: for a file that no figure has.
    """
    known = {name: figure.name for figure in FIGURES for name in (figure.name, *figure.files)}
    owners = {file: known.get(re.sub(r"_filter\d+$", "", file)) for file in files}
    for file, name in owners.items():
        if name is None:
            raise unknown("figure", file, names())
    return tuple(dict.fromkeys(name for name in owners.values() if name))


def available(material: Material) -> list[Figure]:
    """The figures that apply to the run, including those that lack something."""
    return [figure for figure in FIGURES if all(need.met(material) for need in figure.needs if need.reason is None)]


def chosen(material: Material, only: Collection[str]) -> list[Figure]:
    """The available figures that `only` names; all where it names none.

    Raises:
        StudyError: for one that this run does not have.
    """
    by_name = {figure.name: figure for figure in available(material)}
    for name in only:
        if name not in by_name:
            raise StudyError(f"This run has no {name}: choose one of {', '.join(by_name)}.")
    return [figure for name, figure in by_name.items() if not only or name in only]


def exhibits(figure: Figure, material: Material) -> list[Exhibit]:
    """Makes a figure.

    Raises:
        StudyError: where something that it needs is missing.
    """
    for need in figure.needs:
        if need.reason and not need.met(material):
            raise StudyError(need.reason(material))
    shown = figure.show(material)
    return [shown] if isinstance(shown, Exhibit) else list(shown)
