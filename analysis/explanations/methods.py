"""The maps of every attribution method for one decision, with what each sums to."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import is_narrow
from analysis.drawing.tiles import MARGIN, beside, draw_picture, draw_tile, sheet
from analysis.drawing.wording import signed, without_middle
from analysis.exhibit import Exhibit

SIDE, STEP, COLUMNS, LINE, NARROW_LINE = 1.0, 1.2, 2, 54, 33
"""Inches: a side of a map, from row to row; the number of columns; characters in a line, and on a narrow screen."""
KEY, BAR, KEYS = 1.6, 0.08, (0.5, 0.9)
"""Inches: the length and the thickness of a colour bar of the key, and where they are below the top of the image."""
NOTE = (
    "Each map has its own scale, which ends at its largest value: nothing is clipped. Red speaks for the class, blue "
    "against it; methods without a sign are shown from white to red. Attention maps do not apply: these networks have "
    "no attention."
)
RANKING_NOTE = (
    "Agreement: the correlation of a method's maps with the measured drops on other test images, and in brackets that "
    "of the best map that knows nothing of the network."
)


@dataclass(frozen=True, eq=False)
class Attribution:
    """A method's map of one decision."""

    name: str
    title: str
    map: np.ndarray
    """(H, W)."""
    signed: bool
    expected: float | None = None
    """What its pixels should sum to; None: nothing in particular."""
    less: str = ""
    """The expected sum in words: "margin less …"."""


def show(
    attributions: Sequence[Attribution],
    *,
    image: np.ndarray,
    description: str,
    margin: str,
    ranking: Mapping[str, str] | None = None,
) -> Exhibit:
    """A row for each method.

    Args:
        attributions: in the order of the figure.
        image: (H, W, 3), bytes.
        description: which image it is.
        margin: the decision in words, e.g. ``bird over deer``.
        ranking: method → a sentence on whether to believe it, from measurements; they decide the order.
    """
    known = list(ranking or {})
    if known:
        attributions = sorted(attributions, key=lambda a: known.index(a.name) if a.name in known else len(known))
    table, maps = methods_table(attributions), maps_table(attributions)
    figure = draw(attributions, image=image, description=description, margin=margin, ranking=ranking or {})
    heading = f"What every method says of {description}: the margin of {margin}"
    return Exhibit(
        "methods",
        heading,
        caption(table, attributions),
        table,
        figure,
        note=f"{NOTE} {RANKING_NOTE}" if known else NOTE,
        tables={"methods_maps": maps},
    )


def methods_table(attributions: Sequence[Attribution]) -> pd.DataFrame:
    """method, signed, sum, expected (NaN: nothing in particular), largest; a row for each."""
    rows = [
        {
            "method": item.name,
            "signed": item.signed,
            "sum": float(item.map.sum()),
            "expected": np.nan if item.expected is None else item.expected,
            "largest": float(np.abs(item.map).max()),
        }
        for item in attributions
    ]
    return pd.DataFrame(rows, columns=["method", "signed", "sum", "expected", "largest"])


def maps_table(attributions: Sequence[Attribution]) -> pd.DataFrame:
    """method, row, column, value; a row for each pixel of each map."""
    parts = []
    for item in attributions:
        rows, columns = np.indices(item.map.shape)
        values = {"row": rows.ravel(), "column": columns.ravel(), "value": item.map.ravel()}
        parts.append(pd.DataFrame({"method": item.name} | values))
    return pd.concat(parts, ignore_index=True)


def caption(table: pd.DataFrame, attributions: Sequence[Attribution]) -> str:
    """One sentence: how many of the methods add up, and how far the worst of them is off."""
    adding = table.dropna(subset="expected")
    if adding.empty:
        return f"None of the {len(table)} methods divides a known number."
    off = (adding["sum"] - adding["expected"]).abs()
    titles = {item.name: item.title for item in attributions}
    worst = titles[adding["method"].iloc[int(off.argmax())]]
    return (
        f"{len(adding)} of the {len(table)} methods divide a known number among the pixels; the largest difference "
        f"between their sum and it is {off.max():.2g} logits ({worst})."
    )


@style.styled
def draw(
    attributions: Sequence[Attribution],
    *,
    image: np.ndarray,
    description: str,
    margin: str,
    ranking: Mapping[str, str],
) -> Figure:
    """The image, and a tile for each method with its sum and what is known of it."""
    columns, letters = (1, NARROW_LINE) if is_narrow() else (COLUMNS, LINE)
    lines = -(-(len(attributions) + 1) // columns)
    figure, ax = sheet(style.page_width(), 0.1 + lines * STEP, f"The margin of {margin}: a map for each method")
    across = (style.page_width() - 2 * MARGIN) / columns
    draw_picture(ax, image, MARGIN, 0.1, SIDE)
    ax.text(MARGIN + SIDE + 0.12, 0.14, without_middle(description, letters), va="top", fontsize=9, color=style.INK)
    _draw_key(ax, {item.signed for item in attributions})
    for place, item in enumerate(attributions, start=1):
        left, top = MARGIN + place // lines * across, 0.1 + place % lines * STEP
        limits = style.limits_around_zero(item.map)
        scale = (limits, style.DIVERGING) if item.signed else ((0.0, limits[1]), "Reds")
        draw_tile(ax, item.map, left, top, SIDE, scale)
        ax.text(left + SIDE + 0.12, top + 0.04, item.title, va="top", fontsize=9, color=style.INK)
        words = [_sum_sentence(item), ranking.get(item.name, "")]
        wrapped = "\n".join(line for text in words for line in textwrap.wrap(text, letters))
        ax.text(left + SIDE + 0.12, top + 0.26, wrapped, va="top", fontsize=8, color=style.QUIET)
    return figure


def _draw_key(ax: Axes, signs: Collection[bool]) -> None:
    """A colour bar for the maps with a sign and one for those without, beside the image: what the colours mean."""
    kinds = [
        (True, style.DIVERGING, (-1.0, 1.0), {-1: "−largest", 0: "0", 1: "+largest"}, "against and for the class"),
        (False, "Reds", (0.0, 1.0), {0: "0", 1: "largest"}, "without a sign"),
    ]
    for top, (_, cmap, limits, ticks, words) in zip(KEYS, (kind for kind in kinds if kind[0] in signs), strict=False):
        ax.text(MARGIN + SIDE + 0.42, top - 0.03, words, va="bottom", fontsize=8, color=style.INK)
        bar = beside(ax, MARGIN + SIDE + 0.42, top, KEY, BAR)
        style.fill_colour_bar(bar, limits, cmap, "", cax=bar, orientation="horizontal")
        bar.set_xticks(list(ticks), list(ticks.values()))
        bar.tick_params(length=2, pad=1)


def _sum_sentence(item: Attribution) -> str:
    """What a map sums to, and the largest of its values, at which its colours end."""
    largest = f"largest {float(np.abs(item.map).max()):.2g}"
    text = f"{largest}, sum {signed(float(item.map.sum()))}" if item.signed else f"{largest}, no sign"
    if item.expected is None:
        return f"{text}, which has no meaning of its own" if item.signed else text
    return f"{text}; the margin less {item.less} is {signed(item.expected)}"
