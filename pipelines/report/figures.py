"""The figures of the report: one table, with a row for each.

The page's outline, the names that `study analyse --only` takes, and what is missing and why all come from it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import pandas as pd

from analysis.exhibit import Exhibit
from analysis.explorer.page import MAPS
from analysis.images import duplicates
from analysis.results import kinds, without_duplicates
from pipelines.report import figures_ablation as ablation
from pipelines.report import figures_dataset as dataset
from pipelines.report import figures_experiments as experiments
from pipelines.report import figures_explorer as explorer
from pipelines.report import figures_filters as filters
from pipelines.report import figures_maps as maps
from pipelines.report import figures_search as search
from pipelines.report import figures_statistics as statistics
from pipelines.report.material import Material
from pipelines.report.network import Network, no_weights
from study.data import Dataset
from study.duplicates import find_duplicates
from study.errors import StudyError

Step = Callable[[], Iterable[Exhibit]]
"""Makes the exhibits of a figure: a partial, whose arguments are all that it depends on."""


@dataclass(frozen=True, eq=False)
class Need:
    """What a figure cannot be made without."""

    met: Callable[[Material], bool]
    reason: Callable[[Material], str] | None = None
    """Why it is missing; without a reason, a run that lacks it simply has no such figure."""


@dataclass(frozen=True)
class Figure:
    """A row of the table."""

    name: str
    part: str
    """The part of the page that it stands in."""
    needs: tuple[Need, ...]
    step: Callable[[Material], Step]
    files: tuple[str, ...] = ()
    """Other names of its files, which `--only` takes too."""


def _no_predictions(_: Material) -> str:
    return "No predictions of the test images were kept."


WEIGHTS = Need(lambda m: bool(m.network.files), lambda m: no_weights(m.network.run))
PREDICTIONS = Need(lambda m: bool(statistics.predicted(m.networks)), _no_predictions)
TESTED = Need(lambda m: bool(m.tested), _no_predictions)
TWO_MODELS = Need(lambda m: len(m.tested) > 1)
GROUPS = Need(lambda m: bool(m.tested) and all(kinds.has_groups(network.classes) for network in m.tested.values()))
DATASET = Need(lambda m: m.dataset is not None, lambda m: m.no_images)
IMAGE = Need(lambda m: m.selected is not None, lambda m: m.no_images)
CONVOLUTIONS = Need(lambda m: bool(m.filters))
LAYER = {layer: Need(lambda m, layer=layer: layer in m.filters) for layer in MAPS}  # type: ignore[misc]
CNN = Need(lambda m: m.network.name == "cnn")
SEARCH = Need(lambda m: bool(m.own_searches))
TRIALS = Need(lambda m: bool(m.own_searches) and m.own_searches[0].trials is not None)

RESULTS, DATA, TRAINING = "What the models reach", "What the data are", "How training went"
INSIDE, FILTERS = "What formed inside", "What each filter is for"
SEARCHES, LAYERS = "The search and the experiments", "How the layers compute"


def _of_layer(layer: str) -> Iterable[Figure]:
    """The figures that follow a filter of a convolution, and those of all its filters."""
    sheet = {"conv1": dataset.show_sheet, "conv2": dataset.show_mosaic}[layer]
    kernel, image = (LAYER[layer], WEIGHTS), (LAYER[layer], WEIGHTS, IMAGE)
    yield Figure(f"kernels_{layer}", INSIDE, kernel, lambda m: partial(sheet, m.network))
    yield Figure(
        f"kernel_{layer}",
        INSIDE,
        kernel,
        lambda m: partial(maps.show_kernel, m.network, layer, m.filters[layer], m.epochs),
    )
    yield Figure(
        f"maps_{layer}",
        INSIDE,
        image,
        lambda m: partial(maps.show_maps, m.network, layer, m.filters[layer], m.epochs, m.image, m.config.per_map),
    )
    yield Figure(
        f"animation_{layer}",
        INSIDE,
        image,
        lambda m: partial(explorer.show_animation, m.network, layer, m.filters[layer], m.image),
    )
    for name in MAPS[layer]:
        yield _grid(name, image)


def _grid(name: str, needs: tuple[Need, ...]) -> Figure:
    step = lambda m: partial(maps.show_grid, m.network, name, m.image, m.config.per_map)  # noqa: E731
    return Figure(f"grid_{name}", INSIDE, needs, step)


def _concept(name: str, show: Callable[..., Iterable[Exhibit]], *more: str) -> Figure:
    return Figure(f"concept_{name}", LAYERS, (CONVOLUTIONS, IMAGE), lambda m: partial(show, m.image, *more))


def _patches(layer: str) -> Figure:
    step = lambda m: partial(ablation.show_patches, m.ablated, layer)  # noqa: E731
    return Figure(f"patches_{layer}", FILTERS, (CONVOLUTIONS, WEIGHTS, DATASET), step)


def _experiment(name: str, *needs: Need) -> Figure:
    return Figure(
        name.replace("-", "_"),
        SEARCHES,
        needs,
        lambda m: partial(
            experiments.show_latest,
            m.network.store,
            name,
            m.network.run.dataset_key,
            m.network.name,
            m.where,
            m.network.run.dataset,
        ),
    )


def _duplicates(data: Dataset, network: Network, tested: statistics.Networks) -> Iterable[Exhibit]:
    validation_rows = data.splits(network.run.data_config).validation_rows
    found = find_duplicates(data.train, data.test, validation_rows)
    images = pd.DataFrame(
        {"group": found.groups, "image": found.names, "class": [data.classes[label] for label in found.labels]}
    )
    # Another split holds other test images.
    seed = network.run.data_config.split_seed
    same = {name: other for name, other in tested.items() if other.run.data_config.split_seed == seed}
    predictions = statistics.predictions_of(same)
    yield duplicates.show(found.counts, images, len(data.train) + len(data.test))
    if predictions and found.is_doubtful.any():
        yield without_duplicates.show(found.is_doubtful, predictions)


OF_FILTERS = (CONVOLUTIONS, WEIGHTS, DATASET)

FIGURES: tuple[Figure, ...] = (
    Figure(
        "table2", RESULTS, (PREDICTIONS,), lambda m: partial(statistics.show_answer, m.networks), ("table2_intervals",)
    ),
    Figure("mcnemar", RESULTS, (TWO_MODELS,), lambda m: partial(statistics.show_mcnemar, m.tested)),
    Figure("classes", RESULTS, (TESTED,), lambda m: partial(statistics.show_classes, m.tested)),
    Figure("groups", RESULTS, (GROUPS,), lambda m: partial(statistics.show_groups, m.tested)),
    Figure("confusion", RESULTS, (TESTED,), lambda m: partial(statistics.show_confusion, m.tested)),
    Figure("roc", RESULTS, (TESTED,), lambda m: partial(statistics.show_roc, m.tested)),
    Figure("calibration", RESULTS, (TESTED,), lambda m: partial(statistics.show_calibration, m.tested)),
    Figure("samples", DATA, (DATASET,), lambda m: partial(dataset.show_samples, m.data)),
    Figure("covariance", DATA, (DATASET,), lambda m: partial(dataset.show_covariance, m.data), ("correlation",)),
    Figure(
        "duplicates",
        DATA,
        (DATASET,),
        lambda m: partial(_duplicates, m.data, m.network, m.tested),
        ("duplicates_accuracy",),
    ),
    Figure(
        "convergence",
        TRAINING,
        (),
        lambda m: partial(statistics.show_convergence, m.networks, m.network.store, m.where),
        ("seeds",),
    ),
    Figure(
        "kernel_convergence",
        TRAINING,
        (WEIGHTS, DATASET),
        lambda m: partial(filters.show_kernel_convergence, m.network, m.activity),
    ),
    Figure("image", INSIDE, (CONVOLUTIONS, IMAGE), lambda m: partial(dataset.show_image, m.image)),
    *_of_layer("conv1"),
    *_of_layer("conv2"),
    Figure(
        "explorer",
        INSIDE,
        (CONVOLUTIONS, WEIGHTS, IMAGE),
        lambda m: partial(explorer.show_explorer, m.network, next(iter(m.filters.items())), m.images),
    ),
    Figure(
        "filter_health",
        FILTERS,
        (WEIGHTS, DATASET),
        lambda m: partial(filters.show_health, m.network, m.data.test, m.device, m.activity),
    ),
    Figure(
        "ablation",
        FILTERS,
        OF_FILTERS,
        lambda m: partial(ablation.show_effects, m.ablated),
        ("ablation_auc_lost", "ablation_accuracy_lost"),
    ),
    Figure(
        "ablation_image",
        FILTERS,
        (*OF_FILTERS, IMAGE),
        lambda m: partial(ablation.show_image_effects, m.ablated, m.image),
    ),
    Figure("selectivity", FILTERS, OF_FILTERS, lambda m: partial(ablation.show_selectivity, m.ablated)),
    *map(_patches, ("conv1", "conv2")),
    Figure(
        "search_heatmap",
        SEARCHES,
        (SEARCH,),
        lambda m: partial(search.show_heatmap, m.network.store, m.own_searches[0], m.searches, m.where),
    ),
    Figure(
        "search_importance",
        SEARCHES,
        (TRIALS,),
        lambda m: partial(search.show_importance, m.network.store, m.own_searches[0]),
    ),
    _experiment("dead-filters", CNN),
    _experiment("winner"),
    Figure("architecture", LAYERS, (), lambda m: partial(dataset.show_architecture, m.networks)),
    _concept("convolution", dataset.show_convolution),
    _concept("padding", dataset.show_padding),
    _concept("dilation", dataset.show_setting, "dilation"),
    _concept("stride", dataset.show_setting, "stride"),
    _concept("pooling", dataset.show_pooling),
    Figure(
        "worked_conv1",
        LAYERS,
        (LAYER["conv1"], WEIGHTS, IMAGE),
        lambda m: partial(dataset.show_worked, m.network, m.filters["conv1"], m.image),
    ),
)
"""All figures, in the order in which they are read."""


def steps(material: Material) -> dict[str, Step]:
    """What makes each figure that the run can have; for one that something is missing for, what says so."""
    return {figure.name: _step(figure, material) for figure in FIGURES if _offered(figure, material)}


def _offered(figure: Figure, material: Material) -> bool:
    return all(need.met(material) for need in figure.needs if need.reason is None)


def _step(figure: Figure, material: Material) -> Step:
    for need in figure.needs:
        if need.reason and not need.met(material):
            return partial(_refuse, need.reason(material))
    return figure.step(material)


def _refuse(reason: str) -> NoReturn:
    raise StudyError(reason)
