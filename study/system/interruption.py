"""Ctrl-C, SIGTERM and SIGHUP set a flag, which the code checks between steps: batches, files, figures, retries.

Nothing is raised anywhere else, so no step is cut off in the middle. A second signal kills the process at once, and
so does one before the first check, while only imports have run.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals of Ctrl-C, of `kill`, and of a terminal that closes."""
REPEATED = 0.5
"""Seconds in which a repeated signal counts as the first: `timeout` and a closing terminal send theirs twice."""
POLL = 0.1
"""Seconds between two checks while waiting."""
STOPPING = "Stopping after this step; Ctrl-C again ends at once."
STOPPED = "Interrupted; the same command continues."
SHOW_CURSOR = "\x1b[?25h\n"

_number = 0
_received_at = 0.0
_is_raised = False
_has_begun = False


def requested() -> int:
    """The number of the first signal received; 0 where there was none."""
    return _number


def is_stopping() -> bool:
    """Whether a signal has been raised, after which only cleaning up is left."""
    return _is_raised


def check() -> None:
    """Raises `KeyboardInterrupt(number)` after a signal: once, so that cleaning up is not interrupted in turn.

    Only in the main thread; others are stopped by it.
    """
    global _is_raised, _has_begun
    _has_begun = True
    if _number and not _is_raised and threading.current_thread() is threading.main_thread():
        _is_raised = True
        raise KeyboardInterrupt(_number)


def wait(event: threading.Event, timeout: float) -> bool:
    """`event.wait(timeout)`, interrupted by a signal."""
    # The handler does not set an event: it may run while this thread holds the event's lock.
    ends = time.monotonic() + timeout
    while not event.is_set() and (remaining := ends - time.monotonic()) > 0:
        check()
        event.wait(min(POLL, remaining))
    check()
    return event.is_set()


def sleep(seconds: float) -> None:
    """`time.sleep(seconds)`, interrupted by a signal."""
    wait(threading.Event(), seconds)


def in_thread(action: Callable[[], T]) -> T:
    """Returns `action()`, run in a thread that a signal leaves behind: for a call that may block for long."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:
            outcome.set_exception(error)

    # Not of a pool, whose threads the interpreter waits for when it ends.
    threading.Thread(target=run, daemon=True).start()
    while wait_for([outcome], POLL).not_done:
        check()
    return outcome.result()


def note(number: int, frame: object = None) -> None:
    """Sets the flag; as a signal handler it ignores all signals after the first."""
    global _number, _received_at
    if not _number:
        _number, _received_at = number, time.monotonic()


@contextmanager
def signals_noted() -> Iterator[None]:
    """Within the block a first signal sets the flag, and a second one kills; ignored signals stay ignored.

    Does nothing outside the main thread.
    """
    _clear()
    is_main = threading.current_thread() is threading.main_thread()
    heard = [number for number in SIGNALS if is_main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _note_or_kill) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _clear()


def _note_or_kill(number: int, frame: object) -> None:
    if not _number:
        note(number)
        _say(STOPPING if _has_begun else STOPPED)
        if not _has_begun:
            os._exit(128 + number)
        # From now on the kernel ends the process, even where it is in native code.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    elif time.monotonic() - _received_at > REPEATED:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _say(text: str) -> None:
    # Not print: it may be what was interrupted. A progress bar hides the cursor, which a kill would leave hidden.
    with suppress(OSError):
        os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}{text}\n".encode())


def _clear() -> None:
    global _number, _is_raised, _has_begun
    _number, _is_raised, _has_begun = 0, False, False
