"""The textbook loop, the baseline of the benchmarks: trains these networks as PyTorch's tutorials do.

torchvision's dataset of Python objects, `ToTensor` and `Normalize` for each image, a `DataLoader`, float32, the layers
in the report's order, and the loss read after every step. It runs in its own process, in which `study.device.prepare`
is not called.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.measure import seconds
from study.config import TrainConfig
from study.images import Labelled


def network(model: str) -> nn.Module:
    """The report's network `model`."""
    if model == "ffnn":
        return nn.Sequential(nn.Flatten(), nn.Linear(3072, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4096, 10),
    )


def cifar10_of(images: Labelled) -> CIFAR10:
    """torchvision's CIFAR10 data set with the given images."""
    dataset = CIFAR10.__new__(CIFAR10)
    dataset.data = images.images.permute(0, 2, 3, 1).contiguous().numpy()
    dataset.targets = images.labels.tolist()
    dataset.transform = Compose([ToTensor(), Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
    dataset.target_transform = None
    return dataset


def epoch_of(images: Labelled, config: TrainConfig, device: str) -> Callable[[], None]:
    """A function that trains one epoch on `images`."""
    model = network(config.model.name).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(cifar10_of(images), batch_size=config.batch_size, shuffle=True)

    def epoch() -> None:
        running_loss = 0.0
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimiser.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimiser.step()
            running_loss += loss.item()

    return epoch


_epoch: Callable[[], None]


def _prepare(images: Labelled, config: TrainConfig, device: str, threads: int) -> None:
    global _epoch
    torch.set_num_threads(threads)
    _epoch = epoch_of(images, config, device)


def _timed(device: str) -> float:
    return seconds(_epoch, torch.device(device))


class Textbook:
    """The textbook loop in its own process; each call trains one epoch there and returns its seconds."""

    def __init__(self, images: Labelled, config: TrainConfig, device: str, threads: int):
        self.device = device
        self.process = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_prepare, initargs=(images, config, device, threads)
        )

    def __enter__(self) -> "Textbook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.shutdown()

    def epoch(self) -> float:
        """Trains an epoch; returns its seconds."""
        return self.process.submit(_timed, self.device).result()
