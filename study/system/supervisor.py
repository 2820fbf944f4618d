"""Runs a command, and ends it with all processes that it started: `python -m study.system.supervisor COMMAND…`."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from study.system.interruption import SIGNALS

GRACE = 5
"""Seconds after a signal in which the processes may end by themselves, before they are killed."""


def supervise(command: Sequence[str], grace: int = GRACE) -> int:
    """Runs `command` until it ends, or SIGQUIT or one of `SIGNALS` comes; returns its exit code, 0 after a signal."""
    child: subprocess.Popen[bytes] | None = None
    is_ending = False

    def end(number: int = signal.SIGTERM, frame: object = None) -> None:
        nonlocal is_ending
        if not is_ending:
            signal.alarm(grace)
        is_ending = True
        _send(child, signal.SIGTERM)

    for number in (*SIGNALS, signal.SIGQUIT):
        # Under nohup it stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    signal.signal(signal.SIGALRM, lambda number, frame: _send(child, signal.SIGKILL))
    # In a session of its own, to which a terminal sends nothing, and whose processes are told apart.
    child = subprocess.Popen(command, start_new_session=True)
    if is_ending:
        _send(child, signal.SIGTERM)
    code = child.wait()
    _send(child, signal.SIGKILL)
    if is_ending and sys.stdout.isatty():
        # The terminal has written ^C, and the next prompt would stand beside it.
        with suppress(OSError):
            print("\nStopped.", flush=True)
    return 0 if is_ending else code


def _send(child: "subprocess.Popen[bytes] | None", number: int) -> None:
    """Sends a signal to the processes of `child`, once it has been started."""
    with suppress(ProcessLookupError):
        if child:
            os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
