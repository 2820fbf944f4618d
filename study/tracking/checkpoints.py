"""Checkpoints of a retraining: after every epoch the weights with their hashes, and the state to continue from."""

import hashlib
import json
from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from study.errors import StudyError
from study.system import interruption
from study.tracking.artifacts import DESCRIPTION, MODEL_SUMS, SPLITS, predictions_path, weights_path
from study.tracking.heartbeat import require_own
from study.tracking.registry import CHANGING
from study.tracking.store import Store

if TYPE_CHECKING:
    from torch import Tensor

SLOTS = ("resume/even.safetensors", "resume/odd.safetensors")
"""The two files of the training state, written alternately: if one is cut off, the other is whole, an epoch older."""


class Checkpoint(NamedTuple):
    """The state of a training after an epoch."""

    epoch: int
    tensors: "dict[str, Tensor]"
    """The state that `TrainingState.restore` takes."""
    metrics: dict[str, float]


class Checkpoints:
    """The files that the retraining `run_id` keeps in `store`."""

    def __init__(self, store: Store, run_id: str):
        self._store, self._run_id = store, run_id
        try:
            self._sums = store.sums(run_id)
        except StudyError:
            # The list of hashes was itself altered: no file counts as whole.
            self._sums = {}
        self._recorded = set(store.history(run_id)["epoch"])

    def keep_description(self, description: Mapping[str, Any]) -> None:
        """Writes what the images are, and records the hash."""
        self._sums[DESCRIPTION] = self._store.log_json(self._run_id, DESCRIPTION, description)
        self._store.log_sums(self._run_id, self._sums)

    def keep(self, path: str, tensors: "Mapping[str, Tensor]") -> None:
        """Writes tensors that must not change, and records their hash."""
        self._sums[path] = self._store.log_tensors(self._run_id, path, tensors)
        self._store.log_sums(self._run_id, self._sums)

    def keep_model(self, digests: Mapping[str, str]) -> None:
        """Records the hashes of the model's files that must not change, and the hash of that list."""
        kept = {path: digest for path, digest in digests.items() if path not in CHANGING}
        self._sums[MODEL_SUMS] = self._store.log_sums(self._run_id, kept, MODEL_SUMS)
        self._store.log_sums(self._run_id, self._sums)

    def keep_epoch(self, weights: "Mapping[str, Tensor]", checkpoint: Checkpoint) -> None:
        """Writes the weights, then the training state, and then records the metrics unless they are recorded.

        Raises:
            TakenOver: where another process continues the retraining, since this one stalled for long.
        """
        require_own(self._store, self._run_id)
        epoch, tensors, metrics = checkpoint
        self.keep(weights_path(epoch), weights)
        # The metrics travel with the state: an interruption before they are recorded loses neither.
        slot, metrics_text = SLOTS[epoch % 2], json.dumps(metrics)
        digest = _content_digest({name: tensor.numpy() for name, tensor in tensors.items()}, metrics_text)
        self._store.log_tensors(self._run_id, slot, tensors, metrics=metrics_text, sha256=digest)
        self.record(metrics, epoch)

    def record(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Records the metrics of `epoch` once, however often the epoch is trained."""
        if epoch not in self._recorded:
            self._store.log(self._run_id, metrics, epoch)
            self._recorded.add(epoch)

    def latest(self) -> Checkpoint | None:
        """The latest checkpoint up to whose epoch every file of weights is whole; None without one."""
        checkpoints = filter(None, map(self._read_checkpoint, SLOTS))
        for checkpoint in sorted(checkpoints, key=attrgetter("epoch"), reverse=True):
            if not self.broken_weights(checkpoint.epoch):
                return checkpoint
        return None

    def lost(self) -> list[str]:
        """The missing or altered files for which a begun training cannot be continued; else none."""
        if not self._recorded or self.latest():
            return []
        return self.broken_weights(int(max(self._recorded))) or list(SLOTS)

    def broken_weights(self, epoch: int) -> list[str]:
        """The files of weights up to `epoch` that are missing or altered."""
        return self._broken([weights_path(number) for number in range(epoch + 1)])

    def broken(self, epochs: int) -> list[str]:
        """The files of a finished retraining of so many epochs that are missing or altered."""
        return self.broken_weights(epochs) + self._broken([predictions_path(split) for split in SPLITS])

    def _broken(self, paths: list[str]) -> list[str]:
        return [path for path in paths if not self._is_whole(path)]

    def _is_whole(self, path: str) -> bool:
        interruption.check()
        try:
            return self._sums.get(path) == self._store.digest(self._run_id, path)
        except StudyError:
            return False

    def _read_checkpoint(self, path: str) -> Checkpoint | None:
        listed = self._store.artifacts(self._run_id, "resume")
        if path not in listed or not is_whole_slot(self._store, self._run_id, path):
            return None
        tensors, metadata = self._store.load_tensors(self._run_id, path)
        return Checkpoint(int(tensors["progress"][0]), tensors, json.loads(metadata["metrics"]))


def is_whole_slot(store: Store, run_id: str, path: str) -> bool:
    """Whether the content of a file of the training state is what the hash within it says; needs no torch."""
    try:
        arrays, metadata = store.load_arrays_and_metadata(run_id, path)
    except StudyError:
        return False
    return metadata.get("sha256") == _content_digest(arrays, metadata.get("metrics", ""))


def _content_digest(arrays: Mapping[str, np.ndarray], metrics: str) -> str:
    # Stored within the file: a separate hash would be outdated if the process stopped between the two writes.
    return hashlib.sha256(save(dict(arrays)) + metrics.encode()).hexdigest()
