"""What can go wrong that is not a bug: failures a user can fix, and a loss that left the real numbers."""

import difflib
from collections.abc import Collection, Iterable, Iterator

MANY = 12
"""Number of choices above which those that look like the bad value are named first."""


class StudyError(Exception):
    """A failure that the user can fix; its text is one sentence that names the value and the choices.

    The command prints it without a traceback and exits with code 2.
    """


class OutOfMemory(StudyError):
    """Memory gave out, of the computer or of its GPU; its text names the options that need less."""


class Unbuildable(StudyError):
    """The function of a user's own network failed, or built none that takes the images."""


class StoreFault(Exception):
    """A store cannot be worked with any longer; its text is a sentence, as that of a `StudyError`.

    Not one itself: what may be caught as something missing, and done without, must not hide a store that is away.
    """


class Incomplete(StudyError):
    """Something that a run kept is missing or altered."""


class TakenOver(StudyError):
    """Another process works on what this one worked on, which stalled and counted as dead."""


class Diverged(Exception):
    """A training loss became NaN or infinite.

    Attributes:
        reason: `diverged`.
        epoch: the epoch, counted from 1, in which it was seen.
        metric: the name of the quantity, e.g. ``"train_loss"``.
        value: what it was.
    """

    reason = "diverged"

    def __init__(self, epoch: int, metric: str, value: float):
        super().__init__(f"{metric} became {value} in epoch {epoch}")
        self.epoch, self.metric, self.value = epoch, metric, value

    def __reduce__(self) -> tuple[type["Diverged"], tuple[int, str, float]]:
        # By default exceptions are unpickled with their text.
        return Diverged, (self.epoch, self.metric, self.value)


class Lost(Exception):
    """A training whose worker on another machine is gone; it is retried.

    Attributes:
        reason: `interrupted`, or `timed out` with the details.
        is_failure: whether it may have failed by itself, so that it is retried a few times only; else its machine was
            lost, which says nothing about it.
    """

    def __init__(self, message: str, *, reason: str = "interrupted", is_failure: bool = True):
        super().__init__(message)
        self.reason, self.is_failure = reason, is_failure


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def first_line(error: BaseException) -> str:
    """What `error` says, without what libraries add below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def unknown(what: str, value: object, choices: Iterable[object]) -> StudyError:
    """The error for a `value` that is none of the `choices`."""
    names = [str(choice) for choice in choices]
    alike = difflib.get_close_matches(str(value), names) if len(names) > MANY else []
    meant = f"did you mean {' or '.join(alike)}? Choose" if alike else "choose"
    return StudyError(f"Unknown {what} {value!r}: {meant} one of {', '.join(names)}.")


def require(holds: bool, message: str) -> None:
    """Raises a `StudyError` with the `message` unless the condition holds."""
    if not holds:
        raise StudyError(message)


def require_at_least(least: int, **values: int | None) -> None:
    """Raises a `StudyError` for one of the named `values` that is below `least`; None passes."""
    for name, value in values.items():
        require(value is None or value >= least, f"{name.replace('_', ' ')} is {value}: it must be at least {least}.")


def require_known(what: str, value: object, choices: Collection[object]) -> None:
    """Raises a `StudyError` for a `value` that is none of the `choices`."""
    if value not in choices:
        raise unknown(what, value, choices)
