"""Networks of the user's own: finds the function that builds one, calls it, and checks what it returns.

The function takes the number of classes as `classes`, and the side of the images as `side` if it has such a parameter.
Its module is imported from the current folder or from what is installed. A run records where the function is and the
hash of its file; a function without a parameter `classes` is never called, so that a recorded path runs none of the
functions of the standard library.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from study.config import ARCHITECTURES, CustomConfig, ModelConfig, model_config
from study.errors import StudyError, first_line, require

CHANNELS = 3


def described(option: str) -> ModelConfig:
    """The settings of the network that --model names, with the hash of its source.

    Raises:
        StudyError: for an unknown name, or a function that cannot be imported or called.
    """
    config = model_config(option)
    if not isinstance(config, CustomConfig):
        return config
    _function(config)
    return replace(config, model_source=source_hash(config))


def build(config: CustomConfig, *, classes: int, side: int) -> nn.Module:
    """Calls the function, and checks that the network takes images and returns logits.

    Raises:
        StudyError: where it fails, or returns anything else.
    """
    function, path = _function(config), config.model_path
    with _current_folder():
        try:
            model = function(**_arguments(function, path, classes=classes, side=side))
        except StudyError:
            raise
        except Exception as error:
            raise StudyError(f"The model {path} failed: {_described(error)}.") from error
    require(
        isinstance(model, nn.Module),
        f"The model {path} returned a {type(model).__name__}: it must return an nn.Module.",
    )
    assert isinstance(model, nn.Module)
    model = model.cpu()
    _require_logits(model, path, classes, side)
    return model.train()


def _require_logits(model: nn.Module, path: str, classes: int, side: int) -> None:
    require(any(True for _ in model.parameters()), f"The model {path} has no parameters: there is nothing to train.")
    images = torch.zeros(2, CHANNELS, side, side)
    try:
        with torch.no_grad():
            logits = model.eval()(images)
    except Exception as error:
        raise StudyError(f"The model {path} fails on images {tuple(images.shape)}: {_described(error)}.") from error
    wanted = (len(images), classes)
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
    require(
        shape == wanted,
        f"The model {path} returns {shape} for images {tuple(images.shape)}: it must return logits {wanted}, one for "
        "each class.",
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


def changed(config: ModelConfig) -> str:
    """A sentence for a network whose source is not the recorded one; empty where it is."""
    if not isinstance(config, CustomConfig) or not config.model_source or source_hash(config) == config.model_source:
        return ""
    return f"The file of {config.model_path} has changed since the training: it may build another network."


def _function(config: CustomConfig) -> Callable[..., Any]:
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
    _arguments(function, config.model_path, classes=0, side=0)
    return cast(Callable[..., Any], function)


def _arguments(function: Callable[..., Any], path: str, **known: int) -> dict[str, int]:
    """Those of the `known` arguments that the function takes.

    Raises:
        StudyError: where `classes` is none of them, or it needs others.
    """
    try:
        parameters = dict(inspect.signature(function).parameters)
    except ValueError:
        parameters = {}
    require("classes" in parameters, f"The function {path} has no parameter classes, the number of logits: add it.")
    needed = [
        name
        for name, item in parameters.items()
        if item.default is item.empty and item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL) and name not in known
    ]
    require(not needed, f"The function {path} needs {', '.join(needed)}: give them defaults; only classes is passed.")
    return {name: value for name, value in known.items() if name in parameters}


def _module(config: CustomConfig) -> Any:
    name = config.model_path.partition(":")[0]
    with _current_folder():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
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
