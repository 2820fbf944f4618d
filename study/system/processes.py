"""Which process works on something, whether it still lives, and how signals stop it."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux's name for the time since it was started: another one after each start."""
MOMENT = 0.05
"""Seconds after which an interruption that was dropped comes again."""


def this_process() -> str:
    """This process by its host, its id, whose ids these are, and its start; the start, since ids are given again.

    Nothing of it depends on a clock, which may be set while the process lives.
    """
    return f"{socket.gethostname()} {os.getpid()} {_ids()} {_start(os.getpid())}"


def is_gone(process: str) -> bool:
    """Whether `process` (from `this_process`) has ended; False where that can't be known, as in another container."""
    import psutil

    host, number, *rest = process.split()
    here = host == socket.gethostname()
    if len(rest) < 2:  # recorded when the start was still told by the clock
        return here and not psutil.pid_exists(int(number))
    ids, start = rest
    if ids == _ids():
        return _start(int(number)) != start
    return here and _boot(ids) != _boot(_ids())


def is_known(process: str) -> bool:
    """Whether this process can see whether `process` lives."""
    return process.split()[2:3] == [_ids()]


def _ids() -> str:
    """Whose process ids are meant: those of one start of a machine, in one container."""
    try:
        return f"{BOOT.read_text().strip()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _boot(ids: str) -> str:
    return ids.partition("/")[0]


def _start(number: int) -> str:
    """When process `number` began, in ticks since the machine's start; empty where there is none that lives."""
    # Not at the top: training needs this module for its signals, and does without psutil.
    import psutil

    try:
        if not BOOT.exists():
            return str(psutil.Process(number).create_time())
        # After the name, which may hold anything.
        state, *fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return ""
    # One that nobody asked yet how it ended is there, and gone all the same.
    return "" if state in "ZX" else fields[18]


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Has Ctrl-C and SIGTERM wait until the block ends, or calls what it is given.

    Blocking them would not do: another thread takes the signal then, and the main one runs its handler all the same.
    """
    caught: list[int] = []
    before: dict[int, Any] = {}

    def release() -> None:
        while before:
            signal.signal(*before.popitem())
        while caught:
            signal.raise_signal(caught.pop(0))

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda number, frame: caught.append(number))
    try:
        yield release
    finally:
        release()


def interrupt(number: int, frame: object) -> None:
    """A signal's handler that raises a KeyboardInterrupt, with the signal as its argument."""
    # A statement that was cut off in the middle is no news, and SQLAlchemy tells of it with a traceback.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
    raise KeyboardInterrupt(number)


@contextmanager
def interruptions_kept(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Has a KeyboardInterrupt come again where Python drops it: in a finaliser, or a weak reference's callback.

    Args:
        handler: what raised it, with the signal as its argument; set anew before the signal comes again.
    """
    timers: list[threading.Timer] = []

    def note(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            before(dropped)
            return
        [number] = dropped.exc_value.args or [signal.SIGINT]
        signal.signal(number, handler)
        # Not to any thread: what the main one waits in is to end at once.
        timer = threading.Timer(MOMENT, signal.pthread_kill, (threading.get_ident(), number))
        timer.daemon = True
        timers.append(timer)
        timer.start()

    before, sys.unraisablehook = sys.unraisablehook, note
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = before
