"""How the values of options are read and checked; an error names the option and the value."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import typer

from study.config import BUNDLED, MOST
from study.errors import StudyError, require, unknown

MACHINE = {"rich_help_panel": "Machine"}
"""Group of options in the help."""
LARGEST_SEED = 2**31 - 1
"""Maximum seed: some generators take 32 bits, and a trial's seed is the base plus the number of its draw."""
LONGEST = 60
"""Maximum length of a bad value that an error quotes."""


def option(name: str, help: str, variable: str = "", short: str = "", **more: Any) -> Any:
    """An option that can also be set by the environment's `variable`; by default STUDY_ and its name."""
    help += f" [env var: {variable}]" if variable else ""
    variable = variable or "STUDY_" + name.strip("-").replace("-", "_").upper()
    names = (name, short) if short else (name,)
    return typer.Option(*names, help=help, envvar=variable, show_envvar=False, **more)


def completion(values: Sequence[str]) -> dict[str, Any]:
    """Has the shell complete an option or argument to one of these; others are possible."""
    return {"autocompletion": lambda: list(values)}


def number(name: str, help: str, least: int = 0, most: int = MOST, variable: str = "", **more: Any) -> Any:
    """An option that is a whole number from `least` to `most`; typer's own messages do not name the bad value."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise StudyError(f"{name} is {quoted(text)}: it must be a whole number.") from None
        if not least <= value <= most:
            bounds = f"at least {least}" if value < least and most == MOST else f"from {least} to {most}"
            raise StudyError(f"{name} is {value}: it must be {bounds}.")
        return value

    return option(name, help, variable, parser=parse, metavar="INTEGER", **more)


def decimal(name: str) -> Callable[[str], float]:
    """Reads the value of the option `name` as a number."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise StudyError(f"{name} is {quoted(text)}: it must be a number.") from None
        return value

    return parse


def checked(name: str, check: Callable[[str], object], help: str, **more: Any) -> Any:
    """An option whose text `check` raises a `StudyError` for, before anything heavy is imported."""

    def parse(text: str) -> str:
        check(text)
        return text

    return option(name, help, parser=parse, metavar="TEXT", **more)


def require_dataset(text: str) -> None:
    """Raises a `StudyError` for a data set that is neither bundled nor an image folder; empty passes."""
    if text and text not in BUNDLED:
        # Imports Pillow and numpy.
        from study.sources.folders import folder_of

        folder_of(text)


def require_device(text: str) -> None:
    """Raises a `StudyError` for a text that no machine has as a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise unknown("device", text, ("auto", "cpu", "cuda", "cuda:N"))


def assignments(words: list[str] | None) -> dict[str, str]:
    """The values of each ``NAME=VALUES``, by name.

    Raises:
        StudyError: for a word that is none, or a name that is given twice.
    """
    values: dict[str, str] = {}
    for word in words or ():
        name, _, text = word.partition("=")
        require(text != "", f"--argument is {quoted(word)}: write NAME=VALUES, e.g. width=8:64.")
        require(name.strip() not in values, f"--argument {name} is given twice: list all values in one: width=8,16.")
        values[name.strip()] = text
    return values


def quoted(text: str) -> str:
    """The text in quotation marks, cut where it is long."""
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
