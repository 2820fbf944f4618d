"""A Ray cluster as the engine: trainings run as tasks on its nodes, and stream their results back to this process.

This process alone talks to the stores, so that nodes need to reach nothing but Ray.
"""

import atexit
import contextlib
import math
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from pipelines.session.engine import EngineConfig
from pipelines.session.node import DISTRIBUTION, FEWER, Node, Request, as_arrays, as_labelled, serve, versions
from pipelines.session.ray_connection import connect, leave
from study.device import Machine
from study.errors import Lost, OutOfMemory, StudyError, first_line, require
from study.images import Labelled
from study.system import interruption

Say = Callable[[str], None]
Training = Callable[..., Generator[Any]]
MAX_KILLED = 3
"""Maximum number of killed workers while no training gets on; one more ends the command, since the cause persists."""


class Cluster:
    """A connection to a Ray cluster; a process has at most one.

    Attributes:
        machine: device, precision and threads of the trainings.
        places: number of trainings at a time.
    """

    def __init__(self, engine: EngineConfig, request: Request, say: Say):
        """Connects to the cluster of `engine`, whose nodes train with what `request` asks for.

        Raises:
            StudyError: where Ray is not installed, there is no cluster, it has too little, or runs other versions.
        """
        self._say = say
        self._streams: list[Any] = []
        self._ready: set[Any] = set()
        self._shared: dict[int, tuple[Any, Any]] = {}
        self._killed = 0
        self._ray = ray = connect(engine.address or "auto")
        self.name = f"at {ray.get_runtime_context().gcs_address}"
        self._node = self._socket()
        ray.util.register_serializer(Labelled, serializer=as_arrays, deserializer=as_labelled)
        self._request = request
        room = self._room(request.threads, engine.gpus_per_trial)
        self._task = ray.remote(serve).options(
            num_returns="streaming", max_retries=0, num_cpus=request.threads, num_gpus=engine.gpus_per_trial
        )
        self.places = engine.workers or room
        self.machine = self._probe()
        self._known = {self.machine.gpu}
        # Decided once, so that nodes that would choose otherwise give the same results.
        self._request = replace(request, precision=self.machine.precision)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        say(
            f"Ray cluster {self.name}, nodes: {len(nodes)}, trainings at a time: {self.places}, each on {self.machine}."
        )

    def close(self) -> None:
        """Disconnects, which ends the trainings; as the end of the process does."""
        self._node.close()
        self._ray.shutdown()

    def _socket(self) -> socket.socket:
        """A connection to this machine's node, which closes when the node ends."""
        here = self._ray.get_runtime_context().get_node_id()
        [path] = [node["ObjectStoreSocketName"] for node in self._ray.nodes() if node["NodeID"] == here]
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return connection

    def _room(self, cpus: int, gpus: float) -> int:
        """How many trainings the cluster has room for now."""
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        most_cpus, most_gpus = (
            max((each.get(kind, 0.0) for each in resources), default=0.0) for kind in ("CPU", "GPU")
        )
        require(
            gpus <= most_gpus,
            f"GPUs per trial is {gpus:g}, but no node of the Ray cluster {self.name} has more than {most_gpus:g}: "
            "choose fewer with --gpus-per-trial.",
        )
        require(
            cpus <= most_cpus,
            f"Threads is {cpus}, but no node of the Ray cluster {self.name} has more than {most_cpus:g} CPUs: choose "
            "fewer with --threads.",
        )
        by_gpus = [math.floor(each.get("GPU", 0.0) / gpus) for each in resources] if gpus else None
        by_cpus = [math.floor(each.get("CPU", 0.0) / cpus) for each in resources]
        return max(1, sum(map(min, by_cpus, by_gpus) if by_gpus else by_cpus))

    def _probe(self) -> Machine:
        """The machine of a training on a node."""
        try:
            with contextlib.closing(self._items(None)) as items:
                node = next(item for item in items if item)
        except self._ray.exceptions.RayError as error:
            if "No module named" in str(error):
                raise StudyError(
                    f"The nodes of the Ray cluster {self.name} lack this program: install the same version on each, "
                    "with the extra `ray`, before `ray start`."
                ) from None
            raise
        except Lost as error:
            raise StudyError(f"The Ray cluster {self.name} lost its first task ({error}): start again.") from None
        self._require_same(node)
        return node.machine

    def _require_same(self, node: Node) -> None:
        for name, theirs, ours in zip((DISTRIBUTION, "torch"), node.software, versions(), strict=True):
            if theirs != ours:
                raise StudyError(
                    f"Node {node.host} of the Ray cluster {self.name} has {name} {theirs}, this process {ours}: "
                    "install one version on all, since results depend on it."
                )

    def stream(self, training: Training, images: Any, *arguments: Any, timeout: int = 0) -> Generator[Any | None]:
        """Runs a training on a node; yields its results as they come, and None while there is none.

        Several streams are to be advanced in turns.

        Args:
            training: a generator function of a module that the nodes can import.
            images: its first argument, which goes to each node once.
            *arguments: further ones.
            timeout: seconds without a result after which its worker is killed; 0: never.

        Raises:
            Lost: where its node or worker was lost, or the timeout passed.
            StudyError: what the training itself raised, or where worker after worker is killed.
        """
        with contextlib.closing(self._items(training, self._share(images), *arguments, timeout=timeout)) as items:
            for item in items:
                if isinstance(item, Node):
                    self._require_same(item)
                    self._say_other(item)
                else:
                    yield item

    def _say_other(self, node: Node) -> None:
        gpu = node.machine.gpu
        if gpu not in self._known:
            self._known.add(gpu)
            self._say(f"Node {node.host} trains on another GPU, {gpu}: its results may differ in the last digits.")

    def _share(self, images: Any) -> Any:
        """The reference to images in the object store, which sends them to each node once."""
        self._require_node()
        if id(images) not in self._shared:
            # With the images, whose id is another object's once they are gone.
            try:
                self._shared[id(images)] = images, self._ray.put(images)
            except self._ray.exceptions.ObjectStoreFullError:
                raise StudyError(
                    "The object store of this machine's Ray node has no room for the images: start the nodes with a "
                    "larger --object-store-memory."
                ) from None
        return self._shared[id(images)][1]

    def _items(
        self, training: Callable[..., Generator[Any]] | None, *arguments: Any, timeout: int = 0
    ) -> Generator[Any]:
        self._require_node()
        results, is_started, hangs = self._task.remote(training, self._request, *arguments), False, False
        self._streams.append(results)
        since = time.monotonic()
        try:
            while True:
                if self._is_ready(results):
                    item = self._take(results)
                    if isinstance(item, Exception):
                        raise item
                    yield item
                    is_started, since = True, time.monotonic()
                elif hangs := bool(is_started and timeout and time.monotonic() - since > timeout):
                    reason = f"timed out after {timeout} s without an epoch"
                    raise Lost(reason, reason=reason)
                else:
                    yield None
        except StopIteration:
            return
        finally:
            self._streams.remove(results)
            self._ready.discard(results)
            if not self._has_ended():
                # Does nothing to a task that has ended.
                self._ray.cancel(results, force=hangs)

    def _is_ready(self, results: Any) -> bool:
        """Whether a result of a stream, or its end, has come; waits a moment where no stream has one."""
        # One stream waits for all: each for itself would keep the results of the others waiting.
        if not self._ready and results is self._streams[0]:
            interruption.check()
            self._require_node()
            ready, _ = self._ray.wait(self._streams, num_returns=1, timeout=interruption.POLL)
            if ready:
                # All of them: else the first streams would come first each time.
                ready, _ = self._ray.wait(self._streams, num_returns=len(self._streams), timeout=0)
            self._ready.update(ready)
        is_ready = results in self._ready
        self._ready.discard(results)
        return is_ready

    def _has_ended(self) -> bool:
        """Whether this machine's node has ended, as it does soon after the head of its cluster."""
        try:
            return not self._node.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _require_node(self) -> None:
        if self._has_ended():
            # Without its node Ray ends a process by a crash.
            atexit.register(leave)
            raise StudyError(
                f"The Ray cluster {self.name} has ended, or this machine's node: start it again, and the same command "
                "continues."
            )

    def _take(self, results: Any) -> Any:
        """The next result of a stream; raises StopIteration at its end."""
        errors = self._ray.exceptions
        try:
            item = self._ray.get(next(results))
        except errors.OutOfMemoryError as error:
            raise OutOfMemory(f"A node has no memory left ({first_line(error).rstrip('.')}): {FEWER}.") from None
        except (errors.NodeDiedError, errors.ObjectLostError, errors.TaskUnschedulableError):
            raise Lost("its node was lost", is_failure=False) from None
        except errors.WorkerCrashedError:
            self._killed += 1
            if self._killed > MAX_KILLED:
                raise StudyError(
                    f"{self._killed} workers were killed before any finished an epoch: if memory is short, {FEWER}; "
                    "the same command continues."
                ) from None
            raise Lost("its worker was killed") from None
        if not isinstance(item, Node):
            self._killed = 0
        return item
