"""Three ways to run several trainings on one device: in turns, as processes, and as one vectorised model.

`study tune` trains in turns on a GPU (`study.training.epochs`, advanced one after the other). `benchmarks/gpu.py`
compares it with the other two.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional

from benchmarks.measure import epoch_of, seconds
from study.config import TrainConfig
from study.cuda import EAGER_STEPS, Launch, Stream, capture_on
from study.device import Machine, prepare
from study.images import Labelled, normalise, pick
from study.models import build_model
from study.state import TrainingState
from study.training import epochs, resident

TIMEOUT = 120.0
"""Seconds after which processes count as stuck."""
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's defaults in torch."""


def trainings(images: Labelled, configs: Sequence[TrainConfig], machine: Machine) -> tuple[list[nn.Module], Launch]:
    """The models of `configs`, and a function that trains an epoch of each: queues all, then waits for all."""
    states = [TrainingState(build_model(c.model, classes=10, seed=c.seed), c, machine) for c in configs]
    under_way = [epochs(state, images, c, machine, evaluate={}) for state, c in zip(states, configs, strict=True)]

    def epoch() -> None:
        for pending in [next(training) for training in under_way]:
            pending.wait()

    return [state.model for state in states], epoch


def seconds_in_processes(images: Labelled, config: TrainConfig, machine: Machine, count: int, rounds: int) -> float:
    """Seconds per epoch of `count` concurrent processes; their start and first epoch do not count."""
    context = get_context("spawn")
    arguments = images, config, (str(machine.device), machine.precision, machine.threads), context.Barrier(count)
    with ProcessPoolExecutor(count, context, initializer=_prepare, initargs=arguments) as pool:
        durations = [pool.submit(_in_process, rounds) for _ in range(count)]
        return max(future.result(TIMEOUT) for future in durations) / rounds


_epoch: Launch
_barrier: Barrier


def _prepare(images: Labelled, config: TrainConfig, options: tuple[str, str, int], barrier: Barrier) -> None:
    global _epoch, _barrier
    machine = prepare(*options)
    _epoch, _barrier = epoch_of(resident(images, machine), config, machine), barrier


def _in_process(rounds: int) -> float:
    try:
        _epoch()
        # Wait for all processes, so that none is timed while another is still starting.
        _barrier.wait(TIMEOUT)
    except BaseException:
        _barrier.abort()
        raise
    start = time.perf_counter()
    for _ in range(rounds):
        _epoch()
    return time.perf_counter() - start


class Population:
    """Trains equal networks as one vectorised model: weights and gradients have a first dimension of members.

    Each member has its own seed, order of images, learning rate and L2 decay (Adam, no warm-up). The number of images
    must be a multiple of the batch size.
    """

    def __init__(self, images: Labelled, configs: Sequence[TrainConfig], machine: Machine):
        self.images, self.machine, self.batch = images, machine, configs[0].batch_size
        assert len(images) % self.batch == 0, "the last batch would be another graph"
        members = [build_model(config.model, classes=10, seed=config.seed).to(machine.device) for config in configs]
        self.model = members[0]
        self.weights = {name: stacked.detach() for name, stacked in stack_module_state(members)[0].items()}
        self.first, self.second = (
            {name: torch.zeros_like(weight) for name, weight in self.weights.items()} for _ in range(2)
        )
        self.rate, self.decay = (
            torch.tensor([getattr(config, name) for config in configs], device=machine.device)
            for name in ("learning_rate", "weight_decay")
        )
        self.orders = [torch.Generator().manual_seed(config.seed) for config in configs]
        self.steps = torch.zeros((), device=machine.device)
        self.places = torch.arange(self.batch, device=machine.device)
        self.order = torch.empty(len(configs), len(images), dtype=torch.int64, device=machine.device)
        self.stream, self.capture = Stream(machine.device), capture_on(machine)
        self.launch: Launch | None = None
        self.run = 0

    def epoch(self) -> None:
        """Trains every member on all images once."""
        with self.stream.current():
            drawn = [torch.randperm(len(self.images), generator=order) for order in self.orders]
            self.order.copy_(torch.stack(drawn))
            self.places.copy_(torch.arange(self.batch))
            for _ in range(len(self.images) // self.batch):
                if self.capture and not self.launch and self.run >= EAGER_STEPS:
                    self.launch = self.capture(self._step)
                (self.launch or self._step)()
                self.run += 1
        self.stream.synchronize()

    def _step(self) -> None:
        index = self.order.index_select(1, self.places).flatten()
        members = len(self.rate)
        batch = normalise(pick(self.images.images, index)).unflatten(0, (members, self.batch))
        labels = self.images.labels.index_select(0, index).unflatten(0, (members, self.batch))
        gradients, _ = vmap(grad_and_value(self._loss))(self.weights, batch, labels)
        self.steps += 1
        self.places += self.batch
        for name, weight in self.weights.items():
            shape = (-1, *[1] * (weight.dim() - 1))
            gradient = gradients[name] + self.decay.view(shape) * weight
            self.first[name].lerp_(gradient, 1 - BETAS[0])
            self.second[name].lerp_(gradient.square(), 1 - BETAS[1])
            scale = (self.second[name] / (1 - BETAS[1] ** self.steps)).sqrt_().add_(EPSILON)
            weight -= self.rate.view(shape) / (1 - BETAS[0] ** self.steps) * self.first[name] / scale

    def _loss(self, weights: dict[str, Tensor], batch: Tensor, labels: Tensor) -> Tensor:
        with self.machine.autocast():
            logits = functional_call(self.model, weights, (batch,))
        return functional.cross_entropy(logits.float(), labels)


def timed(epoch: Callable[[], None], rounds: int, device: torch.device) -> float:
    """Mean seconds per epoch over `rounds`, after one uncounted epoch."""
    epoch()

    def counted() -> None:
        for _ in range(rounds):
            epoch()

    return seconds(counted, device) / rounds
