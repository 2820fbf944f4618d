"""What a node of a cluster runs: a training, and before it what the node is. Imports no ray."""

import socket
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch

from pipelines.session.engine import EngineConfig
from study.device import Machine, failures_explained, prepare
from study.errors import Diverged, StudyError, require
from study.images import Labelled
from study.system.extras import DISTRIBUTION

FEWER = "train fewer at a time with --workers"


@dataclass(frozen=True)
class Request:
    """The machine that a training asks for; see `prepare`."""

    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Node:
    """Where a training runs."""

    machine: Machine
    host: str
    software: tuple[str, str]
    """See `versions`: results depend on them."""

    @classmethod
    def here(cls, machine: Machine) -> "Node":
        """This process's node."""
        gpu = str(machine.params()["gpu"])
        return cls(replace(machine, gpu=gpu), socket.gethostname(), versions())


def request_of(engine: EngineConfig, device: str, precision: str, threads: int) -> Request:
    """The machine of each training, from the options of a command.

    Raises:
        StudyError: where the device contradicts the number of GPUs.
    """
    gpus = engine.gpus_per_trial
    kind = "cuda" if gpus else "cpu"
    require(
        device in ("auto", kind),
        f"--device {device} contradicts --gpus-per-trial {gpus:g}: leave out --device with --engine ray.",
    )
    return Request(kind, precision, threads or 1)


def versions() -> tuple[str, str]:
    """The versions of this program and of torch."""
    return version(DISTRIBUTION), version("torch")


def serve(training: Callable[..., Generator[Any]] | None, request: Request, *arguments: Any) -> Generator[Any]:
    """On a node: yields the node, then what `training` yields; an error that it explains comes as the last item."""
    try:
        machine = prepare(request.device, request.precision, request.threads)
        yield Node.here(machine)
        if training:
            images, *others = arguments
            with failures_explained(machine, FEWER):
                for result in training(images, machine, *others):
                    # Nothing else takes turns in this process.
                    if result is not None:
                        yield result
    except (Diverged, StudyError) as error:
        yield error


def as_arrays(images: Labelled) -> tuple[Any, Any]:
    """The images as Ray sends them."""
    # Arrays are shared by all processes of a node; tensors would be copied into each. Contiguous in the order of
    # training.
    return images.images.permute(0, 2, 3, 1).contiguous().numpy(), images.labels.numpy()


def as_labelled(arrays: tuple[Any, Any]) -> Labelled:
    """The images that `as_arrays` made arrays of, in shared memory."""
    with warnings.catch_warnings():
        # Shared memory cannot be written to, and nobody does.
        warnings.simplefilter("ignore")
        images, labels = map(torch.from_numpy, arrays)
    return Labelled(images.permute(0, 3, 1, 2), labels)
