"""Which process works on something, and whether it is still alive."""

import os
import re
import socket
import time
from pathlib import Path

from study.errors import StudyError

NAME = re.compile(r"[\w./-]+")
"""What the name of a worker looks like."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux's name for the time since it was started: another one after each start."""


def this_process() -> str:
    """This process by its host, its id, whose ids these are, and its start; the start, since ids are given again.

    Last, the name of its worker, if it has one. Nothing depends on a clock, which may be set while the process lives.
    """
    return f"{socket.gethostname()} {os.getpid()} {_ids()} {_start(os.getpid())} {_name()}".rstrip()


def _name() -> str:
    """The name of the worker that this process is, which outlives it, from STUDY_WORKER; empty without one."""
    name = os.environ.get("STUDY_WORKER", "")
    if name and not NAME.fullmatch(name):
        raise StudyError(f"STUDY_WORKER is {name!r}: it must be a word of letters, digits, dots, slashes, - and _.")
    return name


def usage() -> dict[str, float]:
    """The processor time and the memory of this process as metrics, which MLflow shows as those of the system."""
    import psutil

    memory = psutil.Process().memory_info().rss
    return {"system/processor_seconds": time.process_time(), "system/memory_megabytes": memory / 2**20}


def is_gone(process: str) -> bool:
    """Whether `process` (from `this_process`) has ended; False where that can't be known, as in another container.

    One of the same worker's name as this process has ended, wherever it was: a name is of one process at a time.
    """
    import psutil

    host, number, *rest = process.split()
    here = host == socket.gethostname()
    if len(rest) < 2:  # recorded when the start was still told by the clock
        return here and not psutil.pid_exists(int(number))
    ids, start, *name = rest
    if ids == _ids():
        return _start(int(number)) != start
    if name == [_name()]:
        return True
    return here and _boot(ids) != _boot(_ids())


def is_known(process: str) -> bool:
    """Whether this process can see whether `process` lives."""
    return process.split()[2:3] == [_ids()]


def named(process: str) -> str:
    """`process` (from `this_process`) for messages: ``process 12 on a-host``."""
    host, number, *_ = process.split()
    return f"process {number} on {host}"


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
    # A zombie process is listed, but has ended.
    return "" if state in "ZX" else fields[18]
