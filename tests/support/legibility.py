"""Finds texts of figures that overlap, are too small, or that the edge cuts off, while a report is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any, NamedTuple
from unittest.mock import patch

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


def texts(figure: Figure) -> list[Written]:
    """The texts that are drawn, which are not all that the figure has: an axis has ticks beyond its limits."""
    written, draw = [], Text.draw

    def record(text: Text, renderer: Any, *rest: Any, **more: Any) -> None:
        draw(text, renderer, *rest, **more)
        if text.get_visible() and text.get_text().strip():
            slanted = text.get_rotation() % 90 != 0
            box = text.get_window_extent(renderer)
            written.append(Written(text.get_text(), box, slanted, text.get_fontsize()))

    with patch.object(Text, "draw", record):
        figure.draw_without_rendering()
    return written


def problems(figure: Figure) -> list[str]:
    """The texts of the figure that are cut off or too small, and the pairs of texts that overlap."""
    slack, page, written = TOLERANCE * figure.dpi / 100, figure.bbox, texts(figure)
    drawn = [
        (text, Bbox.from_extents(*(box.min + slack), *(box.max - slack)), slanted) for text, box, slanted, _ in written
    ]
    small = [f"{text!r} has {points:g} points" for text, _, _, points in written if points < SMALLEST]
    cut = [
        f"{text!r} is cut off" for text, box, _ in drawn if not (page.contains(*box.min) and page.contains(*box.max))
    ]
    # Boxes around parallel slanted texts overlap where the texts do not.
    pairs = [
        f"{one[0]!r} overlaps {other[0]!r}"
        for one, other in combinations(drawn, 2)
        if not (one[2] and other[2]) and one[1].overlaps(other[1])
    ]
    return cut + small + pairs


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
    found: dict[str, list[str]] = {}
    write, narrowed, sheet = exhibits.write_figure, exhibits.narrow_version, animation.sheet
    animated: dict[str, Figure] = {}

    def write_and_check(folder: Any, name: str, numbers: Any, figure: Figure) -> bytes:
        picture = write(folder, name, numbers, figure)
        found[name] = problems(figure)
        return picture

    def narrow_and_check(figure: Figure) -> Figure | None:
        narrow = narrowed(figure)
        if narrow is not None:
            # After the figure itself, which was the last to be written.
            found[list(found)[-1]] += [f"{problem} on a narrow screen" for problem in problems(narrow)]
        return narrow

    def animate(width: float, height: float, title: str) -> tuple[Figure, Axes]:
        drawn = sheet(width, height, title)
        animated[f"animation: {title}"] = drawn[0]
        return drawn

    with (
        patch.object(animation, "sheet", animate),
        patch.object(exhibits, "write_figure", write_and_check),
        patch.object(exhibits, "narrow_version", narrow_and_check),
    ):
        yield found
        found.update({title: problems(figure) for title, figure in animated.items()})
