"""What a user may set in the environment for all commands."""

import math
import os
import threading

from study.errors import StudyError


def seconds(variable: str, default: float, *, or_none: bool = False) -> float:
    """The number of seconds that an environment variable says, or else the `default`.

    Args:
        variable: its name.
        default: what is meant where it is not set.
        or_none: whether 0 is a number that it may be.

    Raises:
        StudyError: where it is no such number.
    """
    text = os.environ.get(variable, str(default))
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (0 < found < threading.TIMEOUT_MAX or (or_none and found == 0)):
        needed = "a number of seconds, 0 or more" if or_none else "a positive number of seconds"
        raise StudyError(f"{variable} is {text!r}: it must be {needed}.")
    return found
