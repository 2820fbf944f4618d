"""How the lines and bars of many classes are told apart: by colour, dashes, markers and hatching."""

from collections.abc import Sequence
from typing import Any

from analysis.drawing.style import CLASS_COLOURS

DASHES: Any = ("solid", (0, (4, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 3)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("", "o", "s", "^", "x", "D", "v", "+", "*")
HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "||||", "oooo", "++++", "****")


def class_lines(classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line style of every class: ten colours; the dashes change every 5 classes, the marker every 30.

    Up to 270 classes look different, and up to ten differ in more than the colour.
    """
    return {
        name: {
            "color": CLASS_COLOURS[place % 10],
            "linestyle": DASHES[place // 5 % len(DASHES)],
            "marker": MARKERS[place // (5 * len(DASHES)) % len(MARKERS)],
            "markevery": 0.1,
            "markersize": 4,
        }
        for place, name in enumerate(classes)
    }


def class_fills(classes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Fill of every class's bar: ten colours; the hatch changes every 10 classes. Up to 100 classes look different."""
    return {
        name: {"facecolor": CLASS_COLOURS[place % 10], "hatch": HATCHES[place // 10 % 10]}
        for place, name in enumerate(classes)
    }
