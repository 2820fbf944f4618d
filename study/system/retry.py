"""Retries while a store is unavailable: a server that restarts, a database that another process has locked."""

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
from study.system.faults import explained, explanation, failure_sentence, is_passing
from study.system.variables import seconds

TIMEOUT = 600.0
"""Maximum number of seconds to wait for a store, unless STUDY_STORE_TIMEOUT is set."""
REMINDER_INTERVAL = 30.0
"""Seconds between two messages about the waiting."""
FIRST, LONGEST = 0.5, 30.0
"""Seconds before the second attempt, and the maximum between any two."""

_fails_at_once: ContextVar[bool] = ContextVar("fails_at_once", default=False)
"""Whether calls fail at once: the caller retries them itself, or must not wait."""


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
    """Makes calls within the block fail at once, without retries."""
    token = _fails_at_once.set(True)
    try:
        yield
    finally:
        _fails_at_once.reset(token)


class Retry:
    """Retries calls to a store while it is unavailable."""

    def __init__(self, where: str, say: Callable[[str], None], passes: Callable[[BaseException], bool] = is_passing):
        """Takes the store's address, a callback for messages about the waiting, and after which errors to wait.

        Raises:
            StudyError: where STUDY_STORE_TIMEOUT is no number of seconds.
        """
        self.where, self.say, self._passes = where, say, passes
        _timeout()
        self.is_away = False
        self._gives_up = threading.Event()

    def wait(self, action: Callable[[], Any]) -> Any:
        """Returns the result of `action`, retried while the store is unavailable.

        Raises:
            StoreFault: where the store is away for too long, or on an error that a retry does not fix.
        """
        if _fails_at_once.get():
            with explained(self.where):
                return action()
        deadline, reminded = time.monotonic() + _timeout(), None
        for pause in backoff():
            try:
                with at_once(), explained(self.where):
                    result = action()
                self.is_away = False
                self._gives_up.clear()
                return result
            except Exception as error:
                if not self._passes(error):
                    raise
                self.is_away = True
                # Closing what is open after a signal waits for nothing.
                is_given_up = self._gives_up.is_set() or interruption.is_stopping()
                if is_given_up or time.monotonic() + pause > deadline:
                    self.give_up()
                    raise StoreFault(str(explanation(error, self.where))) from None
                if reminded is None or time.monotonic() > reminded + REMINDER_INTERVAL:
                    reminded = time.monotonic()
                    self.say(f"{failure_sentence(error, self.where)}: retrying for up to {deadline - reminded:.0f} s.")
            self._sleep(pause)
        raise AssertionError("backoff never end")

    def give_up(self) -> None:
        """Ends all waiting, in every thread, until the store answers again."""
        self._gives_up.set()

    def _sleep(self, pause: float) -> None:
        try:
            interruption.wait(self._gives_up, pause)
        except KeyboardInterrupt:
            # Closing what is open does not wait either.
            self.give_up()
            raise


class RetryingClient:
    """Wraps a client of a store: each method is retried while the store is unavailable."""

    def __init__(self, client: Any, retry: Retry):
        self._client, self._retry = client, retry

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, getattr(self._client, name))

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self._retry.wait(partial(method, *arguments, **options))
