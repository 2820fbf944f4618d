"""The connection of this process to a Ray cluster; the only module that imports ray, an optional package."""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from study.errors import StudyError, causes, require
from study.system import interruption
from study.system.extras import installing

INSTALL = f"{installing('ray')}, or from a clone of this project pip install '.[ray]'"
START = "`ray start --head` starts one, as docs/scale.md says."
JOIN = "`ray start --address HOST:PORT --num-cpus 0` makes it one that trains nothing."
ANSWER = 5.0
"""Seconds that a cluster has to accept a connection."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Attempts to reach the cluster, a second each.
    "RAY_NUM_REDIS_GET_RETRIES": "5",
}
"""Ray's environment variables, unless they are set."""


def leave() -> NoReturn:
    """Ends this process with the exit code of a `StudyError`, and without Ray's own end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def connect(address: str) -> Any:
    """Connects this process to the cluster at `address`, HOST:PORT or `auto`; returns the module ray.

    Raises:
        StudyError: where Ray is not installed, or no cluster of its version lets this process in.
    """
    if find_spec("ray") is None:
        raise StudyError(f"--engine ray needs a package: {INSTALL}")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    _require_answer(address)
    import ray
    from ray._private import worker

    # What it prints of lost nodes and workers is told by those that notice the loss.
    worker.print_to_stdstream = lambda *arguments, **options: None
    handlers = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    try:
        # The nodes' processes import from the folder in which this one connects: one of the user's could hide modules.
        with contextlib.chdir(Path(__file__).parents[2]), _without_native_errors():
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _explained(error, address) from None
    finally:
        # Ray's own ends the process in the middle of a step.
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ray


@contextlib.contextmanager
def _without_native_errors() -> Iterator[None]:
    """Hides what Ray's native code writes on the standard error: each failed attempt, which the exception repeats."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    require(bool(host) and port.isdigit(), f"Ray address is {address!r}: it must be auto or HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"No Ray cluster answers at {address} ({reason}): {START}") from None


def _explained(error: Exception, address: str) -> StudyError:
    if any("AuthenticationError" in f"{type(cause).__name__} {cause}" for cause in causes(error)):
        return StudyError(
            f"The Ray cluster at {address} refuses this process: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to the token that it was started with."
        )
    text = " ".join(str(error).split())
    if "Version mismatch" in text:
        return StudyError(f"The Ray cluster at {address} runs another version: {text.partition(': ')[2]}.")
    if "node_ip_address" in text or "Raylet" in text:
        return StudyError(f"This machine is no node of the Ray cluster at {address}: {JOIN}")
    if address == "auto" and "find any running" in text:
        return StudyError(f"This machine is no node of a Ray cluster: {START}")
    return StudyError(f"No Ray cluster was found at {address} ({text.rstrip('.')}): {START}")
