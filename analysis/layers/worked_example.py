"""One value of a feature map worked out: pixels times weights, summed over the colours, plus the bias."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import maps, style
from analysis.drawing.numbered_cells import Item, Outline, Panel, draw_rows
from analysis.drawing.style import COLOURS
from analysis.drawing.wording import number
from analysis.exhibit import Exhibit
from analysis.layers.operations import MARKS, WHOLE, Place, arrays, signed, sized, tabulate, total

MOST_WRITTEN = 7
"""Largest side of a kernel whose numbers are shown."""
FEWEST_DIGITS, MOST_DIGITS = 3, 12
"""Digits of the terms and their sum."""
CELL, ACROSS = 0.41, 2.05
"""Inches: side of a cell with a number, and side of a whole kernel without numbers."""


def show(
    numbers: Mapping[str, np.ndarray],
    filter: int,
    *,
    place: Place,
    bias: float,
    image: np.ndarray,
    box: Sequence[int],
) -> Exhibit:
    """One value of the map of a filter of conv1, worked out.

    Args:
        numbers: from `panels`.
        filter: the filter's number.
        place: row and column of the value in the map.
        bias: the filter's bias.
        image: (H, W, 3), bytes.
        box: see `draw_worked`.
    """
    table, heading = tabulate(numbers), "One value of a feature map, worked out"
    figure = draw_worked(table, image=image, box=box, place=place, bias=bias, title=f"Filter {filter} of conv1")
    top, left, height, width = box
    is_within = min(top, left) >= 0 and top + height <= image.shape[0] and left + width <= image.shape[1]
    text = caption(table, filter=filter, place=place, bias=bias, is_within=is_within)
    return Exhibit(f"worked_conv1_filter{filter}", heading, text, table, figure, note=NOTE)


NOTE = "The sums are of the exact products, not of the rounded ones in the cells."


def panels(window: np.ndarray, kernel: np.ndarray, products: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the figure by name, for `operations.tabulate`.

    Args:
        window: the pixels that the kernel lies on, (3, k, k), from -1 to 1.
        kernel: (3, k, k).
        products: `window` times `kernel`.
        result: the filter's map (H, W).
    """
    numbers: dict[str, np.ndarray] = {}
    for colour, pixels, weights, both in zip(COLOURS, window, kernel, products, strict=True):
        numbers |= {f"pixels, {colour}": pixels, f"weights, {colour}": weights, f"products, {colour}": both}
    return numbers | {"map": result}


def _sums(numbers: dict[str, np.ndarray]) -> list[float]:
    return [float(numbers[f"products, {colour}"].sum()) for colour in COLOURS]


def sum_digits(terms: Sequence[float]) -> int:
    """The fewest digits, from `FEWEST_DIGITS` on, with which the rounded terms add up to their rounded sum."""
    for digits in range(FEWEST_DIGITS, MOST_DIGITS):
        rounded = sum(round(term, digits) for term in terms)
        if round(rounded, digits) == round(sum(terms), digits):
            return digits
    return MOST_DIGITS


def caption(table: pd.DataFrame, *, filter: int, place: Place, bias: float, is_within: bool) -> str:
    """One sentence: the position of the value, and the sum over the colours.

    Args:
        table: `operations.tabulate` of `panels`.
        filter: the filter's number.
        place: row and column of the value in the map.
        bias: the filter's bias.
        is_within: whether the value is the largest only of those whose window lies within the image.
    """
    numbers = arrays(table)
    sums, result = _sums(numbers), numbers["map"]
    digits = sum_digits([*sums, bias])
    terms = ", ".join(f"{colour} {number(term, digits)}" for colour, term in zip(COLOURS, sums, strict=True))
    which = f"The largest value of filter {filter}'s map{' whose window lies within the image' if is_within else ''}"
    if maps.is_constant(result, style.limits_around_zero(result)):
        which = f"One of the equal values of filter {filter}'s map"
    return (
        f"{which}, {number(result[place], digits)} at row {place[0]}, column "
        f"{place[1]}, is the sum of what the colours bring ({terms}) and the bias, {number(bias, digits)}."
    )


def draw_worked(
    table: pd.DataFrame, *, image: np.ndarray, box: Sequence[int], place: Place, bias: float, title: str
) -> Figure:
    """A row for each colour: the pixels, the weights and their products; beside them the image and the map.

    Args:
        table: `operations.tabulate` of `panels`.
        image: (H, W, 3), bytes.
        box: the kernel's window in `image`: top, left, height and width; may extend beyond the border.
        place: row and column of the value in the map.
        bias: the filter's bias.
        title: of the figure.
    """
    numbers = arrays(table)
    result = numbers["map"]
    size = len(numbers["pixels, red"])
    sums = _sums(numbers)
    digits, in_sums = 2 if size <= MOST_WRITTEN else None, sum_digits([*sums, bias])
    side = CELL if digits else ACROSS / size
    weights, products = (
        signed(*(numbers[f"{what}, {colour}"] for colour in COLOURS)) for what in ("weights", "products")
    )
    scales: dict[str, style.Scale] = {"pixels": ((-1.0, 1.0), "gray"), "weights": weights, "products": products}
    pictures = [
        _picture(image, f"image, {sized(image)}", Outline(box[0], box[1], box[2], box[3], MARKS[0])),
        _picture(result, f"map, {sized(result)}", Outline(*place, 1, 1, MARKS[0], 1.2)),
    ]
    rows: list[list[Item]] = []
    for count, (colour, colour_sum) in enumerate(zip(COLOURS, sums, strict=True)):
        row: list[Item] = []
        for what, scale in scales.items():
            name = f"{what}, {colour}"
            below = f"sum {number(colour_sum, in_sums)}" if what == "products" else ""
            row.append(Panel(values=numbers[name], title=name, scale=scale, digits=digits, side=side, below=below))
        rows.append([row[0], "×", row[1], "=", row[2], *pictures[count : count + 1]])
    equation = f"{total([*sums, bias], in_sums)} = {number(result[place], in_sums)}"
    return draw_rows(rows, title=f"{title}: {equation} (red, green, blue, bias)")


def _picture(values: np.ndarray, title: str, outline: Outline) -> Panel:
    side, bar = WHOLE / values.shape[1], values.ndim == 2
    return Panel(values=values, title=title, scale=signed(values), digits=None, side=side, outlines=[outline], bar=bar)
