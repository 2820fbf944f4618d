"""Data-parallel training in several processes, started by `torchrun`: DistributedDataParallel, for `study retrain`.

Each process trains on its share of every batch, and keeps the same weights. The first one (rank 0) runs the command and
records; the others repeat the trainings that it names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from study.errors import StudyError
from study.system import interruption


def join(device: torch.device) -> None:
    """Connects this process with the others: by NCCL between GPUs, else by Gloo."""
    # While the first one decodes images or exports a model, the others wait; where one ends, `torchrun` ends them all.
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(days=1))


def leave() -> None:
    """Disconnects this process."""
    distributed.destroy_process_group()


def broadcast(value: Any = None) -> Any:
    """What the first process gives, in every process; waits for it."""
    values = [value]
    with losses_explained():
        distributed.broadcast_object_list(values)
    return values[0]


@contextmanager
def losses_explained() -> Iterator[None]:
    """Explains within the block that another process has ended, on which this one waits.

    Raises:
        StudyError: where one has.
        KeyboardInterrupt: where this process is to end as well.
    """
    try:
        yield
    except RuntimeError as error:
        # Gloo raises no type of its own.
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        interruption.check()
        raise StudyError(
            "Another process of this training has ended, or cannot be reached: the same command continues."
        ) from error


class Ranks:
    """The processes that share a training."""

    def __init__(self) -> None:
        """Needs processes that have joined."""
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def wrapped(self, model: nn.Module) -> nn.Module:
        """`model` with gradients that are averaged over the processes."""
        return DistributedDataParallel(model)

    def share(self, rows: Tensor) -> Tensor:
        """The part of a batch that this process works on; empty where there are fewer images than processes."""
        return rows.tensor_split(self.size)[self.rank]

    def loss(self, total: Tensor, images: int) -> Tensor:
        """The loss to differentiate: the gradients' average over processes is that of the mean over the whole batch.

        Args:
            total: sum of the losses of this process's share.
            images: number of images in the whole batch.
        """
        return total * (self.size / images)

    def add(self, *sums: Tensor) -> None:
        """Makes each tensor the sum over all processes."""
        for tensor in sums:
            distributed.all_reduce(tensor)
