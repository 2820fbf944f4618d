"""Which process works on something, whether it still lives, and when signals may stop it."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil


def this_process() -> str:
    """This process by host, process id and start; the start, since ids are given again."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time()}"


def is_gone(process: str) -> bool:
    """Whether `process` (from `this_process`) has ended; False where that can't be known, on another host."""
    host, _, rest = process.partition(" ")
    if host != socket.gethostname() or not rest:
        return False
    number, started = rest.split()
    try:
        return psutil.Process(int(number)).create_time() != float(started)
    except psutil.NoSuchProcess:
        return True


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
