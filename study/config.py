"""Configuration of data, models, training and search as dataclasses; the single source of defaults.

The defaults are those of Wik, "Tracing the Convolutions of a CNN" (2023), where it has one. Each class
raises `StudyError` for an invalid value, naming the value and the choices.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from study.architectures import ARCHITECTURES, MODELS, CNNConfig, CustomConfig, FFNNConfig, ModelConfig, default_model
from study.errors import StudyError, require, require_at_least, require_known, unknown
from study.names import require_name
from study.params import recorded
from study.ranges import Choices, Range

SPACES = ("report", "architecture")
OBJECTIVES = ("accuracy", "parameters")
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("percentile", "hyperband", "median", "none")
PRECISIONS = ("auto", "float32", "bf16")
OPTIMISERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine")
REPLACEMENTS = ("mean", "zero")
BUNDLED = ("cifar10", "digits")
BACKGROUND = "white"
"""Background of transparent images."""
IMAGE_SIZE = 32
"""Default side of the images, in pixels: that of CIFAR-10."""
SMALLEST_IMAGE, LARGEST_IMAGE = 16, 256
"""Limits of the side of the images, in pixels."""
STAGES = ("search", "trial", "retrain", "analysis", "experiment", "replicate")
MOST = 1_000_000
"""Maximum of any count, e.g. of trials or epochs: more is a typing error."""
GRID_SIDE = 8
"""Number of values of each hyperparameter on the report's grid."""
AFTER_DATASET = "<dataset>-<model>"
"""Placeholder of a search's default name, replaced once the data set is loaded."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how they are split."""

    dataset: str = "cifar10"
    """`cifar10`, `digits`, or the path of an image folder with `train/<class>/` and, if kept apart, `test/<class>/`."""
    validation_fraction: float = 0.1
    """Fraction of the training images in the stratified validation split, which chooses hyperparameters."""
    split_seed: int = 0
    """Seed of the validation split, and of the test split where the folder has none."""
    skip_unreadable: bool = False
    """Skip unreadable image files instead of raising an error."""
    image_size: int = IMAGE_SIZE
    """Side of the square that all images are resized to, in pixels."""

    def __post_init__(self) -> None:
        require(
            SMALLEST_IMAGE <= self.image_size <= LARGEST_IMAGE,
            f"The image size is {self.image_size}: it must be from {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels.",
        )
        require(
            0 < self.validation_fraction < 1,
            f"The validation fraction is {self.validation_fraction}: it must lie between 0 and 1.",
        )

    @property
    def recorded_dataset(self) -> str:
        """The data set as recorded on runs: a folder by its absolute path."""
        return self.dataset if self.dataset in BUNDLED else str(Path(self.dataset).expanduser().resolve())

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> "DataConfig":
        """The settings that a run recorded; see `TrainConfig.from_params`."""
        return cls(**recorded(cls, params, required=("dataset",)))


def model_kind(name: str, params: Mapping[str, Any] | None = None) -> type[ModelConfig]:
    """Class of the settings of the model `name`, which any network may have whose settings `params` are recorded.

    Raises:
        StudyError: for an unknown name.
    """
    if "model_path" in (params or {}):
        return CustomConfig
    require_known("model", name, MODELS)
    return CNNConfig if name == "cnn" else FFNNConfig


def model_config(name: str) -> ModelConfig:
    """The settings of a model by the value of --model: a name, or the path of a function; see `study.custom`.

    Raises:
        StudyError: for an unknown name.
    """
    path = name if ":" in name else ARCHITECTURES.get(name)
    if not path and name not in MODELS:
        raise unknown("model", name, [*MODELS, *ARCHITECTURES, "package.module:function for a network of your own"])
    return CustomConfig(model_path=path) if path else model_kind(name)()  # type: ignore[call-arg]  # CNN or FFNN


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How the weights are updated, in one training as in all trials of a search."""

    batch_size: int = 200
    """Images per step."""
    optimiser: str = "adam"
    """`adam` or `adamw`."""
    warmup_steps: int = 0
    """Steps of linear learning-rate warm-up from 0; 0 disables it."""
    schedule: str = "constant"
    """Learning rate after the warm-up: `constant`, or `cosine`, which falls to 0 by the end of the last epoch."""

    def __post_init__(self) -> None:
        require_at_least(1, batch_size=self.batch_size)
        require_at_least(0, warmup_steps=self.warmup_steps)
        require_known("optimiser", self.optimiser, OPTIMISERS)
        require_known("schedule", self.schedule, SCHEDULES)

    def shared(self) -> dict[str, Any]:
        """The settings that trainings and searches share, by name."""
        return {item.name: getattr(self, item.name) for item in fields(OptimiserConfig)}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(OptimiserConfig):
    """Settings of one training, which determine the weights (on one device, with one number of threads)."""

    model: ModelConfig = field(default_factory=CNNConfig)
    """The network."""
    learning_rate: float = 1e-3
    """Learning rate of the optimiser."""
    weight_decay: float = 0.0
    """L2 penalty inside Adam's gradient; decoupled decay for AdamW."""
    epochs: int = 30
    """Passes over the training images."""
    seed: int = 0
    """Seed of the initial weights and of the order of the images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in RATES:
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, f"{name} is {value}: it must be a finite number, 0 or more.")
        require_at_least(1, epochs=self.epochs)

    def steps(self, images: int) -> int:
        """Number of optimiser steps in all epochs on so many training images."""
        return self.epochs * math.ceil(images / self.batch_size)

    def params(self) -> dict[str, Any]:
        """All fields as the flat params of a run: `model` is the name, next to the model's own fields.

        The arguments of a network of the user's own are there twice: by their names, and all in `arguments`.
        """
        own = asdict(self.model)
        return {**own.get("arguments", {}), **asdict(self), **own, "model": self.model.name}

    def hyperparameters(self) -> dict[str, Any]:
        """All fields that a search can draw, by their names in it: `filters1` and `filters2` for `filters`."""
        others = ("model", "batch_size", "seed", "arguments")
        values = {name: value for name, value in self.params().items() if name not in others}
        filters = values.pop("filters") if isinstance(self.model, CNNConfig) else ()
        return values | {f"filters{number}": count for number, count in enumerate(filters, start=1)}

    def differing(self) -> dict[str, Any]:
        """Both rates, and of the other hyperparameters but epochs those that differ from the report's."""
        values, default = self.hyperparameters(), TrainConfig(model=default_model(self.model)).hyperparameters()
        rest = {name: value for name, value in values.items() if value != default.get(name) and name != "epochs"}
        return {name: values[name] for name in RATES} | rest

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> "TrainConfig":
        """The settings that a run recorded with `params()`.

        A field that is newer than the run takes its default, with which the run was trained; params that are no fields
        are ignored.

        Raises:
            StudyError: for a param that is malformed, or one of `ALWAYS_RECORDED` that is missing.
        """
        settings = recorded(cls, params, required=ALWAYS_RECORDED)
        kind = model_kind(settings.pop("model"), params)
        return cls(model=kind(**recorded(kind, params)), **settings)


ALWAYS_RECORDED = ("model", "learning_rate", "weight_decay", "epochs", "seed")
"""The params that every run of a training records, however old it is."""

MAX_RETRIES = 2
"""Maximum number of retries of a trial or training that failed; one that was interrupted is always retried."""
RATES = ("learning_rate", "weight_decay")
"""The hyperparameters that every search draws. They are drawn last: a trial that has them has all."""
DETAILS = ("name", "trials", "image_size", "trial_timeout")
"""Fields of a search that are no settings; the size of the images goes with the data set."""
LEARNING_RATES, WEIGHT_DECAYS = Range(low=1e-5, high=1e-1), Range(low=1e-6, high=1e-1)
"""Default ranges of a search."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(OptimiserConfig):
    """A hyperparameter search: search space, sampler, pruner and budget."""

    name: str
    """Name of the search in both stores; the same name continues it."""
    model: ModelConfig = field(default_factory=CNNConfig)
    """The network to train."""
    trials: int = 40
    """Total number of finished trials, including those of earlier commands."""
    sampler: str = "tpe"
    """`tpe`, `random`, or `grid` (the report's 8 × 8 points)."""
    pruner: str = "percentile"
    """Pruner of unpromising trials: `percentile`, `hyperband`, `median` or `none`."""
    objectives: tuple[str, ...] = ("accuracy",)
    """What is optimised: the validation `accuracy`, and perhaps the number of `parameters` of the network."""
    learning_rate: Range = LEARNING_RATES
    """Searched log-uniformly; unused by the grid."""
    weight_decay: Range = WEIGHT_DECAYS
    """Searched log-uniformly; unused by the grid."""
    choices: Mapping[str, Choices] = field(default_factory=dict)
    """What further hyperparameters are drawn from, by the names of `TrainConfig.hyperparameters`; see
    `study.search.space`. Those that are not drawn have the values of `model` and of the fields below."""
    epochs: int = 10
    """Maximum number of epochs of a trial."""
    seed: int = 0
    """Base seed: of the sampler, and of draw n, which is trained with seed + n."""
    image_size: int = DataConfig.image_size
    """Side of the images, in pixels, which the layers of all drawn networks must fit."""
    trial_timeout: int = 0
    """Timeout in seconds for each epoch of a trial, after which its worker is stopped; 0 disables it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_name(self.name)
        require_at_least(1, trials=self.trials, epochs=self.epochs)
        require_at_least(0, trial_timeout=self.trial_timeout)
        require_known("sampler", self.sampler, SAMPLERS)
        require_known("pruner", self.pruner, PRUNERS)
        require(
            self.objectives in (OBJECTIVES[:1], OBJECTIVES),
            f"The objectives are {','.join(self.objectives)!r}: choose accuracy, or accuracy,parameters.",
        )
        require(
            self.pruner == "none" or len(self.objectives) == 1,
            f"The pruner {self.pruner} compares trials by one objective: with two choose --pruner none.",
        )
        require(
            not self.choices or self.sampler != "grid",
            f"The grid has the report's two hyperparameters alone, not {', '.join(self.choices)}: choose --sampler tpe "
            "or random.",
        )

    @property
    def is_fixed(self) -> bool:
        """Whether its space is one point."""
        return not self.choices and all(getattr(self, name).low == getattr(self, name).high for name in RATES)

    def settings(self) -> dict[str, Any]:
        """The fields that must stay the same when a search is continued."""
        fields = asdict(self) | {"model": self.model.name, "model_settings": asdict(self.model)}
        fields["choices"] = {name: str(choices) for name, choices in self.choices.items()}
        return {name: value for name, value in fields.items() if name not in DETAILS}


REPORT_SETTINGS = {"cnn": ("0.002683", "0.000518"), "ffnn": ("0.0001", "0.002683")}
"""By model, the learning rate and the weight decay that the report's grid search chose (Wik, 2023)."""


def fixed_search(model: str, learning_rate: str, weight_decay: str) -> SearchConfig:
    """A search of one trial, at these values of the hyperparameters.

    Raises:
        StudyError: for a value that is no positive number.
    """
    rate, decay = _one_value("--lr", learning_rate), _one_value("--decay", weight_decay)
    return SearchConfig(
        name=f"{AFTER_DATASET}-lr-{rate.low:.10g}-decay-{decay.low:.10g}",
        model=model_config(model),
        trials=1,
        sampler="random",
        pruner="none",
        learning_rate=rate,
        weight_decay=decay,
    )


def _one_value(option: str, text: str) -> Range:
    try:
        return Range(low=float(text), high=float(text))
    except (ValueError, StudyError):
        raise StudyError(f"{option} is {text!r}: a retraining needs one positive value, e.g. 1e-3.") from None


def default_trials(sampler: str) -> int:
    """Default number of trials: `SearchConfig`'s, or for the grid all of its points."""
    return GRID_SIDE**2 if sampler == "grid" else SearchConfig.trials
