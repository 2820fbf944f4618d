"""What a user may set in the environment for all commands."""

import math
import os
import threading

from study.errors import StudyError


def seconds(variable: str, default: float, *, allow_zero: bool = False) -> float:
    """The number of seconds that an environment variable says, or else the `default`.

    Args:
        variable: its name.
        default: what is meant where it is not set.
        allow_zero: whether it may be 0.

    Raises:
        StudyError: where it is no such number.
    """
    # Empty, it means the default, as for every option.
    text = os.environ.get(variable) or str(default)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    # No lock waits for longer than that.
    if not (0 < found < threading.TIMEOUT_MAX or (allow_zero and found == 0)):
        needed = "a number of seconds, 0 or more" if allow_zero else "a positive number of seconds"
        raise StudyError(f"{variable} is {text!r}: it must be {needed}.")
    return found
