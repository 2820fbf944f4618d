"""Names the environment variables that the values of refused options come from."""

import re
import sys
from collections.abc import Mapping
from typing import Any

import typer

from pipelines.cli.values import quoted
from study.system.debugging import VARIABLE
from study.system.redaction import masked

LOGIN = re.compile(r"MLFLOW_TRACKING_USERNAME|docs/team\.md")
"""What an error of the login at a server names."""


def variables_behind(text: str, environment: Mapping[str, str]) -> str:
    """A sentence on the variables of the `environment` whose values the error `text` quotes, but does not name.

    A value that is on the command line too is taken to come from there.
    """
    # What a login lacks is named, and is not mended at the address of the server.
    if LOGIN.search(text):
        return ""
    # Values in a suggested command do not count.
    text = re.sub("`.*?`", "", text)
    given = {name: value for name, value in environment.items() if name.startswith(("STUDY_", "MLFLOW_TRACKING_URI"))}
    given.pop(VARIABLE, None)
    hidden = {name: value for name, value in given.items() if value and value not in sys.argv and name not in text}
    named = [name for name, value in hidden.items() if _is_named(value, text) or _is_named(masked(value), text)]
    return f" (It comes from {' and '.join(sorted(named))}.)" if named else ""


def variable_of(error: typer.TyperException, environment: Mapping[str, str]) -> str:
    """A sentence on the variable of the `environment` with the value that typer refuses; empty where it was typed."""
    option: Any = getattr(error, "param", None)
    variable = getattr(option, "envvar", None)
    if not isinstance(variable, str) or not environment.get(variable) or {*option.opts} & {*sys.argv}:
        return ""
    return f" ({variable} is {quoted(environment[variable])}.)"


def _is_named(value: str, text: str) -> bool:
    # Longer values count as whole words; a short one may occur by chance.
    whole = rf"(?<![\w/]){re.escape(value)}(?![\w/])"
    return repr(value) in text or f" is {value}:" in text or (len(value) > 4 and bool(re.search(whole, text)))
