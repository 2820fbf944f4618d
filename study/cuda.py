"""What a GPU adds to training: streams, the step as a CUDA graph, results that are read back later.

On a CPU, which works at once, each of these does the plain thing.

A replayed graph repeats the same work on the same memory and takes nothing from the host. So all that differs from step
to step lies on the device: the batch's rows, the learning rate, the sums of the epoch's metrics.

What lost, on an NVIDIA H200 (bf16; milliseconds for an epoch of 50,000 images; docs/speed.md): launching each step anew
takes 708 instead of 153 for the CNN, 544 instead of 40 for the FFNN. Compiling pooling, bias and ReLU with
`torch.compile` makes it 112 for the CNN, and 61 instead of 110 where four take turns, but costs each process 11 to 18
seconds first: more than the 153 epochs of a search of 40 trials gain.
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
"""Trains on the images at the given rows."""
Event = torch.cuda.Event | float
"""A CUDA event, or, for a CPU, the time in seconds."""

EAGER_STEPS = 3
"""Steps of each batch size before one is captured: they make what may not be made during a capture (the optimiser's
state, the libraries' handles and workspaces)."""


class Stream:
    """A CUDA stream, in which the work of one training waits for its GPU; a CPU works at once."""

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
    """Scalars and the time between two events, perhaps not computed yet."""

    def __init__(self, scalars: Mapping[str, Tensor], events: tuple[Event, Event], stream: Stream):
        """Takes scalars on the device by name; to be called with `stream` as the current one."""
        self._events, self._stream = events, stream
        # Gathered on the device, so that they are read back all at once.
        self._names, self._values = list(scalars), torch.stack([value.double() for value in scalars.values()])

    def wait(self) -> tuple[dict[str, float], float]:
        """The scalars by name, and the seconds between the events, once the work is done."""
        with self._stream.current():
            scalars = dict(zip(self._names, self._values.tolist(), strict=True))
        return scalars, self._stream.elapsed_seconds(*self._events)


def captured(step: Step, machine: Machine) -> Step:
    """`step` as one launch per batch, to be used on one stream alone; on a CPU `step` itself."""
    capture = capture_on(machine)
    return _CapturedStep(step, capture) if capture else step


def capture_on(machine: Machine) -> Callable[[Launch], Launch] | None:
    """What turns work into one launch on `machine`; None where it is run anew each time."""
    return cuda_graph if machine.device.type == "cuda" and machine.graphs else None


def cuda_graph(work: Launch) -> Launch:
    """Captures what `work` queues on the current stream, without doing it; the result does it each time."""
    graph = torch.cuda.CUDAGraph()
    # `torch.cuda.graph` would first wait for all that the device has under way: the other trials' epochs.
    graph.capture_begin(capture_error_mode="thread_local")
    try:
        work()
    finally:
        graph.capture_end()
    return graph.replay


class _CapturedStep:
    """Runs the first steps of each batch size eagerly, then captures one, and replays it for all that follow."""

    def __init__(self, step: Step, capture: Callable[[Launch], Launch]):
        self._step, self._capture = step, capture
        self._eager: Counter[int] = Counter()
        self._graphs: dict[int, tuple[Tensor, Launch]] = {}

    def __call__(self, rows: Tensor) -> None:
        size = len(rows)
        if self._eager[size] < EAGER_STEPS:
            self._eager[size] += 1
            with warnings.catch_warnings():
                # The optimiser's, of a step that could be captured and is not: yet.
                warnings.filterwarnings("ignore", ".*capturable=True", UserWarning)
                self._step(rows)
            return
        if size not in self._graphs:
            # The memory that every replay reads the batch's rows from.
            place = rows.clone()
            self._graphs[size] = place, self._capture(lambda: self._step(place))
        place, launch = self._graphs[size]
        place.copy_(rows)
        launch()
