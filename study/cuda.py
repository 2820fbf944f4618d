"""Training on a GPU: streams, the training step as a CUDA graph, results that are read back later.

On a CPU there is no stream, the step stays as it is, and results are there at once.

A replayed graph repeats the same work on the same memory and takes nothing from the host. So everything that differs
from step to step is on the device: the batch's rows, the learning rate, the sums of the epoch's metrics.

Alternatives that were slower, on an NVIDIA H200 (bf16; milliseconds for an epoch of 50,000 images; docs/speed.md):
launching each step anew takes 708 instead of 153 for the CNN, 544 instead of 40 for the FFNN. Compiling pooling, bias
and ReLU with `torch.compile` makes it 112 for the CNN, and 61 instead of 110 where four take turns, but costs each
process 11 to 18 seconds first: more than the 153 epochs of a search of 40 trials gain.
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from study.device import Machine

Launch = Callable[[], None]
Step = Callable[[Tensor], None]
"""Trains on one batch: the images at these rows, int64."""
Event = torch.cuda.Event | float
"""A CUDA event, or, for a CPU, the time in seconds."""

EAGER_STEPS = 3
"""Warm-up steps of each batch size before the capture: they allocate what must not be allocated during it (the
optimiser's state, the libraries' handles and workspaces)."""


class Stream:
    """The CUDA stream of one training; without effect on a CPU."""

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def current(self) -> AbstractContextManager[object]:
        """Makes this the current stream within the block."""
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()

    def record_event(self) -> Event:
        """The event that all work queued so far is done."""
        if not self._stream:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def elapsed_seconds(self, first: Event, second: Event) -> float:
        """The time between two events that have both happened."""
        if isinstance(first, torch.cuda.Event) and isinstance(second, torch.cuda.Event):
            return first.elapsed_time(second) / 1000
        assert isinstance(first, float)
        assert isinstance(second, float)
        return second - first

    def synchronize(self) -> None:
        """Waits until all queued work is done."""
        if self._stream:
            self._stream.synchronize()


class Results:
    """Scalars that may not be computed yet, and the time between two events."""

    def __init__(self, scalars: Mapping[str, Tensor], events: tuple[Event, Event], stream: Stream):
        """Takes scalars on the device by name; `stream` must be the current stream."""
        self._events, self._stream = events, stream
        # Gathered on the device, so that they are read back all at once.
        self._names, self._values = list(scalars), torch.stack([value.double() for value in scalars.values()])

    def wait(self) -> tuple[dict[str, float], float]:
        """Waits for the work; returns the scalars by name, and the seconds between the events."""
        with self._stream.current():
            scalars = dict(zip(self._names, self._values.tolist(), strict=True))
        return scalars, self._stream.elapsed_seconds(*self._events)


def captured(step: Step, machine: Machine) -> Step:
    """`step` as a CUDA graph, for use on a single stream; on a CPU `step` itself."""
    capture = capture_on(machine)
    return _CapturedStep(step, capture) if capture else step


def capture_on(machine: Machine) -> Callable[[Launch], Launch] | None:
    """The function that captures work as a graph on `machine`; None if it is launched anew each time."""
    return cuda_graph if machine.device.type == "cuda" and machine.graphs else None


def cuda_graph(work: Launch) -> Launch:
    """Captures the work that `work` queues on the current stream, without running it; returns its replay."""
    graph = torch.cuda.CUDAGraph()
    # `torch.cuda.graph` would first wait for everything queued on the device, such as other trials' epochs.
    graph.capture_begin(capture_error_mode="thread_local")
    try:
        work()
    finally:
        graph.capture_end()
    return graph.replay


class _CapturedStep:
    """Runs the first steps of each batch size eagerly, then captures one and replays it for all others."""

    def __init__(self, step: Step, capture: Callable[[Launch], Launch]):
        self._step, self._capture = step, capture
        self._eager: Counter[int] = Counter()
        self._graphs: dict[int, tuple[Tensor, Launch]] = {}

    def __call__(self, rows: Tensor) -> None:
        size = len(rows)
        if self._eager[size] < EAGER_STEPS:
            self._eager[size] += 1
            with warnings.catch_warnings():
                # The optimiser warns that a capturable step is not captured: that follows.
                warnings.filterwarnings("ignore", ".*capturable=True", UserWarning)
                self._step(rows)
            return
        if size not in self._graphs:
            # Static input: every replay reads the batch's rows from the same memory.
            place = rows.clone()
            self._graphs[size] = place, self._capture(lambda: self._step(place))
        place, launch = self._graphs[size]
        place.copy_(rows)
        launch()
