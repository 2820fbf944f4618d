"""The figures of the report: one table, with a row for each.

The page's outline, the names that `study analyse --only` takes, and what is missing and why all come from it.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from analysis.exhibit import Exhibit
from analysis.explanations import circuit
from analysis.filters import ablation, selectivity
from analysis.images import covariance, samples
from analysis.layers import operations
from analysis.results import calibration, confusion, kinds, per_class, proportions, roc, table2
from analysis.searches import network_sizes
from pipelines.report import compose, demonstrations, explanations, faithfulness, measurements, sensitivity
from pipelines.report.material import Material
from pipelines.report.needs import (
    CONVOLUTIONS,
    DATASET,
    EXACT,
    FAITHFULNESS,
    FOLLOWED,
    GROUPS,
    IMAGE,
    IS_CNN,
    PREDICTIONS,
    RECTIFIED,
    RETRAINED_SIZES,
    SEARCH,
    SIZES,
    TESTED,
    TRIALS,
    TWO_MODELS,
    WEIGHTS,
    Need,
    shown,
)
from study.architectures import CustomConfig, ModelConfig
from study.convolutions import maps_of
from study.errors import StudyError, unknown
from study.models import CNN


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
    layer: str = ""
    """The convolution whose filters it shows, in any network."""


REPORT = maps_of(CNN.layers)
"""The names of the maps of each convolution of the report's CNN."""
NUMBER = r" \((Figure|Table) \d+\)$"
"""At the end of a heading, the number that the figure has in the report."""
OF_FILTERS = (EXACT, CONVOLUTIONS, WEIGHTS, DATASET)
OF_LAYERS = (CONVOLUTIONS, IMAGE)

RESULTS, DATA, TRAINING = "How well the models classify", "The images", "How training went"
INSIDE, FILTERS = "What formed inside", "What each filter contributes"
EXPLAINED = "Why this answer"
SEARCHES, LAYERS = "The search and the experiments", "How the layers compute"


def _layer_figures(layer: str, names: Sequence[str]) -> list[Figure]:
    """The figures of a convolution: of all its filters, and of the one to follow."""
    kernel, image = (shown(layer), WEIGHTS), (shown(layer), WEIGHTS, IMAGE)
    maps = tuple(f"maps_{name}" for name in names[1:])
    figures = [
        Figure(f"kernels_{layer}", INSIDE, kernel, partial(compose.show_all_kernels, layer=layer)),
        Figure(f"kernel_{layer}", INSIDE, (*kernel, FOLLOWED), partial(compose.show_kernel, layer=layer)),
        Figure(f"maps_{layer}", INSIDE, image, partial(compose.show_maps, layer=layer), maps),
        *(Figure(f"grid_{name}", INSIDE, image, partial(compose.show_grid, name=name)) for name in names),
    ]
    if len(names) > 1:
        # Whether a filter fires is told by its ReLU.
        animation = Figure(f"animation_{layer}", INSIDE, image, partial(compose.show_animation, layer=layer))
        figures.insert(3, animation)
    return [replace(figure, layer=layer) for figure in figures]


FIGURES: tuple[Figure, ...] = (
    Figure("table2", RESULTS, (PREDICTIONS,), lambda m: table2.show(m.table2), ("table2_intervals",)),
    Figure("mcnemar", RESULTS, (TWO_MODELS,), lambda m: proportions.show_mcnemar(m.predictions)),
    Figure("classes", RESULTS, (TESTED,), lambda m: per_class.show(m.predictions, m.classes)),
    Figure("groups", RESULTS, (GROUPS,), lambda m: kinds.show(m.predictions, m.classes)),
    Figure("confusion", RESULTS, (TESTED,), lambda m: confusion.show(m.predictions, m.classes)),
    Figure("roc", RESULTS, (TESTED,), lambda m: roc.show(m.predictions, m.classes)),
    Figure("calibration", RESULTS, (TESTED,), lambda m: calibration.show(m.predictions)),
    Figure("samples", DATA, (DATASET,), lambda m: samples.show(*measurements.pixels(m.data.train), m.data.classes)),
    Figure("covariance", DATA, (DATASET,), lambda m: covariance.show(m.covariance), ("correlation",)),
    Figure("duplicates", DATA, (DATASET,), compose.show_duplicates, ("duplicates_accuracy",)),
    Figure("convergence", TRAINING, (), compose.show_convergence, ("seeds",)),
    Figure("kernel_convergence", TRAINING, (RECTIFIED, WEIGHTS, DATASET, IMAGE), compose.show_kernel_convergence),
    Figure("image", INSIDE, OF_LAYERS, lambda m: samples.show_image(m.image.pixels, m.image.description)),
    *(figure for layer, maps in REPORT.items() for figure in _layer_figures(layer, maps)),
    Figure("explorer", INSIDE, (EXACT, CONVOLUTIONS, WEIGHTS, IMAGE), compose.show_explorer),
    Figure("filter_health", FILTERS, (RECTIFIED, WEIGHTS, DATASET), compose.show_health),
    Figure(
        "ablation",
        FILTERS,
        OF_FILTERS,
        lambda m: ablation.show(m.ablated.effects),
        ("ablation_auc_lost", "ablation_accuracy_lost"),
    ),
    Figure("ablation_image", FILTERS, (*OF_FILTERS, IMAGE), compose.show_image_ablation),
    Figure("selectivity", FILTERS, OF_FILTERS, lambda m: selectivity.show(m.ablated.selectivity, m.classes)),
    *(Figure(f"patches_{layer}", FILTERS, OF_FILTERS, partial(compose.show_patches, layer=layer)) for layer in REPORT),
    Figure(
        "circuit",
        EXPLAINED,
        (*OF_FILTERS, IMAGE),
        lambda m: circuit.show(explanations.decision(m.network, m.image, m.data.train)),
    ),
    Figure("confusions_by_filter", EXPLAINED, (*OF_FILTERS, TESTED), compose.show_confusions),
    Figure(
        "sensitivity",
        EXPLAINED,
        (WEIGHTS, DATASET),
        lambda m: sensitivity.show(m.networks, m.data.test, m.device, m.cache),
        ("sensitivity_epochs", "sensitivity_maps"),
    ),
    Figure(
        "faithfulness",
        EXPLAINED,
        (FAITHFULNESS,),
        lambda m: faithfulness.show(m.network),
        ("faithfulness_scores", "faithfulness_checks"),
    ),
    Figure("search_heatmap", SEARCHES, (SEARCH,), compose.show_heatmap),
    Figure("search_importance", SEARCHES, (TRIALS,), compose.show_importance),
    Figure("search_pareto", SEARCHES, (SIZES,), compose.show_pareto),
    Figure(
        "network_sizes",
        SEARCHES,
        (RETRAINED_SIZES,),
        lambda m: network_sizes.show(m.retrained),
        ("network_sizes_seeds",),
    ),
    Figure("dead_filters", SEARCHES, (IS_CNN,), compose.show_dead_filters),
    Figure("winner", SEARCHES, (), compose.show_winner),
    Figure("recipe", SEARCHES, (), compose.show_recipe),
    Figure("architecture", LAYERS, (), compose.show_architecture),
    Figure("concept_convolution", LAYERS, OF_LAYERS, compose.show_convolution),
    Figure("concept_padding", LAYERS, OF_LAYERS, lambda m: operations.show_padding(demonstrations.padding(m.patch))),
    Figure("concept_dilation", LAYERS, OF_LAYERS, lambda m: operations.show_dilation(demonstrations.dilation(m.patch))),
    Figure("concept_stride", LAYERS, OF_LAYERS, lambda m: operations.show_stride(demonstrations.stride(m.patch))),
    Figure("concept_pooling", LAYERS, OF_LAYERS, compose.show_pooling),
    Figure("worked_conv1", LAYERS, (EXACT, shown("conv1"), WEIGHTS, IMAGE), compose.show_worked),
)
"""All figures of the report's networks, in the order of the page."""


def rows_of(model: ModelConfig, convolutions: Mapping[str, Sequence[str]]) -> tuple[Figure, ...]:
    """All figures for a network, in the order of the page.

    Args:
        model: its settings.
        convolutions: the names of the maps of each convolution that is shown, of a network that is not the report's.
    """
    if not isinstance(model, CustomConfig):
        return FIGURES
    place = next(number for number, figure in enumerate(FIGURES) if figure.layer)
    others = [figure for figure in FIGURES if not figure.layer]
    own = [figure for layer, names in convolutions.items() for figure in _layer_figures(layer, names)]
    return (*others[:place], *own, *others[place:])


def names() -> list[str]:
    """The names of all figures of the report's networks."""
    return [figure.name for figure in FIGURES]


def parts() -> list[str]:
    """The parts of the page."""
    return list(dict.fromkeys(figure.part for figure in FIGURES))


def names_of(files: Collection[str], rows: Collection[Figure] = ()) -> tuple[str, ...]:
    """The names of the figures that these files or tables belong to; a figure may also be given by its name.

    Args:
        files: names of files or figures.
        rows: the figures; by default those of the report's networks.

    Raises:
        StudyError: for a file that no figure has.
    """
    rows = rows or FIGURES
    owners = {file: _owner(file, rows) for file in files}
    for file, name in owners.items():
        if name is None:
            raise unknown("figure", file, _owners(rows))
    return tuple(dict.fromkeys(name for name in owners.values() if name))


def require_possible(files: Collection[str]) -> None:
    """Checks that each file belongs to a figure of some network, before a run, and with it the network, is chosen.

    Raises:
        StudyError: for one that no network has.
    """
    for file in files:
        # Other networks have figures of further layers.
        if _owner(file, FIGURES) is None and _owner(re.sub(r"(conv|relu|pool)\d+", r"\g<1>1", file), FIGURES) is None:
            raise unknown("figure", file, _owners(FIGURES))


def _owner(file: str, rows: Collection[Figure]) -> str | None:
    """The name of the figure that a file, or a figure's name, belongs to."""
    return _owners(rows).get(re.sub(r"_filter\d+$", "", file))


def _owners(rows: Collection[Figure]) -> dict[str, str]:
    """The name of the figure by each name that `--only` accepts."""
    return {name: figure.name for figure in rows for name in (figure.name, *figure.files)}


def available(material: Material) -> list[Figure]:
    """The figures that apply to the run, including those that lack something."""
    return [figure for figure in _rows(material) if _applies(figure, material) and not _inherent(figure, material)]


def inapplicable(material: Material) -> dict[str, list[str]]:
    """The figures that this network cannot have, by the reason."""
    names: dict[str, list[str]] = {}
    for figure in _rows(material):
        if reason := _inherent(figure, material):
            names.setdefault(reason, []).append(figure.name)
    return names


def _rows(material: Material) -> tuple[Figure, ...]:
    return rows_of(material.network.config.model, material.convolutions)


def _inherent(figure: Figure, material: Material) -> str:
    """Why the network cannot have a figure; empty where it can."""
    unmet = (need for need in figure.needs if need.is_inherent and not need.met(material))
    return next((need.reason(material) for need in unmet if need.reason), "")


def _applies(figure: Figure, material: Material) -> bool:
    return all(need.met(material) for need in figure.needs if need.reason is None)


def chosen(material: Material, only: Collection[str]) -> list[Figure]:
    """The available figures that `only` names; all where it names none.

    Raises:
        StudyError: for one that this run does not have.
    """
    by_name = {figure.name: figure for figure in available(material)}
    reasons = {name: f" ({reason})" for reason, names in inapplicable(material).items() for name in names}
    for name in only:
        if name not in by_name:
            raise StudyError(f"This run has no {name}{reasons.get(name, '')}: choose one of {', '.join(by_name)}.")
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
    made = [shown] if isinstance(shown, Exhibit) else list(shown)
    if material.is_of_report:
        return made
    return [replace(exhibit, heading=re.sub(NUMBER, "", exhibit.heading)) for exhibit in made]
