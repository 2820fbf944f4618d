"""Nodes of a Ray cluster, started by `ray start` on this machine with addresses of their own."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.whole.test_ui import free_port

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 120
HEAD, OTHER = "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True)
class Nodes:
    address: str
    variables: dict[str, str]
    """The environment's variables with which a process is let in."""
    processes: dict[str, subprocess.Popen[bytes]]

    def kill(self, host: str) -> None:
        """Kills a node with all of its processes, as a machine that loses its power."""
        process = self.processes.pop(host)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def ray_nodes(folder: Path) -> Iterator[Nodes]:
    """Two nodes with one CPU each; all of their processes are gone afterwards."""
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    nodes = Nodes(f"{HEAD}:{free_port()}", variables, {})
    try:
        head = ("--head", "--port", nodes.address.rpartition(":")[2], "--include-dashboard", "false")
        _start(nodes, HEAD, folder, *head, "--temp-dir", str(folder))
        _start(nodes, OTHER, folder, "--address", nodes.address)
        yield nodes
    finally:
        for host in tuple(nodes.processes):
            nodes.kill(host)


def _start(nodes: Nodes, host: str, folder: Path, *arguments: str) -> None:
    log = folder / f"{host}.log"
    small = ("--num-cpus", "1", "--object-store-memory", str(2**27), "--include-log-monitor", "false")
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--node-ip-address", host, *small]
    with log.open("wb") as file:
        nodes.processes[host] = subprocess.Popen(
            [*command, *arguments],
            env={**os.environ, **nodes.variables, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT
    while "Ray runtime started" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        assert nodes.processes[host].poll() is None, log.read_text()
        time.sleep(0.1)
