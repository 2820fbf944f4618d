"""Configuration of data, models, training and search as dataclasses; the single source of defaults.

The defaults are those of Wik, "Tracing the Convolutions of a CNN" (2023), where it has one. Each class
raises `StudyError` for an invalid value, naming the value and the choices.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from study.errors import StudyError, require, require_at_least, require_known, unknown
from study.ranges import Choices, Range

MODELS = ("cnn", "ffnn")
SPACES = ("report", "architecture")
OBJECTIVES = ("accuracy", "parameters")
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("percentile", "hyperband", "median", "none")
PRECISIONS = ("auto", "float32", "bf16")
OPTIMISERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine")
POOLINGS = ("max", "average")
REPLACEMENTS = ("mean", "zero")
BUNDLED = ("cifar10", "digits")
BACKGROUND = "white"
"""Background of transparent images."""
IMAGE_SIZE = 32
"""Default side of the images, in pixels: that of CIFAR-10."""
SMALLEST_IMAGE, LARGEST_IMAGE = 16, 256
"""Limits of the side of the images, in pixels."""
STAGES = ("search", "trial", "retrain", "analysis", "experiment", "replicate")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
"""Accepted spellings of a boolean setting, case-insensitive."""
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
        return cls(**_recorded(cls, params, required=("dataset",)))


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """The report's convolutional network: two blocks of convolution, ReLU and pooling, then a linear layer."""

    filters: tuple[int, int] = (32, 64)
    """Number of filters of the first and the second convolution."""
    kernel: int = 5
    """Side of the square kernels, in pixels."""
    padding: int = 2
    """Zero padding on each side before a convolution, in pixels."""
    stride: int = 1
    """Stride of the convolutions, in pixels."""
    dilation: int = 1
    """Spacing between kernel elements, in pixels; 1 is an ordinary convolution."""
    pool: int = 2
    """Side and stride of the pooling windows, in pixels; 1 is no pooling."""
    pooling: str = "max"
    """`max` or `average`."""

    name = "cnn"

    def __post_init__(self) -> None:
        require(len(self.filters) == 2, f"filters is {self.filters}: name two counts, e.g. 32 and 64.")
        require_at_least(1, first_filter_count=self.filters[0], second_filter_count=self.filters[1])
        require_at_least(1, kernel=self.kernel, stride=self.stride, dilation=self.dilation, pool=self.pool)
        require_at_least(0, padding=self.padding)
        require_known("pooling", self.pooling, POOLINGS)


@dataclass(frozen=True, kw_only=True)
class FFNNConfig:
    """The report's feed-forward network: one hidden layer on the flattened image."""

    hidden: int = 100
    """Number of hidden units."""

    name = "ffnn"

    def __post_init__(self) -> None:
        require_at_least(1, hidden_units=self.hidden)


@dataclass(frozen=True, kw_only=True)
class CustomConfig:
    """Any other network, by the function that builds it; see `study.custom`."""

    model_path: str
    """The function, ``package.module:function``."""
    model_source: str = ""
    """SHA-256 of the function's file; empty for the functions of `ARCHITECTURES`, which belong to the commit."""
    # Not hashable; equality still compares it.
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further arguments of the function, by name; a search can draw them."""

    def __post_init__(self) -> None:
        require(
            bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", self.model_path)),
            f"The model {self.model_path!r} is no function: write package.module:function, e.g. my_network:build.",
        )
        require(
            self.name not in {*MODELS, *ARCHITECTURES} or ARCHITECTURES.get(self.name) == self.model_path,
            f"The model {self.model_path} would be recorded as {self.name}, which is another network's name: rename "
            "the function.",
        )

    @property
    def name(self) -> str:
        """Name of the function, by which runs are recorded; for one called `build` that of its module."""
        module, _, function = self.model_path.partition(":")
        return module.rpartition(".")[2] if function == "build" else function


ModelConfig = CNNConfig | FFNNConfig | CustomConfig

CHANNELS = 3
"""Colour channels of an image that a network takes."""
MOST = 1_000_000
"""Maximum of any count, e.g. of trials or epochs: more is a typing error."""
ARCHITECTURES = {"resnet18": "study.examples:resnet18", "three_layers": "study.examples:three_layers"}
"""Further networks of this package by name, with the functions that build them."""


def model_kind(name: str, recorded: Mapping[str, Any] | None = None) -> type[ModelConfig]:
    """Class of the settings of the model `name`.

    Args:
        name: ``"cnn"``, ``"ffnn"``, or the name of any other network whose settings are known.
        recorded: its recorded settings.

    Raises:
        StudyError: for an unknown name.
    """
    if "model_path" in (recorded or {}):
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


def default_model(config: ModelConfig) -> ModelConfig:
    """The report's settings of the same network; a network of the user's own without further arguments."""
    return replace(config, arguments={}) if isinstance(config, CustomConfig) else type(config)()


def model_option(config: ModelConfig) -> str:
    """The value of --model that means this network."""
    is_path = isinstance(config, CustomConfig) and config.name not in ARCHITECTURES
    return config.model_path if isinstance(config, CustomConfig) and is_path else config.name


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training, which determine the weights (on one device, with one number of threads)."""

    model: ModelConfig = field(default_factory=CNNConfig)
    """The network."""
    learning_rate: float = 1e-3
    """Learning rate of the optimiser."""
    weight_decay: float = 0.0
    """L2 penalty inside Adam's gradient; decoupled decay for AdamW."""
    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 200
    """Images per step."""
    optimiser: str = "adam"
    """`adam` or `adamw`."""
    warmup_steps: int = 0
    """Steps of linear learning-rate warm-up from 0; 0 disables it."""
    schedule: str = "constant"
    """Learning rate after the warm-up: `constant`, or `cosine`, which falls to 0 by the end of the last epoch."""
    seed: int = 0
    """Seed of the initial weights and of the order of the images."""

    def __post_init__(self) -> None:
        for name in RATES:
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, f"{name} is {value}: it must be a finite number, 0 or more.")
        require_at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        require_at_least(0, warmup_steps=self.warmup_steps)
        require_known("optimiser", self.optimiser, OPTIMISERS)
        require_known("schedule", self.schedule, SCHEDULES)

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
        settings = _recorded(cls, params, required=ALWAYS_RECORDED)
        kind = model_kind(settings.pop("model"), params)
        return cls(model=kind(**_recorded(kind, params)), **settings)


ALWAYS_RECORDED = ("model", "learning_rate", "weight_decay", "epochs", "seed")
"""The params that every run of a training records, however old it is."""


def _recorded(config: type[Any], params: Mapping[str, str], required: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of `config` that `params` holds, by name."""
    for name in required:
        require(name in params, f"The param {name} is missing.")
    return {item.name: _read(item.name, item.type, params[item.name]) for item in fields(config) if item.name in params}


def _read(name: str, kind: Any, text: str) -> Any:
    if kind is bool:
        require(
            text.lower() in BOOLEANS,
            f"The param {name} is {text!r}, which is neither true nor false: it must be one of true, false, 1, 0.",
        )
        return BOOLEANS[text.lower()]
    try:
        if kind == tuple[int, int]:
            return tuple(map(int, json.loads(text)))
        if kind == Mapping[str, Any]:
            return dict(json.loads(text))
        # A model is recorded by its name.
        return text if kind == ModelConfig else kind(text)
    except (ValueError, TypeError):
        raise StudyError(f"The param {name} is {text!r}, which is no value of it.") from None


LONGEST_NAME = 160
"""Maximum length of a search's name in bytes: files and registered models are named after it."""
LONGEST_FOLDER_NAME = 100
"""Maximum length of an image folder's name in bytes: by default, searches are named after it."""


def can_be_name(text: str) -> bool:
    """Whether `text` is valid in file names and in MLflow's filter strings."""
    return text not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f'\"`]", text)


MAX_RETRIES = 2
"""Maximum number of retries of a trial or training that failed; one that was interrupted is always retried."""
RATES = ("learning_rate", "weight_decay")
"""The hyperparameters that every search draws. They are drawn last: a trial that has them has all."""
DETAILS = ("name", "trials", "image_size", "trial_timeout")
"""Fields of a search that are no settings; the size of the images goes with the data set."""
LEARNING_RATES, WEIGHT_DECAYS = Range(low=1e-5, high=1e-1), Range(low=1e-6, high=1e-1)
"""Default ranges of a search."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
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
    batch_size: int = TrainConfig.batch_size
    """Images per step."""
    optimiser: str = TrainConfig.optimiser
    """`adam` or `adamw`."""
    warmup_steps: int = TrainConfig.warmup_steps
    """Steps of linear learning-rate warm-up from 0."""
    schedule: str = TrainConfig.schedule
    """Learning rate after the warm-up: `constant` or `cosine`."""
    seed: int = 0
    """Base seed: of the sampler, and of draw n, which is trained with seed + n."""
    image_size: int = DataConfig.image_size
    """Side of the images, in pixels, which the layers of all drawn networks must fit."""
    trial_timeout: int = 0
    """Timeout in seconds for each epoch of a trial, after which its worker is stopped; 0 disables it."""

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "The search has an empty name: give one with --search.")
        require(
            can_be_name(self.name),
            f"The search name {self.name!r} has a quotation mark, a slash or a control character: leave it out.",
        )
        length = len(self.name.encode())
        require(
            length <= LONGEST_NAME,
            f"The search name {self.name[:20]}… has {length} bytes: it may have at most {LONGEST_NAME}.",
        )
        require_at_least(1, trials=self.trials, epochs=self.epochs, batch_size=self.batch_size)
        require_at_least(0, warmup_steps=self.warmup_steps, trial_timeout=self.trial_timeout)
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
        require_known("optimiser", self.optimiser, OPTIMISERS)
        require_known("schedule", self.schedule, SCHEDULES)
        require(
            not self.choices or self.sampler != "grid",
            f"The grid has the report's two hyperparameters alone, not {', '.join(self.choices)}: choose --sampler tpe "
            "or random.",
        )

    @property
    def is_fixed(self) -> bool:
        """Whether its space is one point."""
        rates = self.learning_rate, self.weight_decay
        return not self.choices and all(rate.low == rate.high for rate in rates)

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
