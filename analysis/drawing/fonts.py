"""Fonts for names in any script: DejaVu Sans, and installed fonts for the characters that it lacks."""

import unicodedata
from collections.abc import Iterator

from matplotlib.font_manager import FontEntry, findfont, findSystemFonts, fontManager, weight_dict
from matplotlib.ft2font import FT2Font

FIRST = "DejaVu Sans"
_families = [FIRST]
_lacking: set[str] = set()
"""Characters that were looked for in all installed fonts, and not found."""
_drawn: set[str] = set()


def families() -> list[str]:
    """The font families that figures use, glyph by glyph the first that has it; `undrawable` adds to them."""
    return list(_families)


def undrawable(text: str) -> set[str]:
    """The characters of `text` that no installed font can draw.

    A font that draws characters which the fonts so far lack joins `families`.
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


def _is_visible(character: str) -> bool:
    """Whether it needs a glyph of its own: joiners, direction marks and variation selectors do not."""
    selector = "\ufe00" <= character <= "\ufe0f" or character >= "\U000e0000"
    return not (character.isspace() or selector or unicodedata.category(character) in ("Cc", "Cf"))


def _installed() -> Iterator[FontEntry]:
    """DejaVu Sans, then all others, upright ones of regular weight first."""
    yield FontEntry(fname=findfont(FIRST), name=FIRST)
    # matplotlib's list of fonts is kept from process to process: fonts installed since then are not in it.
    for path in sorted(set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}):
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError):
            continue
    # The last resort draws a box for any character.
    yield from sorted((entry for entry in fontManager.ttflist if not entry.name.startswith("Last Resort")), key=_rank)


def _rank(entry: FontEntry) -> tuple[bool, int, bool, str, str]:
    weight = weight_dict.get(entry.weight, entry.weight) if isinstance(entry.weight, str) else entry.weight
    return entry.style != "normal", abs(int(weight) - 400), "Sans" not in entry.name, entry.name, entry.fname


def _covered(path: str, characters: set[str]) -> set[str]:
    """Those of `characters` that the font draws; none for a font of bitmaps, which matplotlib cannot scale."""
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
    """Whether there is a shape to draw: fonts of colour layers map characters to glyphs without any."""
    font.load_char(ord(character))
    return len(font.get_path()[0]) > 0
