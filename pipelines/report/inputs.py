"""What a step of the analysis is made from, as one hash: where it is the same, so is what the step would make."""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.report.network import Network
from study.data import Dataset
from study.errors import StudyError
from study.system.files import sha256
from study.tracking.store import Store

CODE, SUFFIXES = ("analysis", "pipelines", "study"), (".py", ".html", ".js", ".css")
PACKAGES = ("matplotlib", "numpy", "pandas", "pillow", "scikit-learn", "scipy", "torch")


class Inputs:
    """The inputs of the steps about runs on one data set: their arguments, what those stand for, and the code.

    A step is a `functools.partial`, so that its arguments are all that it depends on.
    """

    def __init__(self, dataset: str):
        self._dataset = dataset
        self._code = [_code(), platform.python_version(), *map(version, PACKAGES)]
        self._known: dict[int, Any] = {}

    def digest(self, step: Callable[[], Any]) -> str:
        """SHA-256 over all that `step` is made from."""
        return hashlib.sha256(json.dumps([self._code, self._told(step)]).encode()).hexdigest()

    def _told(self, value: Any) -> Any:
        """`value` as JSON that is equal where the step would make the same of it."""
        match value:
            case None | bool() | int() | float() | str():
                return value
            case Network() | Store() | torch.Tensor() | np.ndarray():
                # Alive as long as the steps are, so that no other object gets its id.
                if id(value) not in self._known:
                    self._known[id(value)] = self._read(value)
                return self._known[id(value)]
            case Dataset():
                return [value.key, value.digest, value.classes, value.source, len(value.train), len(value.test)]
            case Mapping():
                return [[self._told(key), self._told(item)] for key, item in value.items()]
            case list() | tuple():
                return [self._told(item) for item in value]
            case partial():
                return [self._told(one) for one in (value.func, value.args, value.keywords)]
            case torch.device():
                return str(value)
        if is_dataclass(value):
            return [type(value).__name__, *(self._told(getattr(value, field.name)) for field in fields(value))]
        # A cached function hides what it calls.
        inner = getattr(value, "__wrapped__", None)
        return self._told(inner) if inner else f"{value.__module__}.{value.__qualname__}"

    def _read(self, value: Network | Store | torch.Tensor | np.ndarray) -> Any:
        match value:
            case torch.Tensor():
                return self._read(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            case np.ndarray():
                return [value.shape, str(value.dtype), hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()]
            case Store():
                # Searches, seeds and experiments: whatever a step looks up there is of the data set.
                runs = [run for run in value.runs([self._dataset]) if run.stage != "analysis"]
                return sorted([run.id, run.status, run.tags, run.metrics] for run in runs)
        weights = {epoch: _digest(value, path) for epoch, path in sorted(value.files.items())}
        known = (value.run, value.classes, value.predictions, value.missing)
        return [weights, value.history.to_csv(), *map(self._told, known)]


def _digest(network: Network, path: str) -> str:
    try:
        return network.store.digest(network.run.id, path)
    except StudyError as error:
        return str(error)


def _code() -> list[str]:
    root = Path(__file__).parents[2]
    files = sorted(file for package in CODE for file in (root / package).rglob("*.*") if file.suffix in SUFFIXES)
    return [f"{sha256(file)} {file.relative_to(root)}" for file in files]
