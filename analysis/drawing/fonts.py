"""Fonts for class names in any script: DejaVu Sans, then installed fonts for the characters it lacks."""

import unicodedata
from collections.abc import Iterator

from matplotlib.font_manager import FontEntry, FontProperties, findfont, findSystemFonts, fontManager, weight_dict
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

FIRST = "DejaVu Sans"
_families = [FIRST]
_lacking: set[str] = set()
"""Characters that no installed font has."""
_drawn: set[str] = set()
"""Characters that a font of `_families` has."""


def families() -> list[str]:
    """The font families of figures, in the order in which a glyph is looked up; `undrawable` adds to them."""
    return list(_families)


def undrawable(text: str) -> set[str]:
    """The characters of `text` that no installed font can draw.

    Fonts that have characters missing from the current ones are added to `families`.
    """
    characters = {character for character in text if _is_visible(character)}
    fonts = _installed()
    while wanted := characters - _drawn - _lacking:
        entry = next(fonts, None)
        if entry is None:
            _lacking.update(wanted)
            break
        covered = _covered(entry.fname, wanted)
        _drawn.update(covered)
        if covered and entry.name not in _families:
            _families.append(entry.name)
    return characters & _lacking


def inches(text: str, points: float) -> float:
    """The width of a line of text in figures."""
    font = FontProperties(family=families(), size=points)
    # Letters that are fitted to dots are up to 3 % wider.
    return 1.03 * float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def _is_visible(character: str) -> bool:
    """Whether the character needs a glyph: joiners, direction marks and variation selectors do not."""
    selector = "\ufe00" <= character <= "\ufe0f" or character >= "\U000e0000"
    return not (character.isspace() or selector or unicodedata.category(character) in ("Cc", "Cf"))


def _installed() -> Iterator[FontEntry]:
    """All installed fonts: DejaVu Sans first, then upright ones of regular weight."""
    yield FontEntry(fname=findfont(FIRST), name=FIRST)
    # matplotlib caches its list of fonts on disk: it lacks fonts that were installed later.
    for path in sorted(set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}):
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError):
            continue
    # Last Resort fonts map every character to a box.
    yield from sorted((entry for entry in fontManager.ttflist if not entry.name.startswith("Last Resort")), key=_rank)


def _rank(entry: FontEntry) -> tuple[bool, int, bool, str, str]:
    weight = weight_dict.get(entry.weight, entry.weight) if isinstance(entry.weight, str) else entry.weight
    return entry.style != "normal", abs(int(weight) - 400), "Sans" not in entry.name, entry.name, entry.fname


def _covered(path: str, characters: set[str]) -> set[str]:
    """Those of `characters` that the font can draw; none for a bitmap font, which matplotlib cannot scale."""
    try:
        font = FT2Font(path)
        mapped = font.get_charmap()
        present = {character for character in characters if ord(character) in mapped}
        if not present or not font.scalable:
            return set()
        font.set_size(10, 72)
        return {character for character in present if _has_outline(font, character)}
    except (OSError, RuntimeError):
        return set()


def _has_outline(font: FT2Font, character: str) -> bool:
    """Whether the glyph has an outline: colour fonts map characters to glyphs without one."""
    font.load_char(ord(character))
    return len(font.get_path()[0]) > 0
