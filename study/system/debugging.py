"""Tracebacks of failures that are otherwise told in a sentence, for whoever sets STUDY_DEBUG=1."""

import os
import sys
import traceback

from study.errors import causes
from study.system.redaction import shown

VARIABLE = "STUDY_DEBUG"


def is_debugging() -> bool:
    """Whether STUDY_DEBUG is set, to anything but 0 or false."""
    return os.environ.get(VARIABLE, "").lower() not in ("", "0", "false")


def tracebacks(error: BaseException) -> str:
    """The tracebacks of `error` and of all its causes, the first cause first, also those that `from None` hides."""
    found = ["".join(traceback.format_exception(cause, chain=False)) for cause in causes(error)]
    return "\nFrom it, or while it was handled, came:\n\n".join(reversed(found))


def show_if_debugging(error: BaseException) -> None:
    """Prints the tracebacks of `error`, without passwords, to the standard error where STUDY_DEBUG asks for them."""
    if is_debugging():
        print(shown(tracebacks(error)), end="", file=sys.stderr)
