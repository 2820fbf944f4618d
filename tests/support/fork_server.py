"""`study` commands as processes forked from a server that has imported everything, which spares each of them seconds.

A forked command is a process of its own in a session of its own, with the environment, working folder, streams and
signal handlers of a new one; it ends as an interpreter ends, with its threads joined and its exit handlers run. What it
does not have is an interpreter that was started with its environment: what reads that before `main`, or is about
starting itself, needs a real process.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NoReturn, TextIO

STUDY = str(Path(sys.executable).with_name("study"))
ROOT = Path(__file__).parents[2]
LARGEST = 2**17
"""Bytes of a request, most of which is the environment."""
IMPORTED = (
    "pipelines.reproduce",
    "pipelines.analyse",
    "pipelines.experiment",
    "pipelines.show",
    "pipelines.trials.pool",
    "pipelines.upkeep.doctor",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "optuna.importance",
    "optuna.samplers._tpe.sampler",
    "psycopg",
    "sklearn.datasets",
    "sklearn.ensemble",
    "sklearn.model_selection",
    "torch._dynamo",
    "torch.export",
)


class Forked:
    """A command that a fork server started, with the part of `subprocess.Popen`'s interface that the tests use."""

    def __init__(self, status: int):
        """Takes the end of a pipe from which its process id is read, and then its exit code."""
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._status.readline())
        self.stdout: TextIO | None = None
        self.stderr: TextIO | None = None
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code as `subprocess` gives it; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        if self.returncode is None:
            # Not `select.select`, which takes no file of a number over 1023.
            with selectors.DefaultSelector() as ready:
                ready.register(self._status, selectors.EVENT_READ)
                if not ready.select(timeout):
                    raise subprocess.TimeoutExpired("study", timeout or 0)
            with self._status:
                self.returncode = int(self._status.readline())
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """The rest of its output and errors, once it and all that shares its streams have ended."""
        assert self.stdout
        assert self.stderr
        with self.stdout, self.stderr, ThreadPoolExecutor(2) as readers:
            reading = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                out, err = (stream.result(timeout) for stream in reading)
            except TimeoutError:
                # With its workers, so that the readers end.
                os.killpg(self.pid, signal.SIGKILL)
                raise
        self.wait(timeout)
        return out, err

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The server, as its client sees it; from any thread."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("STUDY_", "MLFLOW_"))}
        # A thread that spins until another one gets its core back is slow on a machine that does something else too.
        settings = {**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
            cwd=ROOT,
            env=settings,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        if self._ours.recv(LARGEST) != b"ready":
            raise RuntimeError("The fork server did not start.")

    def start(self, arguments: Sequence[str], environment: dict[str, str], streams: tuple[int, int, int]) -> Forked:
        """Forks a command with the file descriptors `streams` as its input, output and errors."""
        order = {"arguments": list(arguments), "environment": environment, "folder": str(Path.cwd())}
        ours, theirs = os.pipe()
        socket.send_fds(self._ours, [json.dumps(order).encode()], [*streams, theirs])
        os.close(theirs)
        return Forked(ours)

    def close(self) -> None:
        """Ends it."""
        self._ours.close()
        self.process.wait()


@cache
def fork_server() -> ForkServer:
    """That of this process, which ends with it."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def fork_piped(arguments: Sequence[str], environment: dict[str, str]) -> Forked:
    """A forked command whose output and errors are read through pipes."""
    (out, its_out), (err, its_err) = os.pipe(), os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    forked = fork_server().start(arguments, environment, (nothing, its_out, its_err))
    for end in (nothing, its_out, its_err):
        os.close(end)
    forked.stdout, forked.stderr = os.fdopen(out), os.fdopen(err)
    return forked


def serve(orders: socket.socket) -> NoReturn:
    """Forks a command for each order, until the client is gone."""
    given = dict(os.environ)
    for name in IMPORTED:
        importlib.import_module(name)
    # Collecting garbage would copy the memory that forked processes share.
    gc.freeze()
    # What importing sets where it is not set, for libraries to read later.
    defaults = {name: value for name, value in os.environ.items() if name not in given}
    signal.signal(signal.SIGCHLD, _reap)
    orders.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, LARGEST, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            orders.close()
            *streams, status = descriptors
            _keep(streams, status)
            _become(streams, defaults, **json.loads(message))
        for descriptor in descriptors:
            os.close(descriptor)


def _reap(number: int, frame: object) -> None:
    """Waits for the keepers that have ended: their processor time then counts as the server's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep(streams: Sequence[int], status: int) -> None:
    """Forks the command and tells its id and its exit code; returns in the command's process alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    number = os.fork()
    if number == 0:
        os.close(status)
        return
    # Else they would not end with the command.
    for stream in streams:
        os.close(stream)
    os.write(status, b"%d\n" % number)
    _, code = os.waitpid(number, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(code))
    os._exit(0)


def _become(
    streams: Sequence[int],
    defaults: dict[str, str],
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
) -> NoReturn:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Those of the server remember whether their files could be rewound.
    sys.stdout = os.fdopen(1, "w", 1, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(defaults | environment)
    # Which sets some variables whatever they were.
    importlib.reload(importlib.import_module("study"))
    sys.argv = [STUDY, *arguments]
    # What processes that it starts take it for.
    sys.modules["__main__"] = main_module = types.ModuleType("__main__")
    main_module.__file__ = STUDY
    from pipelines.cli.app import main

    code = 1
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        # As the interpreter ends, but for taking down every module, which would copy most of the server's memory.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
