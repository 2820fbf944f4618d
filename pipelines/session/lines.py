"""Lines of text for a terminal, broken between words; elsewhere a line stays one, for grep."""

import re
import sys
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console

_KEPT = "\ue000"
"""Stands for a space at which a line must not be broken."""
_COPIED = re.compile(
    r"`[^`]+`"
    # A command without quotation marks, as after a colon, is the rest of its line.
    r"|(?:^\s*|(?<=: ))study [a-z].*"
    # The name of a folder may hold spaces: up to the next punctuation. One of a web page holds none.
    r"|(?<!\S)(?:~?/|(?!http)\w+://).*?(?=[,:;)]\s|\.\s|$)"
)
"""What people copy: commands, paths, addresses of databases."""


def fitted(text: str, console: Console) -> str:
    """`text`, on a terminal broken between words to its width; never within a command, a path or an address."""
    if not console.is_terminal:
        return text
    return "\n".join(_broken(line, console.width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    lines = [""]
    for word in re.findall(r"\s*\S+", _COPIED.sub(lambda copied: copied[0].replace(" ", _KEPT), line)):
        # What is longer than a line is left to the terminal, which puts no line end into what is copied.
        if lines[-1] and cell_len(lines[-1] + word) > width:
            lines.append(word.lstrip())
        else:
            lines[-1] += word
    return "\n".join(lines).replace(_KEPT, " ")


def say(text: str, file: TextIO | None = None) -> None:
    """Prints `text`, to the standard output unless told otherwise, `fitted` to its terminal."""
    file = file or sys.stdout
    print(fitted(text, Console(file=file)), file=file)
