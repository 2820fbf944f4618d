"""Which process works on something, and whether it still lives: what tells an orphan from work under way."""

import os
import socket

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
