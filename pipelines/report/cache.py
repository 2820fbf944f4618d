"""Arrays that take long to compute, kept on disk and computed anew only where what they depend on has changed."""

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

from study.system.files import sha256, whole

FOLDER = ".cache"
"""Below the reports, for all of them; it may be deleted at any time."""
PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "torch")
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Cache:
    """A folder of such arrays, a file for each hash of what they are computed from."""

    folder: Path | None = None
    """Without a folder everything is computed."""
    again: bool = False
    """Whether everything is computed, and kept, anew."""

    def arrays(
        self, name: str, inputs: Sequence[object], code: Sequence[ModuleType], compute: Callable[[], Arrays]
    ) -> dict[str, np.ndarray]:
        """What `compute` returns, from the cache where it was computed before.

        Args:
            name: what it is.
            inputs: all that it is computed from, as JSON; of arrays their `fingerprint`.
            code: the modules that compute it.
            compute: computes it.
        """
        if self.folder is None:
            return dict(compute())
        file = self.folder / f"{name}-{_key(inputs, code)}.npz"
        arrays = None if self.again else _load(file)
        if arrays is None:
            arrays = dict(compute())
            with whole(file) as path, path.open("wb") as opened:
                np.savez_compressed(opened, allow_pickle=False, **arrays)
        return arrays

    def table(
        self, name: str, inputs: Sequence[object], code: Sequence[ModuleType], compute: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """The same for a table of numbers and texts."""
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
    known = [inputs, modules, platform.python_version(), {name: version(name) for name in PACKAGES}]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def _load(file: Path) -> dict[str, np.ndarray] | None:
    """What the file holds; None where it is missing, damaged, or holds anything but plain arrays."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, TypeError, EOFError, RuntimeError, BadZipFile, zlib.error):
        return None
