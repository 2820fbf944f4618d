"""The training step, and on a GPU the step as one launch: captured once as a CUDA graph, then replayed.

A replay repeats the same work on the same memory and takes nothing from the host. So all that differs from step to
step lies on the device: the order of the images, the place in it, the learning rate, the sums of the epoch's metrics.

What lost, on an NVIDIA H200 (bf16; milliseconds for an epoch of 50,000 images; docs/speed.md): launching each step anew
takes 708 instead of 153 for the CNN, 544 instead of 40 for the FFNN. Compiling pooling, bias and ReLU with
`torch.compile` makes it 112 for the CNN, and 61 instead of 110 where four take turns, but costs each process 11 to 18
seconds first: more than the 153 epochs of a search of 40 trials gain.
"""

import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from study.config import TrainConfig
from study.device import Machine
from study.images import Labelled, normalise, pick
from study.state import TrainingState
from study.system import interruption

Launch = Callable[[], None]

EAGER_STEPS = 3
"""Steps of each batch size before one is captured: they make what may not be made during a capture (the optimiser's
state, the libraries' handles and workspaces)."""


def cuda_graph(step: Launch) -> Launch:
    """Captures what `step` queues on the current stream, without doing it; the result does it each time."""
    graph = torch.cuda.CUDAGraph()
    # `torch.cuda.graph` would first wait for all that the device has under way: the other trials' epochs.
    graph.capture_begin(capture_error_mode="thread_local")
    try:
        step()
    finally:
        graph.capture_end()
    return graph.replay


def capture_on(machine: Machine) -> Callable[[Launch], Launch] | None:
    """What turns a step into one launch on `machine`; None where each step is run anew."""
    return cuda_graph if machine.device.type == "cuda" and machine.graphs else None


class Steps:
    """The steps of a training, epoch by epoch; on a GPU to be used on one stream alone."""

    def __init__(self, state: TrainingState, train: Labelled, rows: Tensor, config: TrainConfig, machine: Machine):
        """Takes the images on the device, and which of them (int64, on the device) are trained on."""
        self.state, self.train, self.rows, self.config, self.machine = state, train, rows, config, machine
        self.sizes = [len(part) for part in rows.split(config.batch_size)]
        self._first = torch.arange(config.batch_size, device=machine.device)
        self._order, self._places = torch.empty_like(rows), torch.empty_like(self._first)
        self._steps = torch.tensor(state.steps, dtype=self.state.rate.dtype, device=machine.device)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=machine.device)
        self._correct = torch.zeros((), dtype=torch.int64, device=machine.device)
        self._capture = capture_on(machine)
        self._run: Counter[int] = Counter()
        self._launches: dict[int, Launch] = {}

    def epoch(self, on_batch: Callable[[int], None] | None = None) -> tuple[Tensor, Tensor]:
        """Queues the steps of one epoch; returns the sum of the losses (nats) and the number of right answers.

        Both are scalars on the device, which the next epoch overwrites.
        """
        self.state.model.train()
        order = torch.randperm(len(self.rows), generator=self.state.order)
        self._order.copy_(self.rows[order.to(self.rows.device)])
        self._places.copy_(self._first)
        self._loss_sum.zero_()
        self._correct.zero_()
        for size in self.sizes:
            self._launch(size)
            self.state.steps += 1
            if on_batch:
                on_batch(size)
            interruption.check()
        return self._loss_sum, self._correct

    def _launch(self, size: int) -> None:
        if not self._capture:
            self._step(size)
        elif self._run[size] < EAGER_STEPS:
            self._run[size] += 1
            with warnings.catch_warnings():
                # The optimiser's, of a step that could be captured and is not: yet.
                warnings.filterwarnings("ignore", ".*capturable=True", UserWarning)
                self._step(size)
        else:
            if size not in self._launches:
                self._launches[size] = self._capture(lambda: self._step(size))
            self._launches[size]()

    def _step(self, size: int) -> None:
        index = self._order.index_select(0, self._places[:size])
        loss, correct = self.forward(index)
        self.state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._warm_up()
        self.state.optimiser.step()
        self._loss_sum += loss.detach() * size
        self._correct += correct
        self._places += self.config.batch_size

    def forward(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss (nats) and the number of right answers on the images at `index`, (batch,) int64."""
        labels = self.train.labels.index_select(0, index)
        with self.machine.autocast():
            logits = self.state.model(normalise(pick(self.train.images, index)))
        return functional.cross_entropy(logits.float(), labels), (logits.argmax(1) == labels).sum()

    def _warm_up(self) -> None:
        if self.config.warmup_steps:
            self._steps += 1
            share = (self._steps / self.config.warmup_steps).clamp(max=1)
            self.state.rate.copy_(share * self.config.learning_rate)
