"""Networks of the user's own: finds the function that builds one, calls it, and checks what it returns.

The function takes the number of classes as `classes`, and the side of the images as `side` if it has such a parameter.
Of its other parameters, those that are given values (`--argument`) are recorded with them, and can be searched.
Its module is imported from the current folder or from what is installed. A run records where the function is and the
hash of its file; a function without a parameter `classes` is never called, so that a recorded path runs none of the
functions of the standard library.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from hashlib import sha256
from inspect import Parameter
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from study.architectures import ARCHITECTURES, CHANNELS, CustomConfig, ModelConfig
from study.config import DataConfig, SearchConfig, TrainConfig, model_config
from study.errors import StudyError, Unbuildable, first_line, require, unknown
from study.params import KINDS, as_kind
from study.ranges import Choices

KNOWN = ("classes", "side")
"""The parameters that get their values from the data set."""
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
SETTINGS = {item.name for config in (TrainConfig, DataConfig, SearchConfig, CustomConfig) for item in fields(config)}
RESERVED = SETTINGS | {
    *("background", "device", "git_commit", "gpu", "precision", "threads", "world_size", "dataset_digest"),
    *("number", "state", "parameters", "val_accuracy", "planned_epochs", "best", "best_so_far"),
}
"""Names that an argument of the user's own function cannot have: the other params of a run, and columns of a table of
trials.
"""


def network_settings(option: str, arguments: Mapping[str, Any] | None = None) -> ModelConfig:
    """The settings of the network that --model names, with the hash of its source.

    Args:
        option: the value of --model.
        arguments: further arguments of the function, by name; `Choices` for one that a search draws.

    Returns:
        the settings; of `Choices` they have the first value.

    Raises:
        StudyError: for an unknown name, a function that cannot be imported or called, or arguments that it, or a
            network of the report's, does not take.
    """
    config, arguments = model_config(option), arguments or {}
    if not isinstance(config, CustomConfig):
        require(
            not arguments,
            f"The {option} takes no --argument {', '.join(arguments)}: its own options are in `study tune --help`.",
        )
        return config
    parameters = _parameters(_function(config, arguments), config.model_path)
    own = [name for name, item in parameters.items() if name not in KNOWN and item.kind in NAMED]
    for name in arguments:
        if name not in own:
            require(bool(own), f"{config.model_path} has no argument {name!r}: it takes no further ones.")
            raise unknown(f"argument of {config.model_path}", name, own)
        require(
            name not in RESERVED,
            f"The argument {name} of {config.model_path} has the name of another setting or result: rename it.",
        )
    values = {name: value.values if isinstance(value, Choices) else (value,) for name, value in arguments.items()}
    for name, choices in values.items():
        for value in choices:
            _converted(name, value, parameters[name].default)
        drawn, default = arguments[name], parameters[name].default
        require(
            not (isinstance(drawn, Choices) and drawn.has_fractions) or type(default) not in KINDS.keys() - {float},
            f"--argument {name} is {str(drawn)!r}, a range of fractions: its default {default} is no fraction.",
        )
    first = {name: choices[0] for name, choices in values.items()}
    return replace(config, model_source=source_hash(config), arguments=first)


def build(config: CustomConfig, *, classes: int, side: int) -> nn.Module:
    """Calls the function, and checks that the network takes images and returns logits.

    Raises:
        Unbuildable: where it fails, or returns anything else.
    """
    function, path = _function(config, config.arguments), config.model_path
    with _current_folder():
        try:
            model = function(**_arguments(function, config, classes=classes, side=side))
        except StudyError:
            raise
        except Exception as error:
            raise Unbuildable(f"The model {path} failed: {_described(error)}.") from error
    if not isinstance(model, nn.Module):
        raise Unbuildable(f"The model {path} returned a {type(model).__name__}: it must return an nn.Module.")
    model = model.cpu()
    _require_logits(model, path, classes, side)
    return model.train()


def _require_logits(model: nn.Module, path: str, classes: int, side: int) -> None:
    if not any(True for _ in model.parameters()):
        raise Unbuildable(f"The model {path} has no parameters: there is nothing to train.")
    images = torch.zeros(2, CHANNELS, side, side)
    try:
        with torch.no_grad():
            logits = model.eval()(images)
    except Exception as error:
        raise Unbuildable(f"The model {path} fails on images {tuple(images.shape)}: {_described(error)}.") from error
    wanted = (len(images), classes)
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
    if shape != wanted:
        raise Unbuildable(
            f"The model {path} returns {shape} for images {tuple(images.shape)}: it must return logits {wanted}, one "
            "for each class."
        )


def source_hash(config: CustomConfig) -> str:
    """SHA-256 of the file that holds the function; empty for `ARCHITECTURES`, and where there is no file.

    Raises:
        StudyError: where the module cannot be imported.
    """
    if config.model_path in ARCHITECTURES.values():
        return ""
    file = getattr(_module(config), "__file__", None)
    return sha256(Path(file).read_bytes()).hexdigest() if file else ""


def change_warning(config: ModelConfig) -> str:
    """A sentence for a network whose source is not the recorded one; empty where it is."""
    if not isinstance(config, CustomConfig) or not config.model_source or source_hash(config) == config.model_source:
        return ""
    return f"The file of {config.model_path} has changed since the training: it may build another network."


def _function(config: CustomConfig, given: Collection[str]) -> Callable[..., Any]:
    """The function, which needs no other arguments than those that are known and `given`."""
    module, name = _module(config), config.model_path.partition(":")[2]
    function = getattr(module, name, None)
    if function is None:
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and not key.startswith("_")
        ]
        choices = f": choose one of {', '.join(own)}" if own else ""
        raise StudyError(f"The module {module.__name__} has no function {name!r}{choices}.")
    require(callable(function), f"{config.model_path} is a {type(function).__name__}, not a function.")
    parameters = _parameters(function, config.model_path)
    needed = [
        name
        for name, item in parameters.items()
        if item.default is item.empty and item.kind in NAMED and name not in {*KNOWN, *given}
    ]
    require(
        not needed,
        f"The function {config.model_path} needs {', '.join(needed)}: give them defaults, or values by --argument.",
    )
    return cast(Callable[..., Any], function)


def _parameters(function: Callable[..., Any], path: str) -> dict[str, Parameter]:
    """The parameters of the function.

    Raises:
        StudyError: where `classes` is none of them.
    """
    try:
        parameters = dict(inspect.signature(function).parameters)
    except ValueError:
        parameters = {}
    require("classes" in parameters, f"The function {path} has no parameter classes, the number of logits: add it.")
    return parameters


def _arguments(function: Callable[..., Any], config: CustomConfig, **known: int) -> dict[str, Any]:
    """Those of the `known` arguments that the function takes, and those of `config` as the types of their defaults.

    Raises:
        StudyError: for an argument that the function does not take, or a value that has not the type of its default.
    """
    parameters = _parameters(function, config.model_path)
    if lost := ", ".join(config.arguments.keys() - parameters):
        raise StudyError(f"The function {config.model_path} takes no {lost}, with which the network was recorded.")
    given = {name: _converted(name, value, parameters[name].default) for name, value in config.arguments.items()}
    return {name: value for name, value in known.items() if name in parameters} | given


def _converted(name: str, value: Any, default: Any) -> Any:
    """A value of a search, a number or a word, as the type of the parameter's default."""
    kind = type(default)
    if kind not in KINDS:
        return value
    try:
        converted = as_kind(value, kind)
        if isinstance(value, float) and converted != value:
            raise ValueError(value)
        return converted
    except (ValueError, TypeError, KeyError):
        raise StudyError(
            f"--argument {name} is {value!r}: it must be {KINDS[kind]}, as its default {default}."
        ) from None


def _module(config: CustomConfig) -> Any:
    name = config.model_path.partition(":")[0]
    with _current_folder():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if name.endswith(".py"):
                raise StudyError(
                    f"There is no module {name!r}: write {config.model_path.replace('.py:', ':', 1)}, without .py, in "
                    "the folder that holds the file."
                ) from error
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise StudyError(
                    f"There is no module {name!r} in the current folder {Path.cwd()}, and none is installed: run the "
                    f"command in the folder that holds {name.partition('.')[0]}."
                ) from error
            raise StudyError(f"The module {name} cannot be imported: {_described(error)}.") from error
        except Exception as error:
            raise StudyError(f"The module {name} cannot be imported: {_described(error)}.") from error


@contextmanager
def _current_folder() -> Iterator[None]:
    """Modules in the current folder can be imported within the block."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error).rstrip('.')}"
