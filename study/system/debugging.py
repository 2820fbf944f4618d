"""STUDY_DEBUG=1: tracebacks of failures that are otherwise reported in one sentence."""

import os
import sys
import traceback

from study.errors import causes
from study.system.redaction import redacted

VARIABLE = "STUDY_DEBUG"


def is_debugging() -> bool:
    """Whether STUDY_DEBUG is set to anything but 0 or false."""
    return os.environ.get(VARIABLE, "").lower() not in ("", "0", "false")


def tracebacks(error: BaseException) -> str:
    """Tracebacks of `error` and all its causes, first cause first, including those hidden by `from None`."""
    formatted = ["".join(traceback.format_exception(cause, chain=False)) for cause in causes(error)]
    return "\nFrom it, or while it was handled, came:\n\n".join(reversed(formatted))


def show_if_debugging(error: BaseException) -> None:
    """Prints the tracebacks of `error`, redacted, to standard error if STUDY_DEBUG is set."""
    if is_debugging():
        print(redacted(tracebacks(error)), end="", file=sys.stderr)
