"""A cache on disk for arrays that take long to compute; recomputed only where their inputs or code have changed."""

import hashlib
import json
import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch

from study.system.files import atomic_write, sha256

FOLDER = ".cache"
"""Subfolder of the reports' folder, shared by all reports; it may be deleted at any time."""
PACKAGES = ("captum", "numpy", "pandas", "scipy", "scikit-learn", "torch", "torchvision")
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Cache:
    """A folder of cached arrays, a file for each hash of their inputs and code."""

    folder: Path | None = None
    """None: nothing is cached."""
    again: bool = False
    """Whether everything is recomputed, replacing what is cached."""

    def arrays(
        self, name: str, inputs: Sequence[object], code: Sequence[ModuleType], compute: Callable[[], Arrays]
    ) -> dict[str, np.ndarray]:
        """The arrays that `compute` returns, read from the cache where they are in it.

        Args:
            name: the beginning of the file's name.
            inputs: everything that they are computed from, as JSON; of arrays the `fingerprint`.
            code: the modules that compute them.
            compute: computes them.
        """
        if self.folder is None:
            return dict(compute())
        file = self.folder / f"{name}-{_key(inputs, code)}.npz"
        arrays = None if self.again else _load(file)
        if arrays is None:
            arrays = dict(compute())
            with atomic_write(file) as path, path.open("wb") as opened:
                np.savez_compressed(opened, allow_pickle=False, **arrays)
        return arrays

    def table(
        self, name: str, inputs: Sequence[object], code: Sequence[ModuleType], compute: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """Like `arrays`, for a table of numbers and texts."""
        return pd.DataFrame(self.arrays(name, inputs, code, lambda: columns(compute())))


def columns(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of a table of numbers and texts as arrays without objects, which need no pickle."""
    texts = set(table.select_dtypes(exclude=["number", "bool"]).columns)
    return {str(name): column.to_numpy(str if name in texts else None) for name, column in table.items()}


def fingerprint(*tensors: torch.Tensor) -> str:
    """SHA-256 of the tensors' shapes, types and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        values = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{values.shape} {values.dtype} ".encode() + values.tobytes())
    return digest.hexdigest()


def _key(inputs: Sequence[object], code: Sequence[ModuleType]) -> str:
    modules = {module.__name__: sha256(Path(str(module.__file__))) for module in code}
    key = [inputs, modules, platform.python_version(), {name: version(name) for name in PACKAGES}]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


def _load(file: Path) -> dict[str, np.ndarray] | None:
    """The arrays in the file; None where it is missing, damaged, or holds anything but plain arrays."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, TypeError, EOFError, RuntimeError, BadZipFile, zlib.error):
        return None
