"""Training that several processes share: the weights of one process, up to rounding."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing import spawn
from torch.nn import functional

from study import distributed
from study.architectures import CNNConfig
from study.config import TrainConfig
from study.device import Machine, prepare
from study.distributed import Ranks
from study.errors import StudyError
from study.images import Labelled
from study.models import build_model
from study.state import TrainingState
from study.training import Epoch, fit

IMAGES = Labelled(
    torch.randint(0, 256, (11, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    torch.arange(11) % 4,
)
CONFIG = TrainConfig(model=CNNConfig(filters=(4, 6)), epochs=3, batch_size=5, schedule="cosine", warmup_steps=2)
"""Batches of 5, 5 and 1 images: shares of 3 and 2, and of 1 and none."""


class Double(nn.Module):
    """A network in float64, in which the order of sums hardly matters."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build_model(CONFIG.model, classes=4, seed=0).double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images.double())


def trained(machine: Machine) -> tuple[list[Epoch], dict[str, torch.Tensor]]:
    state, epochs = TrainingState(Double(), CONFIG, machine), list[Epoch]()
    fit(state, IMAGES, CONFIG, machine, evaluate={"val": IMAGES}, on_epoch=epochs.append)
    return epochs, state.weights()


def in_process(rank: int, size: int, port: int, folder: Path) -> None:
    """Trains as one of the processes that `torchrun` starts, and keeps what came out."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    machine = prepare("cpu", "float32", 1)
    distributed.join(machine.device)
    given = distributed.broadcast("from the first" if rank == 0 else None)
    epochs, weights = trained(Machine(machine.device, "float32", 1, world_size=size))
    distributed.leave()
    torch.save((given, [epoch.metrics for epoch in epochs], weights), folder / f"{rank}.pt")


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    spawn(in_process, (2, free_port(), tmp_path), nprocs=2)
    epochs, weights = trained(prepare("cpu", "float32", 1))
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert [given for given, _, _ in results] == ["from the first"] * 2
    assert results[0][2].keys() == weights.keys()
    for name, expected in weights.items():
        assert results[0][2][name].equal(results[1][2][name]), "every process has the same weights"
        # The logits are rounded to float32 before the loss, here and there by a last digit.
        torch.testing.assert_close(results[0][2][name], expected, rtol=1e-6, atol=1e-8)
    for _, metrics, _ in results:
        assert [set(epoch) for epoch in metrics] == [set(epoch.metrics) for epoch in epochs]
        for mine, epoch in zip(metrics, epochs, strict=True):
            assert mine == pytest.approx(epoch.metrics, rel=1e-6)


def test_shares_are_the_batch_and_their_losses_average_to_its_mean() -> None:
    logits, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    losses, shares = [], []
    for rank in range(3):
        ranks = Ranks.__new__(Ranks)
        ranks.rank, ranks.size = rank, 3
        shares.append(ranks.share(torch.arange(5)))
        total = functional.cross_entropy(logits[shares[-1]], labels[shares[-1]], reduction="sum")
        losses.append(ranks.loss(total, 5))
        assert len(ranks.share(torch.arange(1))) == (rank == 0)
    assert torch.cat(shares).tolist() == list(range(5))
    torch.testing.assert_close(sum(losses) / 3, functional.cross_entropy(logits, labels))


def test_a_lost_process_is_told_in_a_sentence_and_a_bug_is_not() -> None:
    with pytest.raises(StudyError, match="Another process of this training has ended"), distributed.losses_explained():
        raise RuntimeError("[../third_party/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes"), distributed.losses_explained():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
