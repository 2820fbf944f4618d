"""Waiting for a store that is away for a while: a server being restarted, a database that another process holds."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from study.errors import StoreFault
from study.system import interruption
from study.system.faults import explained, explanation, is_passing, told
from study.system.variables import seconds

# MLflow's own would block for four minutes, and send again what a server may have done already.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

TIMEOUT = 600.0
"""Seconds for which nothing is given up, unless STUDY_STORE_TIMEOUT says how many."""
REMINDED = 30.0
"""Seconds between two lines that say what is waited for."""
FIRST, LONGEST = 0.5, 30.0
"""Seconds before the second attempt, and most of them between any two."""

_fails_at_once: ContextVar[bool] = ContextVar("fails_at_once", default=False)
"""Whether a call is one of many attempts already, or must not wait: its failure is then for whoever made it."""


def _timeout() -> float:
    return seconds("STUDY_STORE_TIMEOUT", TIMEOUT, allow_zero=True)


def backoff() -> Iterator[float]:
    """Seconds to wait before each next attempt: exponential back-off, with jitter."""
    pause = FIRST
    while True:
        yield pause * random.uniform(0.5, 1)
        pause = min(2 * pause, LONGEST)


@contextmanager
def at_once() -> Iterator[None]:
    """Calls within the block fail at once."""
    token = _fails_at_once.set(True)
    try:
        yield
    finally:
        _fails_at_once.reset(token)


class Retry:
    """Has calls to a store wait while it is away."""

    def __init__(self, where: str, say: Callable[[str], None]):
        """Takes the store's address, and what is told of the waiting.

        Raises:
            StudyError: where STUDY_STORE_TIMEOUT is no number of seconds.
        """
        self.where, self.say = where, say
        _timeout()
        self.is_away = False
        self._gives_up = threading.Event()

    def wait(self, action: Callable[[], Any]) -> Any:
        """What `action` returns, as soon as the store lets it.

        Raises:
            StoreFault: where the store is away for too long, or something fails that waiting does not mend.
        """
        if _fails_at_once.get():
            with explained(self.where):
                return action()
        ends, reminded = time.monotonic() + _timeout(), None
        for pause in backoff():
            try:
                with at_once(), explained(self.where):
                    result = action()
                self.is_away = False
                self._gives_up.clear()
                return result
            except Exception as error:
                if not is_passing(error):
                    raise
                self.is_away = True
                if self._gives_up.is_set() or time.monotonic() + pause > ends:
                    self.give_up()
                    raise StoreFault(str(explanation(error, self.where))) from None
                if reminded is None or time.monotonic() > reminded + REMINDED:
                    reminded = time.monotonic()
                    self.say(f"{told(error, self.where)}: waiting for it, for {ends - reminded:.0f} s at most.")
            self._sleep(pause)
        raise AssertionError("backoff never end")

    def give_up(self) -> None:
        """Ends all waiting, in every thread, until the store answers again."""
        self._gives_up.set()

    def _sleep(self, pause: float) -> None:
        try:
            interruption.wait(self._gives_up, pause)
        except KeyboardInterrupt:
            # What is still to be closed shall not wait either.
            self.give_up()
            raise


class RetryingClient:
    """A client of a store, each of whose methods waits while the store is away."""

    def __init__(self, client: Any, retry: Retry):
        self._client, self._retry = client, retry

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, getattr(self._client, name))

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self._retry.wait(partial(method, *arguments, **options))
