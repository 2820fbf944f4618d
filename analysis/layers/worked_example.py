"""One value of a feature map worked out: pixels times weights, summed over the colours, and the bias."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.numbered_cells import Item, Outline, Panel, draw_rows
from analysis.drawing.style import COLOURS
from analysis.drawing.wording import number
from analysis.layers.operations import MARKS, WHOLE, Place, arrays, signed, sized, total

MOST_WRITTEN = 7
"""The side of kernels up to which their numbers are written in."""
CELL, ACROSS = 0.41, 2.05
"""Inches: a cell that a number is written in, and the most that a kernel takes of larger ones."""


def panels(window: np.ndarray, kernel: np.ndarray, products: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the figure by name, for `concepts.tabulate`.

    Args:
        window: the pixels that the kernel lies on, (3, k, k), from -1 to 1.
        kernel: (3, k, k).
        products: of the two.
        result: the filter's map (H, W).
    """
    made: dict[str, np.ndarray] = {}
    for colour, pixels, weights, both in zip(COLOURS, window, kernel, products, strict=True):
        made |= {f"pixels, {colour}": pixels, f"weights, {colour}": weights, f"products, {colour}": both}
    return made | {"map": result}


def _sums(made: dict[str, np.ndarray]) -> list[float]:
    return [float(made[f"products, {colour}"].sum()) for colour in COLOURS]


def caption(table: pd.DataFrame, *, filter: int, place: Place, bias: float) -> str:
    """One sentence: where it is, and the sum over the colours."""
    made = arrays(table)
    terms = ", ".join(f"{colour} {number(one, 2)}" for colour, one in zip(COLOURS, _sums(made), strict=True))
    return (
        f"The largest value of filter {filter}'s map, {number(made['map'][place], 2)} at row {place[0]}, column "
        f"{place[1]}, is the sum of what the colours bring ({terms}) and the bias, {number(bias, 2)}."
    )


def draw_worked(
    table: pd.DataFrame, *, image: np.ndarray, box: Sequence[int], place: Place, bias: float, title: str
) -> Figure:
    """A row for each colour with the pixels, the weights and their products; beside them the image and the map.

    Args:
        table: `concepts.tabulate` of `panels`.
        image: (H, W, 3), bytes.
        box: what the kernel spans in `image`: top, left, height and width; may reach over the border.
        place: of the value in the map.
        bias: the filter's.
        title: above everything.
    """
    made = arrays(table)
    result = made["map"]
    size = len(made["pixels, red"])
    digits = 2 if size <= MOST_WRITTEN else None
    side = CELL if digits else ACROSS / size
    weights, products = (signed(*(made[f"{what}, {colour}"] for colour in COLOURS)) for what in ("weights", "products"))
    scales: dict[str, style.Scale] = {"pixels": ((-1.0, 1.0), "gray"), "weights": weights, "products": products}
    pictures = [
        _picture(image, f"image, {sized(image)}", Outline(box[0], box[1], box[2], box[3], MARKS[0])),
        _picture(result, f"map, {sized(result)}", Outline(*place, 1, 1, MARKS[0], 1.2)),
    ]
    rows: list[list[Item]] = []
    for count, (colour, brought) in enumerate(zip(COLOURS, _sums(made), strict=True)):
        row: list[Item] = []
        for what, scale in scales.items():
            name = f"{what}, {colour}"
            below = f"sum {number(brought, 2)}" if what == "products" else ""
            row.append(Panel(values=made[name], title=name, scale=scale, digits=digits, side=side, below=below))
        rows.append([row[0], "×", row[1], "=", row[2], *pictures[count : count + 1]])
    sum_ = f"{total([*_sums(made), bias], 2)} = {number(result[place], 2)}"
    return draw_rows(rows, title=f"{title}: {sum_} (red, green, blue, bias)")


def _picture(values: np.ndarray, title: str, outline: Outline) -> Panel:
    side, bar = WHOLE / values.shape[1], values.ndim == 2
    return Panel(values=values, title=title, scale=signed(values), digits=None, side=side, outlines=[outline], bar=bar)
