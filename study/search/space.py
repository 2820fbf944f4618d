"""Search spaces: which hyperparameters a search draws, and from what; imports optuna.

`report` is the report's space, learning rate and weight decay. `architecture` adds those of the tables below. They are
written as on the command line: listed values (``"3,5,7"``), or a range, drawn log-uniformly (``"8:64"``), from 0 on
uniformly (``"0:0.2"``).
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.architectures import CNNConfig, CustomConfig, ModelConfig
from study.config import GRID_SIDE, MOST, RATES, SPACES, SearchConfig, TrainConfig
from study.errors import StudyError, require, require_known
from study.geometry import feature_sizes
from study.ranges import Choices, Range, option_of
from study.search.draws import draw_of

ARCHITECTURE = {
    "cnn": {
        "kernel": "3,5,7",
        "dilation": "1,2",
        "stride": "1,2",
        "pool": "2,3,4",
        "padding": "0,1,2,3",
        "pooling": "max,average",
        "filters1": "8:64",
        "filters2": "8:128",
    },
    "ffnn": {"hidden": "16:512"},
}
"""The choices of the architecture, by model, in the order in which they are drawn; see `CNNConfig` and `FFNNConfig`."""
TRAINING = {
    "optimiser": "adam,adamw",
    "warmup_steps": "0,100,500",
    "schedule": "constant,cosine",
    "epochs": "5:20",
}
"""The choices of training, for each model; see `TrainConfig`."""
SIZELESS = (*RATES, *TRAINING, "pooling")
"""Hyperparameters that cannot change a network's number of parameters."""
SIZES = {"cnn": "--filters 8:64 or --space architecture", "ffnn": "--hidden 16:512"}
"""Examples of options by which the networks of a search differ in their number of parameters, by model."""
GEOMETRY = ("kernel", "dilation", "stride", "pool", "padding")
"""The hyperparameters that decide whether the layers fit the image.

Larger values leave smaller maps, larger ones of the padding larger maps.
"""
GRID = tuple(float(value) for value in np.logspace(-4, 1, GRID_SIDE))
"""The report's grid, for the learning rate and for the weight decay."""


def architecture(model: ModelConfig) -> dict[str, str]:
    """The choices of the architecture of `model`; for a network of the user's own its arguments as they are."""
    if isinstance(model, CustomConfig):
        return {name: str(value) for name, value in model.arguments.items()}
    return ARCHITECTURE[model.name]


def _geometry(model: ModelConfig) -> tuple[str, ...]:
    """The hyperparameters of `model` with which its layers may not fit the image; unknown for one of the user's own."""
    return GEOMETRY if isinstance(model, CNNConfig) else ()


def in_space(config: SearchConfig, space: str, given: Mapping[str, str]) -> SearchConfig:
    """`config` that draws what `space` does; a hyperparameter that is `given` is drawn or fixed as its text says.

    Args:
        config: the search; its model and training are what is not drawn.
        space: `report` or `architecture`.
        given: texts by hyperparameter; ``A/B`` for `filters` gives those of the first and the second layer.

    Raises:
        StudyError: for a hyperparameter that the model does not have, or values with which nothing can be built.
    """
    require_known("space", space, SPACES)
    texts = {**architecture(config.model), **TRAINING} if space == "architecture" else {}
    if not isinstance(config.model, CustomConfig):
        given = _by_layer(given)
    names = _names(config.model)
    for name in given:
        require(name in names, f"The model {config.model.name} has no {option_of(name, config.model)}: leave it out.")
    read = {name: choices_of(name, text, config.model) for name, text in (texts | dict(given)).items()}
    _require_possible(config, read)
    fixed: dict[str, Any] = {name: choices.values[0] for name, choices in read.items() if choices.is_fixed}
    model = _with_values(config.model, fixed)
    drawn = {name: read[name] for name in names if name in read and name not in fixed and has_effect(name, model)}
    for name, choices in drawn.items():
        require(
            name not in _geometry(config.model) or choices.step is not None,
            f"{option_of(name, config.model)} is {str(choices)!r}: list whole numbers with equal steps, e.g. 3,5,7.",
        )
    if "epochs" in drawn:
        fixed["epochs"] = max(drawn["epochs"].values)
    of_training = {name: value for name, value in fixed.items() if name in TRAINING}
    config = replace(config, model=model, choices=drawn, **of_training)
    require(
        len(config.objectives) == 1 or not drawn.keys() <= set(SIZELESS),
        f"--objective is {','.join(config.objectives)}, but all networks of this search have the same number of "
        f"parameters: draw their size, e.g. {SIZES.get(model.name, '--argument NAME=8:64')}.",
    )
    _require_fit(config, {})
    return config


def choices_of(name: str, text: str, model: ModelConfig) -> Choices:
    """The choices of a hyperparameter, read as the type of its field.

    An argument of the user's own function is read as written, and becomes of the type of its default where the network
    is built.
    """
    kinds: dict[str, Any] = {item.name: item.type for item in (*fields(TrainConfig), *fields(model))}
    # Counts of filters are fields of no name.
    kind = kinds.get(name, None if isinstance(model, CustomConfig) else int)
    return Choices.parse(text, option_of(name, model), kind)


def _by_layer(given: Mapping[str, str]) -> dict[str, str]:
    """`given` with the filters of each layer under their own names."""
    texts = dict(given)
    if filters := texts.pop("filters", ""):
        counts = [count.strip() for count in filters.split("/")]
        require(
            all(counts) and len(counts) <= 2,
            f"--filters is {filters!r}: write counts for both layers (8:64), or FIRST/SECOND (8:32/16:64).",
        )
        texts |= {"filters1": counts[0], "filters2": counts[-1]}
    return texts


def _names(model: ModelConfig) -> list[str]:
    """The names of all hyperparameters that can be drawn for a model beside the rates, in the order of drawing."""
    return [*architecture(model), *TRAINING]


def _with_values(model: ModelConfig, values: Mapping[str, Any]) -> ModelConfig:
    """`model` with those of the `values` that are of its architecture."""
    own = {name: values[name] for name in architecture(model) if name in values}
    if isinstance(model, CustomConfig):
        return replace(model, arguments={**model.arguments, **own})
    if isinstance(model, CNNConfig):
        own["filters"] = own.pop("filters1", model.filters[0]), own.pop("filters2", model.filters[1])
    return replace(model, **own)


def _require_possible(config: SearchConfig, read: Mapping[str, Choices]) -> None:
    """Raises a `StudyError` for a value that no training can have."""
    rates = {name: getattr(config, name).low for name in RATES}
    for name, choices in read.items():
        option = option_of(name, config.model)
        is_count = not isinstance(config.model, CustomConfig) or name in TRAINING
        for value in choices.values:
            if is_count and isinstance(value, int):
                require(value <= MOST, f"{option} is {value}: it must be at most {MOST}.")
            try:
                training(config, 0, {**rates, name: value})
            except StudyError as error:
                # The message names the hyperparameter, not its option.
                raise StudyError(f"{option} is {value!r}: {str(error).rpartition(': ')[2]}") from None


def largest_feature_maps(config: SearchConfig, drawn: Mapping[str, Any] | None = None) -> ModelConfig:
    """The network with the values `drawn` so far, and for the others those that leave the largest maps.

    Where it does not fit the image, no network of the space does.
    """
    drawn = drawn or {}
    open_ = config.choices.keys() - drawn.keys()
    left = {name: config.choices[name].values for name in _geometry(config.model) if name in open_}
    largest = {name: max(values) if name == "padding" else min(values) for name, values in left.items()}
    return _with_values(config.model, {**largest, **drawn})


def has_effect(name: str, model: ModelConfig) -> bool:
    """Whether a hyperparameter changes `model`: with windows or kernels of one pixel pooling or dilation does not."""
    if not isinstance(model, CNNConfig):
        return True
    return not ((name == "pooling" and model.pool == 1) or (name == "dilation" and model.kernel == 1))


def possible(config: SearchConfig, name: str, drawn: Mapping[str, Any]) -> Choices | None:
    """The choices of the hyperparameter `name` after those `drawn` before it; None where it has no effect.

    Of kernel, dilation, stride, pooling and padding they are the values with which, and with some values of what is
    drawn later, all layers fit. Since each of them only shrinks or only enlarges the maps, these are neighbours in the
    list.
    """
    choices = config.choices[name]
    if not has_effect(name, _with_values(config.model, drawn)):
        return None
    if name not in _geometry(config.model):
        return choices
    values = [int(value) for value in choices.values if _fits(config, {**drawn, name: value})]
    return replace(choices, values=tuple(values))


def costliest(config: SearchConfig) -> ModelConfig:
    """A network of the space that takes about the longest to train."""
    values: dict[str, Any] = {name: max(config.choices[name].values) for name in config.choices if name != "pooling"}
    for name in ("dilation", "stride", "pool"):
        if name in values:
            values[name] = min(config.choices[name].values)
    costly = replace(config, model=_with_values(config.model, values), choices={})
    return costly.model if _fits(costly, {}) else largest_feature_maps(config)


def _fits(config: SearchConfig, drawn: Mapping[str, Any]) -> bool:
    try:
        _require_fit(config, drawn)
    except StudyError:
        return False
    return True


def _require_fit(config: SearchConfig, drawn: Mapping[str, Any]) -> None:
    """Raises a `StudyError` if, with the values `drawn` so far, no network of the space fits the image."""
    model = largest_feature_maps(config, drawn)
    if isinstance(model, CNNConfig):
        feature_sizes(model, config.image_size)


def distribution(choices: Choices, *, is_geometry: bool = False) -> BaseDistribution:
    """Optuna's distribution of the choices.

    Whole numbers of a geometry are ranges with a step, which may differ from trial to trial; of listed choices Optuna
    requires that they are always the same.
    """
    low, high = min(choices.values), max(choices.values)
    if choices.has_fractions:
        return FloatDistribution(float(low), float(high), log=float(low) > 0)
    if choices.is_range or is_geometry:
        return IntDistribution(int(low), int(high), log=choices.is_range, step=choices.step or 1)
    return CategoricalDistribution(choices.values)


def search_space(config: SearchConfig) -> dict[str, BaseDistribution]:
    """Distributions of all drawn hyperparameters, before any is drawn."""
    geometry = _geometry(config.model)
    drawn = {name: distribution(choices, is_geometry=name in geometry) for name, choices in config.choices.items()}
    return {**drawn, **_rates(config)}


def _rates(config: SearchConfig) -> dict[str, FloatDistribution]:
    on_grid = Range(low=GRID[0], high=GRID[-1])
    ranges = {name: on_grid if config.sampler == "grid" else getattr(config, name) for name in RATES}
    return {name: FloatDistribution(bounds.low, bounds.high, log=True) for name, bounds in ranges.items()}


def train_config(trial: optuna.Trial, config: SearchConfig) -> TrainConfig:
    """Training settings of `trial`, with hyperparameters drawn from the search space."""
    drawn: dict[str, Any] = {}
    for name in config.choices:
        if choices := possible(config, name, drawn):
            drawn[name] = _suggested(trial, name, distribution(choices, is_geometry=name in _geometry(config.model)))
    for name, bounds in _rates(config).items():
        drawn[name] = _suggested(trial, name, bounds)
    return training(config, draw_of(trial), drawn)


def _suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)


def training(config: SearchConfig, draw: int, drawn: Mapping[str, Any]) -> TrainConfig:
    """Training settings of draw number `draw`, the same for every attempt at it.

    Raises:
        StudyError: for a value that no training can have.
        TypeError: for a value of another type, or a hyperparameter that is not drawn.
    """
    fixed = {**config.shared(), "epochs": config.epochs}
    of_training = {name: value for name, value in drawn.items() if name not in architecture(config.model)}
    model = _with_values(config.model, drawn)
    return TrainConfig(model=model, seed=config.seed + draw, **{**fixed, **of_training})
