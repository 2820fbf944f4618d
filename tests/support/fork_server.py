"""Fork server: runs `study` commands as forks of a process that has imported everything, which saves seconds each.

It also runs Python code, as `python -c` does. A forked command is a process in its own session, with the environment,
working folder, streams and signal handlers of a new process; it ends as an interpreter does, with threads joined and
exit handlers run. Its interpreter, however, was not started with its environment: tests of variables that are read
before `main`, or of the start itself, need a real process.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tests.support.warm_workers import LARGEST, fork_workers_server

STUDY = str(Path(sys.executable).with_name("study"))
ROOT = Path(__file__).parents[2]
IMPORTED = (
    "pipelines.reproduce",
    "pipelines.analyse",
    "pipelines.experiment",
    "pipelines.show",
    "pipelines.trials.pool",
    "pipelines.upkeep.doctor",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "optuna.importance",
    "optuna.samplers._tpe.sampler",
    "psycopg",
    "sklearn.datasets",
    "sklearn.ensemble",
    "sklearn.model_selection",
    "torch._dynamo",
)


class Forked:
    """A command started by the fork server, with the part of `subprocess.Popen`'s interface that the tests use."""

    def __init__(self, status: int):
        """`status` is a pipe from which the process id, and later the exit code, are read."""
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
            # Not `select.select`, which fails for file descriptors over 1023.
            with selectors.DefaultSelector() as ready:
                ready.register(self._status, selectors.EVENT_READ)
                if not ready.select(timeout):
                    raise subprocess.TimeoutExpired("study", timeout or 0)
            with self._status:
                self.returncode = int(self._status.readline())
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """The rest of its stdout and stderr, once it and all processes that share them have ended."""
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
        """Sends a signal, unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills the command."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Client of the fork server, which it starts; thread-safe."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._folder = tempfile.TemporaryDirectory(prefix="study-")
        self.address = f"{self._folder.name}/requests"
        """Where other processes ask, see `warm_path`."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self.address)
        listener.listen()
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("STUDY_", "MLFLOW_"))}
        # Spinning OpenMP threads are slow on a machine that is busy otherwise.
        settings = {**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno()), str(listener.fileno())],
            cwd=ROOT,
            env=settings,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno(), listener.fileno()],
            start_new_session=True,
        )
        theirs.close()
        listener.close()
        if self._ours.recv(LARGEST) != b"ready":
            raise RuntimeError("The fork server did not start.")

    def start(self, arguments: Sequence[str], environment: dict[str, str], streams: tuple[int, int, int]) -> Forked:
        """Forks a command with the file descriptors `streams` as its stdin, stdout and stderr."""
        request = {"arguments": list(arguments), "environment": environment, "folder": str(Path.cwd())}
        ours, theirs = os.pipe()
        socket.send_fds(self._ours, [json.dumps(request).encode()], [*streams, theirs])
        os.close(theirs)
        return Forked(ours)

    def close(self) -> None:
        """Ends the server."""
        self._ours.close()
        self.process.wait()
        self._folder.cleanup()


@cache
def fork_server() -> ForkServer:
    """The fork server of this process; ends with it."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def fork_piped(arguments: Sequence[str], environment: dict[str, str]) -> Forked:
    """A forked command whose stdout and stderr are pipes."""
    (out, its_out), (err, its_err) = os.pipe(), os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    forked = fork_server().start(arguments, environment, (nothing, its_out, its_err))
    for end in (nothing, its_out, its_err):
        os.close(end)
    forked.stdout, forked.stderr = os.fdopen(out), os.fdopen(err)
    return forked


def serve(requests: socket.socket, listener: socket.socket) -> NoReturn:
    """Forks a command for each request, until the client closes the socket `requests`."""
    initial = dict(os.environ)
    for name in IMPORTED:
        importlib.import_module(name)
    # Collecting garbage would copy the memory that forked processes share.
    gc.freeze()
    # Python's default, which `tests/__init__.py` changes.
    gc.set_threshold(700, 10, 10)
    # Variables that the imports have set, and libraries read later.
    defaults = {name: value for name, value in os.environ.items() if name not in initial}
    signal.signal(signal.SIGCHLD, _reap)
    requests.send(b"ready")
    sockets = [requests, listener]
    while True:
        for ready in select.select(sockets, (), ())[0]:
            if ready is listener:
                sockets.append(listener.accept()[0])
                continue
            message, descriptors, _, _ = socket.recv_fds(ready, LARGEST, 4)
            if not message and ready is requests:
                os._exit(0)
            if not message:
                sockets.remove(ready)
                ready.close()
            elif os.fork() == 0:
                for each in sockets:
                    each.close()
                *streams, status = descriptors
                _supervise(streams, status)
                _become(streams, defaults, **json.loads(message))
            for descriptor in descriptors:
                os.close(descriptor)


def _reap(number: int, frame: object) -> None:
    """Waits for ended supervisors (see `_supervise`): their CPU time then counts as the server's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _supervise(streams: Sequence[int], status: int) -> None:
    """Forks the command, and writes its id and exit code to `status`; returns in the command's process only."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    number = os.fork()
    if number == 0:
        os.close(status)
        return
    # Otherwise they would stay open after the command has ended.
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
    # Ignored where the tests run under nohup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # New ones: the server's remember whether their files are seekable.
    sys.stdout = os.fdopen(1, "w", 1, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(defaults | environment)
    # Reloaded, since importing it sets some variables.
    importlib.reload(importlib.import_module("study"))
    _move(os.environ.pop("STUDY_TEST_MACHINE", ""))
    is_code = arguments[:1] == ["-c"]
    sys.argv = ["-c", *arguments[2:]] if is_code else [STUDY, *arguments]
    # The main module that multiprocessing tells child processes to import.
    sys.modules["__main__"] = main_module = types.ModuleType("__main__")
    main_module.__file__ = STUDY
    from pipelines.cli.app import main

    if "--workers" in arguments and not is_code:
        fork_workers_server()
    code = 1
    try:
        if is_code:
            sys.path.insert(0, "")
            exec(compile(arguments[1], "<string>", "exec"), vars(main_module))
            code = 0
        else:
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        # Ends like the interpreter, without tearing down modules, which would copy most of the server's memory.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def _move(boot: str) -> None:
    """Takes the command for one of another machine, whose boot id the file `boot` holds; its name is the folder's."""
    if boot:
        processes: Any = importlib.import_module("study.system.processes")
        processes.BOOT = Path(boot)
        socket.gethostname = lambda: Path(boot).parent.name


if __name__ == "__main__":
    serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:]))
