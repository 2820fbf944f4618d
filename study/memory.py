"""The memory that training takes, measured before it: where it gives out, Linux ends the process without a word."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from study.config import TrainConfig
from study.device import Machine, release_freed_memory
from study.errors import OutOfMemory
from study.system.memory import free_memory, total_memory

PROBED = (2, 4)
"""Numbers of images that the network is tried on; the difference is what each further image takes."""
GIB = 2**30


def require_memory(model: nn.Module, config: TrainConfig, side: int, images: int, machine: Machine) -> None:
    """Checks that the memory has room for a training on a CPU beside its images; a GPU's own errors say it.

    Args:
        model: the network.
        config: the settings of the training.
        side: side of the images, in pixels.
        images: their number.
        machine: the machine of the computation.

    Raises:
        OutOfMemory: where it has none.
    """
    if machine.device.type != "cpu":
        return
    batch = min(config.batch_size, images)
    need = training_memory(model, batch, side, machine)
    if need > free_memory():
        release_freed_memory()
    free, total = free_memory(), total_memory()
    at_a_time = f" each, {machine.workers} at a time" if machine.workers > 1 else ""
    if need > free or need * machine.workers > total:
        raise OutOfMemory(
            f"To train {config.model.name} on {side} × {side} pixels in batches of {batch} takes about "
            f"{need / GIB:.1f} GiB{at_a_time}, and {free / GIB:.1f} of {total / GIB:.1f} GiB of memory are free: "
            "choose a smaller --image-size or network, fewer --workers, or end other programs that use it."
        )


def training_memory(model: nn.Module, batch: int, side: int, machine: Machine) -> int:
    """Bytes that the weights and a training step of a batch take.

    The step keeps activations for its gradients; the largest of these counts twice, since its own gradient is as large.
    """
    (few, largest_of_few), (many, largest_of_many) = (_kept(model, count, side, machine) for count in PROBED)
    more = PROBED[1] - PROBED[0]
    each = (many - few + largest_of_many - largest_of_few) / more
    # The weights, their gradients, and Adam's two moments.
    weights = 4 * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return int(each * batch + weights)


def _kept(model: nn.Module, count: int, side: int, machine: Machine) -> tuple[int, int]:
    """Bytes that a step keeps of `count` images, and those of the largest tensor."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        # Held, so that no other tensor gets the same address.
        return tensor

    images = torch.zeros(count, 3, side, side).contiguous(memory_format=torch.channels_last)
    with (
        _evaluating(model),
        torch.enable_grad(),
        machine.autocast(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        # Held while the sizes are noted, and all that it keeps with it.
        _ = model(images)
    return sum(sizes.values()), max(sizes.values())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, in which it counts no statistics and draws no numbers."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
