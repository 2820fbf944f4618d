"""Fork server of search workers that is itself a fork: a new interpreter would import for eight seconds."""

import fcntl
import json
import os
import signal
import socket
from collections.abc import Sequence
from multiprocessing import util
from typing import NoReturn

LARGEST = 2**17
"""Maximum size of a request in bytes; most of it is the environment."""
UNUSED = 200
"""A file descriptor above those that a command has when it starts workers."""


def fork_workers_server() -> None:
    """Forks this process, which has no threads yet; the fork becomes the first fork server that it starts later."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spawn = util.spawnv_passfds
    # Signals to all processes of the command do not end it before it is used.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    number = os.fork()
    if number == 0:
        ours.close()
        _wait(theirs)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()

    def spawn_or_ask(path: bytes, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        if "multiprocessing.forkserver" not in arguments[-1] or ours.fileno() < 0:
            return spawn(path, arguments, descriptors)
        blocked = [int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        request = {"code": arguments[-1], "numbers": list(descriptors), "blocked": blocked, "variables": {**os.environ}}
        with ours:
            socket.send_fds(ours, [json.dumps(request).encode()], list(descriptors))
        return number

    util.spawnv_passfds = spawn_or_ask  # type: ignore[assignment]


def _wait(requests: socket.socket) -> NoReturn:
    message, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 2)
    if not message:
        os._exit(0)
    requests.close()
    request = json.loads(message)
    # Out of the way first: the numbers of some may be those wanted for others.
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, UNUSED) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, wanted in zip(moved, request["numbers"], strict=True):
        os.dup2(descriptor, wanted)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["variables"])
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    try:
        exec(request["code"], {})
    finally:
        os._exit(0)
