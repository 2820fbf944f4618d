"""Class names for figures: one that is unreadable or ambiguous there is prefixed with its class's number."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from analysis.drawing.fonts import undrawable
from analysis.drawing.wording import counted, first_few, without_middle

SHORTEST = 18
"""Length in characters of the shortest form of a name, see `wording.without_middle`."""
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that override the direction of the text after them."""


def printable(name: str) -> str:
    """The name on one line, without control characters; an unpaired surrogate becomes �."""
    kinds = ((character, unicodedata.category(character)) for character in name if character not in _OVERRIDES)
    return " ".join("".join(" " if kind == "Cc" else "\ufffd" if kind == "Cs" else c for c, kind in kinds).split())


def readable(text: str) -> str:
    """The text on one line. Loads fonts for its characters; those that no font has are drawn as boxes."""
    undrawable(text)
    return printable(text)


def readable_names(classes: Sequence[str]) -> dict[str, str]:
    """Each name → the name to show in figures, tables and sentences, in the order of the classes.

    A name is prefixed with its class's number, counted from 0, if it is blank, looks like another one (also when
    shortened), or has characters that no installed font can draw.
    """
    lines = {name: printable(name) for name in classes}
    numbered = {
        name: f"{number}: {line if _look(line) else '(blank)'}" for number, (name, line) in enumerate(lines.items())
    }
    looks = Counter(map(_look, lines.values()))
    # A class may be called as another one is with its number.
    taken = set(map(_look, numbered.values()))
    plain = {
        name
        for name, line in lines.items()
        if looks[_look(line)] == 1 and _look(line) and _look(line) not in taken and not undrawable(line)
    }
    return {name: lines[name] if name in plain else numbered[name] for name in classes}


def numbered_notice(shown: Mapping[str, str]) -> str:
    """One line: which of the names from `readable_names` are numbered, and why; empty if none is."""
    numbered = [text for name, text in shown.items() if text != printable(name)]
    lacking = sorted(undrawable("".join(numbered)))
    why = f" (no installed font has {first_few(lacking)})" if lacking else ""
    return (
        f"Numbers stand before {counted(len(numbered), 'class name')} that figures cannot show or tell apart{why}: "
        f"{first_few(numbered)}."
        if numbered
        else ""
    )


def _look(line: str) -> str:
    """A key that is equal for names that look alike when shortened."""
    composed = unicodedata.normalize("NFC", line)
    return without_middle("".join(c for c in composed if unicodedata.category(c) != "Cf").strip(), SHORTEST)
