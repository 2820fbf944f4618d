"""The captured step, replayed without a GPU: what a CUDA graph does to memory is done here call by call."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from study import cuda
from study.architectures import CNNConfig, FFNNConfig
from study.config import TrainConfig
from study.cuda import Stream
from study.data import Dataset
from study.device import Machine, prepare
from study.models import build_model
from study.training import Epoch, TrainingState, TrainingStep, epochs, fit
from tests.conftest import needs_gpu

SMALL = CNNConfig(filters=(4, 6))


def settings(**changed: object) -> TrainConfig:
    return TrainConfig(**{"model": SMALL, "learning_rate": 5e-3, "epochs": 4, "batch_size": 32, "seed": 2} | changed)


class Recorder(TorchDispatchMode):
    """Notes every call that is made, with the very tensors that it read and made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        created = call(*args, **(kwargs or {}))
        self.calls.append((call, args, kwargs or {}, created))
        return created


HOST_READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.is_nonzero", "aten.masked_select")
"""Calls whose result the host must know before it can go on, which no capture allows."""


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """As `cuda.cuda_graph`: the result repeats the same calls on the same memory, whatever the host has since done.

    A capture only notes what it queues; here the step is done as well, and what it changed is put back.
    """
    before = [(tensor, tensor.clone()) for tensor in _tensors_in(step)]
    with Recorder() as recorder:
        step()
    for tensor, value in before:
        tensor.copy_(value)
    calls = recorder.calls
    assert not [str(call) for call, *_ in calls if str(call).startswith(HOST_READS)]

    def replay() -> None:
        with torch.no_grad():
            for call, args, kwargs, created in calls:
                again = call(*args, **kwargs)
                for old, new in zip(tree_leaves(created), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    return replay


def _tensors_in(step: Callable[[], None]) -> list[Tensor]:
    """All that a step changes: weights, the optimiser's state, and the counters of its `TrainingStep`."""
    captured = [cell.cell_contents for cell in step.__closure__ or ()]
    (owner,) = [held._step for held in captured if isinstance(held, cuda._CapturedStep)]
    assert isinstance(owner, TrainingStep)
    state = owner.state
    kept = [tensor for values in state.optimiser.state.values() for tensor in values.values()]
    own = [value for value in vars(owner).values() if isinstance(value, Tensor)]
    return [*(parameter.data for parameter in state.model.parameters()), *kept, *own, state.rate]


def trained(config: TrainConfig, dataset: Dataset, machine: Machine) -> tuple[list[Epoch], dict[str, Tensor]]:
    state = TrainingState(build_model(config.model, classes=10, seed=config.seed), config, machine)
    seen: list[Epoch] = []
    fit(state, dataset.train, config, machine, evaluate={"test": dataset.test}, on_epoch=seen.append)
    return seen, state.weights()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"warmup_steps": 9},
        {"warmup_steps": 9, "schedule": "cosine"},
        {"optimiser": "adamw", "weight_decay": 0.1},
        {"weight_decay": 0.1, "batch_size": 40},
        {"batch_size": 500},
        {"model": FFNNConfig(hidden=5)},
    ],
    ids=str,
)
def test_a_captured_step_trains_as_the_step_itself(
    changed: dict[str, object], tiny: Dataset, machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    config = settings(epochs=8, **changed)
    expected, weights = trained(config, tiny, machine)
    captured = []

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        captured.append(step)
        return recorded(step)

    monkeypatch.setattr(cuda, "capture_on", lambda machine: capture)
    replayed, again = trained(config, tiny, machine)
    # One capture for each size of batch, of which the last may be smaller.
    assert len(captured) == len({len(part) for part in torch.arange(len(tiny.train)).split(config.batch_size)})
    assert [epoch.metrics for epoch in replayed] == [epoch.metrics for epoch in expected]
    for name, weight in weights.items():
        assert torch.equal(weight, again[name]), name


def test_a_cpu_captures_nothing(machine: Machine):
    assert cuda.capture_on(machine) is None


def test_trainings_asked_in_turn_are_those_done_one_after_the_other(tiny: Dataset, machine: Machine):
    configs = [settings(seed=seed, learning_rate=rate) for seed, rate in ((2, 5e-3), (3, 1e-3), (4, 1e-2))]
    alone = [trained(config, tiny, machine) for config in configs]
    states = [TrainingState(build_model(SMALL, classes=10, seed=c.seed), c, machine) for c in configs]
    together = [
        epochs(state, tiny.train, config, machine, evaluate={"test": tiny.test})
        for state, config in zip(states, configs, strict=True)
    ]
    seen: list[list[Epoch]] = [[] for _ in configs]
    for _ in range(configs[0].epochs):
        for training, reached in zip(together, seen, strict=True):
            reached.append(next(training).wait())
    for (expected, weights), state, reached in zip(alone, states, seen, strict=True):
        assert [epoch.metrics for epoch in reached] == [epoch.metrics for epoch in expected]
        assert all(torch.equal(weight, state.weights()[name]) for name, weight in weights.items())


def test_a_cpus_stream_works_at_once():
    stream = Stream(torch.device("cpu"))
    with stream.current():
        before, after = stream.record_event(), stream.record_event()
    stream.synchronize()
    assert stream.elapsed_seconds(before, after) >= 0
    assert stream.elapsed_seconds(1.0, 3.5) == 2.5


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_gpus_captured_training_is_its_eager_one_within_rounding(precision: str, tiny: Dataset):
    machine = prepare("cuda", precision)
    config = settings(epochs=4, warmup_steps=6, weight_decay=1e-3)
    captured, weights = trained(config, tiny, machine)
    eager, expected = trained(config, tiny, replace(machine, graphs=False))
    tolerance = 1e-4 if precision == "float32" else 2e-2
    for ours, theirs in zip(captured, eager, strict=True):
        assert ours.metrics["train_loss"] == pytest.approx(theirs.metrics["train_loss"], rel=tolerance)
    for name, weight in expected.items():
        assert torch.allclose(weights[name], weight, atol=tolerance), name


@needs_gpu
def test_a_gpu_measures_the_time_between_events():
    stream = Stream(torch.device("cuda"))
    before, after = stream.record_event(), stream.record_event()
    stream.synchronize()
    assert 0 <= stream.elapsed_seconds(before, after) < 1


@needs_gpu
def test_a_training_that_is_closed_early_leaves_the_gpu_to_the_next(tiny: Dataset):
    machine, config = prepare("cuda", "float32"), settings()
    state = TrainingState(build_model(SMALL, classes=10, seed=2), config, machine)
    training = epochs(state, tiny.train, config, machine, evaluate={"test": tiny.test})
    for _ in range(2):
        next(training).wait()
    # The third is queued and never waited for.
    next(training)
    training.close()
    assert len(trained(config, tiny, machine)[0]) == config.epochs
