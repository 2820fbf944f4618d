"""What of the user's environment must not change what a command does, set aside before anything reads it."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

RC_FILE = Path(__file__).with_name("matplotlibrc")
"""Settings of matplotlib without a setting in it."""


def isolate() -> None:
    """Keeps the current folder's modules, and matplotlib's backend and settings, out of this process and its children.

    To be called before matplotlib is imported.
    """
    # Python would put the current folder first on the path of the processes that we start: workers, MLflow's server.
    os.environ["PYTHONSAFEPATH"] = "1"
    # A notebook names its own backend to what is started from it, where it need not be installed.
    os.environ["MPLBACKEND"] = "agg"
    os.environ["MATPLOTLIBRC"] = str(RC_FILE)
    if Path(RC_FILE.name).exists():
        # Of all places matplotlib looks into the current folder first, and stops at a file that it cannot read.
        with contextlib.chdir(RC_FILE.parent):
            import matplotlib  # noqa: F401


class _Output:
    """A stream that goes on taking text when nothing takes it from there any more."""

    def __init__(self, stream: TextIO):
        self.stream, self.failure = stream, ""

    def write(self, text: str) -> int:
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
        # A reader that has seen enough, such as `head`, is no failure.
        if not isinstance(error, BrokenPipeError):
            self.failure = error.strerror or str(error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def tolerant_output() -> Iterator[_Output]:
    """Has the command go on where its output is closed, full, or in an encoding that lacks a character.

    What cannot be encoded is replaced. The yielded `failure` says afterwards why output was lost, where it was not the
    reader's choice.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    output, errors = map(_Output, before)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output
        output.flush()
    finally:
        sys.stdout, sys.stderr = before
