"""The convolutions that a report shows, and the filter to follow in each; what a page says about other networks."""

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.drawing.wording import are, counted, listed
from pipelines.config import REPORT_FILTER, AnalysisConfig
from pipelines.report import figures
from pipelines.report.material import Material
from study.architectures import CustomConfig, ModelConfig
from study.config import IMAGE_SIZE
from study.convolutions import Convolutions, layered, maps_of
from study.custom import change_warning
from study.errors import StudyError, unknown
from study.models import build_model


@dataclass(frozen=True)
class Shown:
    """The convolutions that are shown."""

    filters: Mapping[str, int]
    """The filter to follow, by convolution; empty for a network that has none."""
    maps: Mapping[str, tuple[str, ...]]
    """The names of the maps of each."""


def choose(config: AnalysisConfig, model: ModelConfig, classes: int, side: int = IMAGE_SIZE) -> Shown:
    """Those that `config` names; by default the first and the last, of other networks than the report's with a ReLU.

    Args:
        config: names layers by number (`conv17`) or by the name of their module (`layer4.0.conv2`), and a filter.
        model: the network.
        classes: how many it tells apart.
        side: side of the images that it takes, in pixels.

    Raises:
        StudyError: for a layer or a filter that it does not have.
    """
    built = build_model(model, classes=classes, seed=0, side=side)
    network, parameters = layered(built, side), dict(built.named_parameters())
    maps = maps_of(network.layers)
    names = _module_names(network)
    asked = [layer.strip() for layer in config.layer.split(",") if layer.strip()]
    if not maps and (asked or config.filter is not None):
        raise StudyError(f"The {model.name} has no convolutions: leave out --layer and --filter.")
    numbers = {name: layer for layer, name in names.items()} | {layer: layer for layer in maps}
    for layer in asked:
        if layer not in numbers:
            raise unknown("layer", layer, numbers)
    shown = [numbers[layer] for layer in asked] or _by_default(model, maps)
    counts = {layer: len(parameters[network.weights[layer]]) for layer in shown}
    filters = {layer: _filter(config, layer, count) for layer, count in counts.items()}
    return Shown(filters, {layer: maps[layer] for layer in shown})


def _by_default(model: ModelConfig, maps: Mapping[str, tuple[str, ...]]) -> list[str]:
    if not isinstance(model, CustomConfig):
        return [*maps]
    rectified = [layer for layer, names in maps.items() if len(names) > 1] or [*maps]
    return list(dict.fromkeys([*rectified[:1], *rectified[-1:]]))


def _filter(config: AnalysisConfig, layer: str, count: int) -> int:
    if config.filter is not None and config.filter >= count:
        raise StudyError(f"Layer {layer} has no filter {config.filter}: choose one from 0 to {count - 1}.")
    return min(REPORT_FILTER, count - 1) if config.filter is None else config.filter


def _module_names(network: object) -> Mapping[str, str]:
    """The names of the modules of the convolutions of a network that does not number them itself."""
    return network.names if isinstance(network, Convolutions) else {}


def notices(material: Material) -> list[str]:
    """What a page says about another network than the report's: what is shown, what cannot be, what has changed."""
    network = material.network
    if not network.is_own:
        return []
    names = _module_names(network.structure)
    shown = [f"{layer} ({names[layer]})" for layer in material.filters]
    lines = [f"{network.name} has no convolution whose filters could be shown."]
    if shown:
        lines = [
            f"Of the {counted(len(network.convolutions), 'convolution')} of {network.name}, numbered in the order in "
            f"which they run, {listed(shown)} {are(len(shown))} shown; --layer chooses others."
        ]
    if not material.config.only:
        left_out = figures.inapplicable(material)
        lines += [f"Not applicable: {', '.join(without)}. {reason}" for reason, without in left_out.items()]
    return [*lines, *filter(None, [change_warning(network.config.model)])]
