"""Isolation of a command from the user's environment: removes settings that could change its results or end it."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from study import MLFLOW_SETTINGS
from study.errors import first_line

RC_FILE = Path(__file__).with_name("matplotlibrc")
"""A matplotlibrc without settings."""
MLFLOW_READ = (
    "MLFLOW_TRACKING_",
    "MLFLOW_AUTH_",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_KERBEROS_",
    "MLFLOW_ENABLE_WORKSPACES",
    "MLFLOW_WORKSPACE",
    "MLFLOW_SERVER_ALLOWED_HOSTS",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "MLFLOW_SERVER_X_FRAME_OPTIONS",
    "MLFLOW_HTTP_",
    "MLFLOW_S3_",
    "MLFLOW_BOTO_",
    "MLFLOW_GCS_",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT",
    "MLFLOW_SQLALCHEMYSTORE_POOL",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW",
    "MLFLOW_MYSQL_SSL_",
    "MLFLOW_LOGGING_LEVEL",
)
"""Prefixes of MLflow's environment variables that are kept: how a store is reached, and by whom."""
SPINS = 100_000
"""Rounds that a waiting thread of OpenMP spins before it sleeps; 300,000 is the default of libgomp."""
LOOPBACK = "127.0.0.1,localhost,::1"
ERASE = "\r\x1b[K"
"""Erases a terminal's line."""


def isolate() -> None:
    """Isolates this process and its children from what could change a command's results or end it.

    These are the current folder's modules, matplotlib's backend and settings, warnings made errors, MLflow's variables
    but for those in `MLFLOW_READ`, and a proxy before this machine's own servers. docs/reliability.md has the table.
    Call it before mlflow and matplotlib are imported.
    """
    _remove_mlflow_variables()
    _reset_warnings()
    # A client would ask the proxy for a server on this machine too.
    exceptions = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, (exceptions, LOOPBACK)))
    # Python would put the current folder first on the path of the processes that we start: workers, MLflow's server.
    os.environ["PYTHONSAFEPATH"] = "1"
    # A notebook sets its own backend for its child processes, where that need not be installed.
    os.environ["MPLBACKEND"] = "agg"
    os.environ["MATPLOTLIBRC"] = str(RC_FILE)
    if Path(RC_FILE.name).exists():
        # matplotlib reads this file in the current folder first, and fails where it cannot.
        with contextlib.chdir(RC_FILE.parent):
            import matplotlib  # noqa: F401


def limit_spinning(rounds: int) -> None:
    """Has OpenMP's threads sleep after some rounds of waiting, so that other programs get the core.

    See docs/speed.md. Call it before torch is imported; it has no effect where the user has said how threads wait.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(rounds))


def _remove_mlflow_variables() -> None:
    # Such as MLFLOW_RUN_ID, which wins over the run that is asked for.
    for name in [name for name in os.environ if name.lstrip("_").startswith("MLFLOW_")]:
        if not name.startswith((*MLFLOW_READ, *MLFLOW_SETTINGS)):
            del os.environ[name]


def invalid_variable(error: Exception) -> str:
    """A sentence on the variable of MLflow whose value `error` refuses; empty for other errors."""
    text = first_line(error) if isinstance(error, ValueError) else ""
    # MLflow calls MLFLOW_SQLALCHEMYSTORE_POOLCLASS the variable `poolclass`.
    named = [
        name
        for name in os.environ
        if name.startswith(MLFLOW_READ) and (name in text or f" variable {name.rpartition('_')[2].lower()} " in text)
    ]
    return f"{max(named, key=len)} cannot be used: {text.rstrip('.')}." if named else ""


def _reset_warnings() -> None:
    """Undoes PYTHONWARNINGS and -W: with `error`, a deprecated call in a library ends a command."""
    os.environ.pop("PYTHONWARNINGS", None)
    if sys.warnoptions:
        sys.warnoptions.clear()
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)


class _Notice:
    """A line on a terminal, erased before anything else is written."""

    def __init__(self) -> None:
        self._terminal: TextIO | None = None

    def show(self, text: str, terminal: TextIO) -> None:
        if terminal.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            self._terminal = terminal
            with contextlib.suppress(OSError):
                print(text, end="", file=terminal, flush=True)

    def erase(self) -> None:
        if self._terminal:
            with contextlib.suppress(OSError):
                print(ERASE, end="", file=self._terminal, flush=True)
            self._terminal = None


class _Output:
    """A stream that drops text once its target is closed or full."""

    def __init__(self, stream: TextIO, notice: _Notice):
        self.stream, self.notice, self.failure = stream, notice, ""

    def write(self, text: str) -> int:
        self.notice.erase()
        try:
            return self.stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        # A reader that stops early, such as `head`, is no failure.
        if not isinstance(error, BrokenPipeError):
            self.failure = error.strerror or str(error)
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self.stream.fileno())
        os.close(devnull)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _open_closed_streams() -> None:
    """Opens the null device for standard streams that are closed (`>&-`), whose numbers other files would get."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  # open until the process ends
            setattr(sys, name, null)


@contextmanager
def tolerant_output() -> Iterator[_Output]:
    """Keeps the command running where its output is closed, full, or in an encoding that lacks a character.

    Such characters are replaced. The `failure` of what is yielded says afterwards why output was lost; it is empty
    where the reader stopped early.
    """
    _open_closed_streams()
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    notice = _Notice()
    output, errors = (_Output(stream, notice) for stream in streams)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output
        output.flush()
    finally:
        notice.erase()
        sys.stdout, sys.stderr = streams


def say_starting(command: str) -> None:
    """Shows on a terminal that a command starts, until it writes something: its imports take seconds."""
    if isinstance(errors := sys.stderr, _Output):
        errors.notice.show(f"study {command} is starting …", errors.stream)
