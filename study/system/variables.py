"""Environment variables that all commands read."""

import math
import os
import threading

from study.errors import StudyError


def seconds(variable: str, default: float, *, allow_zero: bool = False) -> float:
    """The value of an environment variable in seconds, or the `default`.

    Args:
        variable: its name.
        default: the value if it is not set.
        allow_zero: whether 0 is valid.

    Raises:
        StudyError: for any other value.
    """
    # An empty variable means the default, as for every option.
    text = os.environ.get(variable) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # The longest timeout of a lock.
    if not (0 < value < threading.TIMEOUT_MAX or (allow_zero and value == 0)):
        needed = "a number of seconds, 0 or more" if allow_zero else "a positive number of seconds"
        raise StudyError(f"{variable} is {text!r}: it must be {needed}.")
    return value
