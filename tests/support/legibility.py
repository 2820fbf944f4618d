"""Finds texts of figures that overlap, are too small, or that the edge cuts off, while a report is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.drawing.screens import narrow_version
from analysis.inside import animation
from pipelines.report import exhibits

TOLERANCE = 1.0
"""Pixels at 100 dots per inch by which boxes of texts may overlap or leave the figure: a box is larger than its ink."""
SMALLEST = 8
"""Points, at a figure's own size: 11 pixels where it is shown 1,000 wide."""


class Written(NamedTuple):
    """A text that was drawn, and its place in pixels."""

    text: str
    box: Bbox
    slanted: bool
    points: float


@contextmanager
def recorded() -> Iterator[list[Written]]:
    """The texts that are drawn meanwhile, which are not all that a figure has: an axis has ticks beyond its limits."""
    written, draw = list[Written](), Text.draw

    def record(text: Text, renderer: Any, *rest: Any, **more: Any) -> None:
        draw(text, renderer, *rest, **more)
        if text.get_visible() and text.get_text().strip():
            slanted = text.get_rotation() % 90 != 0
            box = text.get_window_extent(renderer)
            written.append(Written(text.get_text(), box, slanted, text.get_fontsize()))

    with patch.object(Text, "draw", record):
        yield written


def texts(figure: Figure) -> list[Written]:
    """The texts of the figure, which is drawn for them."""
    with recorded() as written:
        figure.draw_without_rendering()
    return written


def problems(figure: Figure) -> list[str]:
    """The texts of the figure that are cut off or too small, and the pairs of texts that overlap."""
    return _problems(figure, texts(figure))


def _problems(figure: Figure, written: list[Written]) -> list[str]:
    slack, page = TOLERANCE * figure.dpi / 100, figure.bbox
    boxes = [Bbox.from_extents(*(box.min + slack), *(box.max - slack)) for _, box, _, _ in written]
    small = [f"{text!r} has {points:g} points" for text, _, _, points in written if points < SMALLEST]
    cut = [
        f"{text!r} is cut off"
        for (text, *_), box in zip(written, boxes, strict=True)
        if not (page.contains(*box.min) and page.contains(*box.max))
    ]
    pairs = [f"{written[one].text!r} overlaps {written[other].text!r}" for one, other in _overlapping(written, boxes)]
    return cut + small + pairs


def _overlapping(written: list[Written], boxes: list[Bbox]) -> Iterator[tuple[int, int]]:
    """The pairs of texts that overlap, by their places in the list."""
    low, high = (np.array([getattr(box, end) for box in boxes]).reshape(-1, 2) for end in ("min", "max"))
    slanted = np.array([text.slanted for text in written], bool)
    meet = ((low[:, None] <= high) & (low <= high[:, None])).all(2)
    # Boxes around parallel slanted texts overlap where the texts do not.
    return zip(*np.nonzero(np.triu(meet & ~(slanted[:, None] & slanted), 1)), strict=True)


def problems_on_screens(figure: Figure | None) -> list[str]:
    """The problems of a figure that is drawn for wide and for narrow screens."""
    assert figure is not None
    narrow = narrow_version(figure)
    assert narrow is not None
    return problems(figure) + [f"{problem} on a narrow screen" for problem in problems(narrow)]


@contextmanager
def watched() -> Iterator[dict[str, list[str]]]:
    """The problems of each figure that a report writes meanwhile, for wide and narrow screens, by the figure's name.

    Of animations, by their titles, those of the texts that are in every frame.
    """
    found, names, animated = dict[str, list[str]](), list[str](), list[tuple[str, Figure]]()
    write, png, sheet = exhibits.write_figure, exhibits.png, animation.sheet

    def named(folder: Any, name: str, numbers: Any, figure: Figure) -> bytes:
        names.append(name)
        return write(folder, name, numbers, figure)

    def checked(figure: Figure) -> bytes:
        with recorded() as written:
            picture = png(figure)
        problems = _problems(figure, written)
        # A version for narrow screens comes after the figure itself.
        if names[-1] in found:
            found[names[-1]] += [f"{problem} on a narrow screen" for problem in problems]
        else:
            found[names[-1]] = problems
        return picture

    def animate(width: float, height: float, title: str) -> tuple[Figure, Axes]:
        drawn = sheet(width, height, title)
        animated.append((f"animation: {title}", drawn[0]))
        return drawn

    with (
        patch.object(animation, "sheet", animate),
        patch.object(exhibits, "write_figure", named),
        patch.object(exhibits, "png", checked),
    ):
        yield found
        for title, figure in animated:
            found.setdefault(title, []).extend(problems(figure))
