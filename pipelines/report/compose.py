"""Collects the numbers of a figure, where that takes more than its row in `figures`, and makes the exhibit."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from analysis.drawing.wording import model_label
from analysis.exhibit import Exhibit
from analysis.explanations import confusions
from analysis.explorer import exhibit as explorer
from analysis.filters import health, image_ablation, kernel_convergence, patches
from analysis.images import duplicates
from analysis.inside import activations, animation, kernel_sheets, kernels
from analysis.layers import architecture, operations, pooling, worked_example
from analysis.results import without_duplicates
from analysis.searches import dead_filters, heatmap, pareto, recipe, search, winner
from analysis.searches.paired_seeds import not_measured
from analysis.training import convergence
from pipelines.report import demonstrations, explanations, measurements, tracked
from pipelines.report.material import Material
from study.architectures import CNNConfig
from study.duplicates import find_duplicates
from study.errors import StudyError
from study.probes import layer_table


def show_all_kernels(m: Material, layer: str) -> Exhibit:
    """All kernels of a layer after the last epoch."""
    last = m.network.last
    weights = m.network.layer_weights(layer, [last])[last]
    show = kernel_sheets.show_sheet if kernel_sheets.are_coloured(weights) else kernel_sheets.show_mosaic
    return show(weights, layer, last)


def show_kernel(m: Material, layer: str) -> Iterable[Exhibit]:
    """The followed kernels of a layer over the epochs."""
    weights = m.network.layer_weights(layer, m.epochs)
    for filter, why in m.followed(layer).items():
        yield kernels.show_evolution(weights, layer, filter, followed=why)


def show_maps(m: Material, layer: str) -> Iterable[Exhibit]:
    """The followed filters' maps of the image over the epochs."""
    for filter, why in m.followed(layer).items():
        maps, pixels, description = m.filter_maps(layer, filter, m.epochs), m.image.pixels, m.image.description
        yield from activations.show_evolution(maps, layer, filter, image=pixels, description=description, followed=why)


def show_animation(m: Material, layer: str) -> Iterable[Exhibit]:
    """The followed filters' kernels and maps, animated over all epochs."""
    weights = m.network.layer_weights(layer)
    for filter in m.followed(layer):
        yield animation.show(
            weights,
            m.filter_maps(layer, filter, m.network.epochs(1)),
            m.network.accuracy,
            layer,
            filter,
            image=m.image.pixels,
            description=m.image.description,
        )


def show_grid(m: Material, name: str) -> Exhibit:
    """All maps of the image with this name, e.g. ``relu1``, after the last epoch."""
    maps, image = m.maps(m.network.last)[name], m.image.description
    return activations.show_grid(maps, name, m.network.last, description=image, per_map=m.config.per_map)


def show_explorer(m: Material) -> Exhibit:
    """The page on which every filter and epoch can be chosen."""
    trace, pictures = measurements.trace(m.network, m.images), measurements.pictures(m.images)
    if m.dataset:
        trace = replace(trace, shares=explanations.explorer_shares(m.network, m.images, m.dataset.train))
    title = f"{model_label(m.network.name)} on {m.network.images}: every filter over the epochs"
    try:
        return explorer.show(trace, pictures, m.classes, title=title, start=m.start)
    except ValueError as error:
        raise StudyError(f"The explorer cannot be written. {error}") from None


def show_duplicates(m: Material) -> Iterable[Exhibit]:
    """Images that occur more than once, and the accuracy without them."""
    data = replace(m.data, config=m.network.run.data_config)
    copies = find_duplicates(data.train, data.test, data.splits.validation_rows)
    images = pd.DataFrame(
        {"group": copies.groups, "image": copies.names, "class": [data.classes[label] for label in copies.labels]}
    )
    if data.files:
        images["file"] = [data.file_of(name) for name in copies.names]
    yield duplicates.show(copies.counts, images, len(data.train) + len(data.test))
    # With another split seed the test images differ.
    predictions = {
        model: kept
        for model, kept in m.predictions.items()
        if m.networks[model].run.data_config.split_seed == data.config.split_seed
    }
    if predictions and copies.is_doubtful.any():
        yield without_duplicates.show(copies.is_doubtful, predictions)


def show_convergence(m: Material) -> Iterable[Exhibit]:
    """The accuracy over the epochs, of each model's seeds."""
    return convergence.show(*tracked.seed_tables(m.networks, m.where))


def show_kernel_convergence(m: Material) -> Exhibit:
    """How fast the kernels and the maps of the image under study approach their final values."""
    layers = m.filters if m.network.is_own else m.network.structure.weights
    weights = {layer: m.network.layer_weights(layer) for layer in layers}
    maps = m.rectified_maps() if m.filters else {}
    return kernel_convergence.show(weights, m.activity, maps, m.image.description)


def show_health(m: Material) -> Exhibit:
    """Dead filters, and what removing them changes."""
    tested = len(measurements.tested(m.network, m.data.test))
    # Where weights are normalised, a filter without weights is not one without an output.
    removal = None if m.network.is_own else measurements.removal(m.network, m.data.test, m.device, m.activity)
    followed = {layer: m.followed(layer) for layer in m.filters}
    return health.show(m.activity, tested, removal, m.network.accuracy, followed)


def show_confusions(m: Material) -> Exhibit:
    """The filters behind the most frequent confusions."""
    shares = explanations.confusion_shares(m.network, m.data.test, m.data.train, m.cache)
    logits, labels = m.network.predictions["test"]
    return confusions.show(shares, logits.argmax(axis=1), labels, m.classes)


def show_image_ablation(m: Material) -> Exhibit:
    """What the image's class loses without each filter."""
    last = m.network.last
    pictures = {
        layer: (m.network.layer_weights(layer, [last])[last], m.maps(last)[name]) for layer, name in m.rectified.items()
    }
    return image_ablation.show(m.image_effects, pictures, image=m.image.pixels, description=m.image.description)


def show_patches(m: Material, layer: str) -> Exhibit:
    """The image patches to which each filter of a layer responds most."""
    test = m.data.test
    images, labels = test.images.numpy(), test.labels.numpy()
    selectivity, effects = m.ablated.selectivity, m.ablated.effects
    return patches.show(layer, m.ablated.responses(layer), images, labels, m.classes, selectivity, effects)


def show_heatmap(m: Material) -> Exhibit:
    """The trials of the search, beside those of another one that can be compared."""
    store, own = m.network.store, m.own_searches[0]
    shown = [own, *tracked.comparable(own, m.searches)[:1]]
    grids = any(run.sampler == "grid" for run in shown)
    return heatmap.show(
        {tracked.title(run): tracked.trials(store, run) for run in shown},
        images=len(m.dataset.splits.validation) if m.dataset else None,
        differences=tracked.differences(shown),
        # The grid has both rates alone.
        grid_command="" if grids or own.choices else tracked.grid_command(own, m.network.config, m.where),
    )


def show_importance(m: Material) -> Exhibit:
    """The importance of each hyperparameter in the search."""
    assert m.trials is not None
    return search.show_importance(tracked.importance(m.network.store, m.own_searches[0]), m.trials)


def show_pareto(m: Material) -> Exhibit:
    """What each number of parameters buys, beside the report's network."""
    assert m.trials is not None
    return pareto.show(m.trials, tracked.reference(m.network))


def show_dead_filters(m: Material) -> Iterable[Exhibit]:
    """What silences and collapses filters, by the experiment of that name."""
    return _experiment(m, "dead-filters", dead_filters.HEADING)


def show_winner(m: Material) -> Iterable[Exhibit]:
    """Whether the best trial is better than the next ones, by the experiment of that name."""
    return _experiment(m, "winner", winner.HEADING)


def show_recipe(m: Material) -> Iterable[Exhibit]:
    """What schedule, warm-up, optimiser, decay and epochs bring, by the experiment of that name."""
    return _experiment(m, "recipe", recipe.HEADING)


def _experiment(m: Material, name: str, heading: str) -> Iterable[Exhibit]:
    """The latest experiment of this name, or the command that runs it."""
    run, model = m.network.run, m.network.name
    parent = tracked.latest_experiment(m.network.store, name, run.dataset_key, model)
    if parent:
        return tracked.experiment_exhibits(m.network.store, parent)
    command = tracked.experiment_command(name, run.data_config, model, m.where)
    return [not_measured(name, heading, m.network.images, command)]


def show_architecture(m: Material) -> Exhibit:
    """The layers of the networks."""
    networks = m.networks.values()
    return architecture.show(
        [
            layer_table.architecture(network.config.model, classes=len(network.classes), side=network.side)
            for network in networks
        ]
    )


def show_pooling(m: Material) -> Exhibit:
    """ReLU and max pooling of the image's patch; says so where the network pools otherwise."""
    exhibit, model = pooling.show(*demonstrations.pooling(m.patch)), m.network.config.model
    is_average = isinstance(model, CNNConfig) and model.pooling == "average"
    return replace(exhibit, note="This network takes the mean of each square instead.") if is_average else exhibit


def show_convolution(m: Material) -> Exhibit:
    """A convolution of the image's patch, step by step."""
    panels, places = demonstrations.convolution(m.patch), demonstrations.PLACES
    return operations.show_convolution(panels, m.image.pixels, m.patch.corner, places)


def show_worked(m: Material) -> Exhibit:
    """A value of the first convolution, step by step."""
    filter = next(iter(m.filters.values()))
    return worked_example.show(**demonstrations.worked_value(m.network, filter, m.image))
