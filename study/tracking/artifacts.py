"""Artifacts of runs: tensors, JSON, tables and folders; written atomically, and checked when they are read.

In a local store a file is written to a temporary path and renamed; to a server it is uploaded. `SHA256SUMS`, at the
root of a run's artifacts, holds the hashes of the files that must not change, in the format of `sha256sum`.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import mlflow.exceptions
import numpy as np
import pandas as pd
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from safetensors import SafetensorError, safe_open

from study.errors import StudyError, first_line
from study.system import interruption
from study.system.faults import explained
from study.system.files import atomic_write, is_hidden, remove_unfinished, sha256, sums_text, within

if TYPE_CHECKING:
    from torch import Tensor

SUMS = "SHA256SUMS"
MODEL_SUMS = "MODEL_SHA256SUMS"
"""The same for the files of the run's model, by path within the model's folder."""
DESCRIPTION = "dataset.json"
"""Artifact path of the description of a retraining's images."""
SPLITS = ("train", "test")


def weights_path(epoch: int) -> str:
    """Artifact path of the weights after `epoch`; 0 is before training."""
    return f"weights/epoch_{epoch:03d}.safetensors"


def epoch_of(path: str) -> int | None:
    """Epoch of the weights in the artifact `path`; None for any other artifact."""
    match = re.fullmatch(r"weights/epoch_(\d{3,9})\.safetensors", path, re.ASCII)
    return int(match[1]) if match else None


def predictions_path(split: str) -> str:
    """Artifact path of the final predictions for `split`."""
    return f"predictions/{split}.safetensors"


class Artifacts:
    """Artifacts of the runs in the store of `client`."""

    def __init__(self, client: MlflowClient, served: str | None = None):
        """`served` is the URI of the folder where a server on this store keeps artifacts; None for its clients."""
        self.client, self._served = client, served
        self._roots: dict[str, Path | None] = {}

    def log_tensors(self, run_id: str, path: str, tensors: Mapping[str, "Tensor"], **metadata: str) -> str:
        """Logs tensors as the safetensors artifact `path`; returns its SHA-256 as hex digits."""
        # Imported here, since most commands need no torch.
        from safetensors.torch import save_file

        with self._written(run_id, path) as file:
            save_file(dict(tensors), file, metadata=metadata or None)
            return sha256(file)

    def load_tensors(self, run_id: str, path: str) -> tuple[dict[str, "Tensor"], dict[str, str]]:
        """The tensors of the artifact `path`, and their metadata.

        Raises:
            StudyError: where the artifact is missing, is no valid safetensors file, or differs from its hash.
        """
        return self._load(run_id, path, "pt")

    def load_arrays(self, run_id: str, path: str) -> dict[str, np.ndarray]:
        """The tensors of the artifact `path` as arrays, without torch.

        Raises:
            StudyError: as `load_tensors`.
        """
        return self.load_arrays_and_metadata(run_id, path)[0]

    def load_arrays_and_metadata(self, run_id: str, path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """As `load_tensors`, without torch."""
        return self._load(run_id, path, "numpy")

    def _load(self, run_id: str, path: str, framework: str) -> tuple[dict[str, Any], dict[str, str]]:
        with self._checked(run_id, path) as file, safe_open(file, framework) as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})

    def log_sums(self, run_id: str, sums: Mapping[str, str], name: str = SUMS) -> str:
        """Logs the SHA-256 of files, by path, as the artifact `name`; returns the SHA-256 of that artifact."""
        with self._written(run_id, name) as file:
            file.write_text(sums_text(dict(sorted(sums.items()))), encoding="utf-8")
            return sha256(file)

    def sums(self, run_id: str, name: str = SUMS) -> dict[str, str]:
        """The SHA-256 of files, by path, that `log_sums` logged as `name`; empty where there is no such artifact.

        Raises:
            StudyError: where the artifact is not in the format of `sha256sum`.
        """
        if name not in self.artifacts(run_id):
            return {}
        with self._read(run_id, name) as file:
            text = file.read_text(encoding="utf-8")
            sums = re.findall(r"^([0-9a-f]{64}) [ *](.+)$", text, re.MULTILINE)
            if len(sums) != len(text.splitlines()):
                raise ValueError("it is not what sha256sum writes")
            return {path: digest for digest, path in sums}

    def digest(self, run_id: str, path: str) -> str:
        """The current SHA-256 of the artifact `path`.

        Raises:
            StudyError: where there is no such artifact.
        """
        with self._read(run_id, path) as file:
            return sha256(file)

    def log_json(self, run_id: str, path: str, content: Mapping[str, Any]) -> str:
        """Logs `content` as the JSON artifact `path`; returns its SHA-256."""
        with self._written(run_id, path) as file:
            file.write_text(json.dumps(content, indent=2), encoding="utf-8")
            return sha256(file)

    def load_json(self, run_id: str, path: str) -> dict[str, Any]:
        """The content of the JSON artifact `path`.

        Raises:
            StudyError: where there is no such artifact, no JSON object in it, or it differs from its hash.
        """
        with self._checked(run_id, path) as file:
            content = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("it is no JSON object")
            return content

    def classes(self, run_id: str) -> tuple[str, ...]:
        """The class names that the retraining `run_id` recorded, by label.

        Raises:
            StudyError: where they are missing or altered.
        """
        names = self.load_json(run_id, DESCRIPTION).get("classes")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise StudyError(f"The artifact {DESCRIPTION} of run {run_id} names no classes.")
        return tuple(names)

    def load_table(self, run_id: str, path: str, columns: Mapping[str, type]) -> pd.DataFrame:
        """Reads `columns`, given with their types, from the CSV artifact `path`.

        Raises:
            StudyError: where there is no such artifact, or no table with these columns in it.
        """
        with self._read(run_id, path) as file:
            return pd.read_csv(file, usecols=list(columns), dtype=dict(columns))

    def log_folder(self, run_id: str, folder: Path, path: str, *, leave_out: str = "") -> dict[str, str]:
        """Logs all files below `folder` as artifacts below `path`; returns the SHA-256 of each by its path.

        Leaves out hidden files and folders, and the subfolder `leave_out`.
        """
        sums = {}
        for source in sorted(folder.rglob("*")):
            interruption.check()
            name = source.relative_to(folder)
            if source.is_file() and not is_hidden(name) and name.parts[0] != leave_out:
                artifact = str(PurePosixPath(path, name))
                sums[artifact] = self._log_file(run_id, source, artifact)
        return sums

    def _log_file(self, run_id: str, source: Path, path: str) -> str:
        root, digest = self.root(run_id), sha256(source)
        if not (root and (root / path).is_file() and sha256(root / path) == digest):
            with self._written(run_id, path) as file:
                shutil.copyfile(source, file)
        return digest

    def artifacts(self, run_id: str, path: str = "") -> list[str]:
        """Sorted paths of the files directly below `path`; empty where there are none.

        Raises:
            StudyError: where the store lists a file that is not directly below `path`.
        """
        root = self.root(run_id)
        if root:
            folder = within(root, path)
            files = folder.iterdir() if folder.is_dir() else ()
            listed = [PurePosixPath(file.relative_to(root)) for file in files if file.is_file()]
        else:
            listed = [PurePosixPath(info.path) for info in self.client.list_artifacts(run_id, path) if not info.is_dir]
        for file in listed:
            if file.parent != PurePosixPath(path):
                raise StudyError(f"The store lists {str(file)!r} in {path or '.'} of run {run_id}: it lies elsewhere.")
        return sorted(str(file) for file in listed if not is_hidden(file))

    @contextmanager
    def _written(self, run_id: str, path: str) -> Iterator[Path]:
        """A file to write, which becomes the artifact `path` when the block ends."""
        root = self.root(run_id)
        if root:
            target = within(root, path)
            # What a killed process left: whoever continues its work writes to the same folder.
            remove_unfinished(target.parent)
            with explained(root), atomic_write(target) as file:
                yield file
            return
        with tempfile.TemporaryDirectory(prefix="study-") as folder:
            file = Path(folder, PurePosixPath(path).name)
            yield file
            parent = str(PurePosixPath(path).parent)
            self.client.log_artifact(run_id, str(file), None if parent == "." else parent)

    @contextmanager
    def _checked(self, run_id: str, path: str) -> Iterator[Path]:
        """The artifact `path` as `_read` gives it, if its hash is the recorded one, where there is one."""
        expected = self.sums(run_id).get(path)
        with self._read(run_id, path) as file:
            if expected and sha256(file) != expected:
                raise StudyError(f"The artifact {path} of run {run_id} was altered: its hash is not that in {SUMS}.")
            yield file

    @contextmanager
    def _read(self, run_id: str, path: str) -> Iterator[Path]:
        """The artifact `path` as a read-only file; turns errors of reading it into a `StudyError`."""
        with tempfile.TemporaryDirectory(prefix="study-") as folder:
            file = self._fetched(run_id, path, Path(folder))
            try:
                yield file
            except (SafetensorError, OSError, ValueError) as error:
                raise StudyError(f"The artifact {path} of run {run_id} cannot be read: {first_line(error)}") from None

    def _fetched(self, run_id: str, path: str, folder: Path) -> Path:
        root = self.root(run_id)
        try:
            if root is None:
                return Path(self.client.download_artifacts(run_id, path, str(folder)))
            with explained(root):
                within(root, path).stat()
            return within(root, path)
        except (mlflow.exceptions.MlflowException, OSError) as error:
            is_away = root is not None and not root.is_dir()
            hint = "; if the home was moved, `study doctor --fix` corrects the location" if is_away else ""
            raise StudyError(f"Run {run_id} has no artifact {path}: {first_line(error)}{hint}") from None

    def place(self, uri: str) -> str:
        """The URI of a folder of artifacts as it is reached from here: on a server's own store without the server."""
        parts = urlparse(uri)
        return self._served + parts.path if self._served and parts.scheme == "mlflow-artifacts" else uri

    def root(self, run_id: str) -> Path | None:
        """The folder of a run's artifacts; None where a server keeps them."""
        if run_id not in self._roots:
            uri = self.place(str(self.client.get_run(run_id).info.artifact_uri))
            is_local = urlparse(uri).scheme in ("", "file")
            self._roots[run_id] = Path(local_file_uri_to_path(uri)) if is_local else None
        return self._roots[run_id]
