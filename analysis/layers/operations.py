"""Convolution, padding, dilation and stride, worked out in numbers: the report's Figures 1–3.

The tables hold the numbers shown in the figures: panel, row, column, value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.numbered_cells import Item, Outline, Panel, draw_rows
from analysis.drawing.wording import number
from analysis.exhibit import Exhibit

MARKS = ("#ffa90e", "#832db6", "#5fbfc4")
"""Colours of the marked positions: visible on grey, blue and red."""
WHOLE, LOWER = 1.85, 1.25
"""Side in inches of the whole image, or of its map; and of the one beside the products."""
Place = tuple[int, int]
"""Row and column."""


Panels = Mapping[str, np.ndarray]
"""The arrays (H, W) of a figure, by name."""


def show_convolution(panels: Panels, image: np.ndarray, corner: Place, places: Sequence[Place]) -> Exhibit:
    """What a convolution does; arguments as in `draw_convolution`, with `panels` before `tabulate`."""
    table = tabulate(panels)
    figure = draw_convolution(table, image=image, corner=corner, places=places)
    text = convolution_caption(table, corner)
    return Exhibit("concept_convolution", "What a convolution does (Figure 1)", text, table, figure)


def show_padding(panels: Panels) -> Exhibit:
    """What padding does; `panels` as in `draw_padding`, before `tabulate`."""
    table = tabulate(panels)
    heading, text = "What padding does (Figure 2)", padding_caption(table)
    return Exhibit("concept_padding", heading, text, table, draw_padding(table), note=PADDING_NOTE)


def show_dilation(panels: Panels) -> Exhibit:
    """What dilation does; `panels` as in `draw_dilation`, before `tabulate`."""
    table = tabulate(panels)
    heading, text = "What dilation does (Figure 3)", sizes_caption(table, "dilation")
    return Exhibit("concept_dilation", heading, text, table, draw_dilation(table))


def show_stride(panels: Panels) -> Exhibit:
    """What stride does; `panels` as in `draw_stride`, before `tabulate`."""
    table = tabulate(panels)
    text = sizes_caption(table, "stride")
    return Exhibit("concept_stride", "What stride does", text, table, draw_stride(table))


def tabulate(panels: Panels) -> pd.DataFrame:
    """Arrays (H, W) by panel as a tidy table: panel, row, column, value."""
    parts = []
    for name, values in panels.items():
        rows, columns = np.indices(values.shape)
        numbers = {"row": rows.ravel(), "column": columns.ravel(), "value": values.ravel()}
        parts.append(pd.DataFrame({"panel": name, **numbers}))
    return pd.concat(parts, ignore_index=True)


def arrays(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The arrays (H, W) of a `tabulate` table, by panel: its inverse."""
    return {
        str(name): part.pivot(index="row", columns="column", values="value").to_numpy(float)
        for name, part in table.groupby("panel", sort=False)
    }


def signed(*values: np.ndarray) -> style.Scale:
    """A diverging colour scale shared by arrays that may be negative."""
    return style.limits_around_zero(np.concatenate([array.ravel() for array in values])), style.DIVERGING


def sized(values: np.ndarray) -> str:
    """The size as text: ``height × width``."""
    return " × ".join(map(str, values.shape[:2]))


def total(terms: Sequence[float], digits: int = 0) -> str:
    """The sum of the terms, written out."""
    return " + ".join(number(term, digits) for term in terms).replace("+ −", "− ")


def windows(places: Sequence[Place], size: int, *, stride: int = 1, dilation: int = 1) -> list[Outline]:
    """Outlines of the pixels under a kernel of side `size` at each position of its map, in the colours of `MARKS`."""
    outlines = []
    for (row, column), colour in zip(places, MARKS, strict=False):
        top, left = row * stride, column * stride
        if dilation == 1:
            outlines.append(Outline(top, left, size, size, colour))
        else:
            steps = range(0, size * dilation, dilation)
            outlines += [Outline(top + down, left + across, 1, 1, colour) for down in steps for across in steps]
    return outlines


def picture(values: np.ndarray, title: str, scale: style.Scale, outlines: Sequence[Outline] = ()) -> Panel:
    """A panel of the whole image, or of its map with a colour bar, without numbers."""
    side, bar = WHOLE / values.shape[1], values.ndim == 2
    return Panel(values=values, title=title, scale=scale, digits=None, side=side, outlines=outlines, bar=bar)


def numbered(values: np.ndarray, title: str, scale: style.Scale, outlines: Sequence[Outline] = ()) -> Panel:
    """A panel of a patch with the numbers in its cells."""
    return Panel(values=values, title=title, scale=scale, outlines=outlines)


def draw_convolution(table: pd.DataFrame, *, image: np.ndarray, corner: Place, places: Sequence[Place]) -> Figure:
    """A patch, a kernel and their map, with the products and their sum at some positions.

    Args:
        table: `tabulate` of patch, kernel, map and whole map, and of window and products of each position, from 1.
        image: (H, W, 3), bytes, in which the patch lies.
        corner: row and column of the patch's first pixel in `image`.
        places: the positions in the map to mark, at most as many as `MARKS`.
    """
    panels = arrays(table)
    patch, kernel, result, whole = panels["patch"], panels["kernel"], panels["map"], panels["whole map"]
    scale, size = signed(result), len(kernel)
    boxes = [[Outline(*corner, len(values), len(values), MARKS[0])] for values in (patch, result)]
    above: list[Item] = [
        picture(image, f"image, {sized(image)}, and a patch of it", scale, boxes[0]),
        "→",
        Panel(values=patch, title="green channel of the patch, 0 to 255", outlines=windows(places, size)),
        "∗",
        Panel(values=kernel, title="kernel (Sobel)", scale=signed(kernel)),
        "=",
        Panel(values=result, title=f"map, {sized(result)}", scale=scale, outlines=windows(places, 1)),
    ]
    below: list[Item] = []
    for count, (place, colour) in enumerate(zip(places, MARKS, strict=False), start=1):
        frame = [Outline(0, 0, size, size, colour)]
        below += [
            Panel(values=panels[f"window {count}"], title=f"pixels at {place[0]}, {place[1]}", outlines=frame),
            Panel(
                values=panels[f"products {count}"],
                title="× kernel",
                scale=scale,
                below=f"sum {number(result[place])}",
            ),
        ]
    # Smaller than the image above: it is the tallest panel of its row.
    small = picture(whole, f"whole map, {sized(whole)}", signed(whole), boxes[1])
    below.append(replace(small, side=LOWER / len(whole)))
    return draw_rows([above, below], title="Convolution: a kernel slides over the image, and its products are summed")


def convolution_caption(table: pd.DataFrame, corner: Place) -> str:
    """One sentence: the sum at the first position, and the range of the map."""
    panels = arrays(table)
    result, whole = panels["map"], panels["whole map"]
    ends = f"goes from {number(whole.min())} to {number(whole.max())}, positive where green gets brighter to the right"
    return (
        f"At the first place (row {corner[0]}, column {corner[1]} of the image) the products "
        f"{total(panels['products 1'].ravel().tolist())} sum to {number(result[0, 0])}, and the map of the whole image "
        f"{ends if np.ptp(whole) else f'is {number(whole.min())} throughout'}."
    )


def _settings(panels: Mapping[str, np.ndarray], what: str) -> list[int]:
    return [int(name.removeprefix(f"map, {what} ")) for name in panels if name.startswith(f"map, {what} ")]


def _sizes(panels: Mapping[str, np.ndarray], what: str) -> str:
    phrases = [
        f"{sized(panels[f'map, {what} {setting}'])} with {what} {setting}" for setting in _settings(panels, what)
    ]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def draw_padding(table: pd.DataFrame) -> Figure:
    """A patch with and without a border of zeros, and the map of one kernel for each.

    Args:
        table: `tabulate` of the kernel and, for each padding p, of ``input, padding p`` and ``map, padding p``.
    """
    panels = arrays(table)
    kernel, settings = panels["kernel"], _settings(panels, "padding")
    scale = signed(*(panels[f"map, padding {padding}"] for padding in settings))
    rows: list[list[Item]] = []
    for padding in settings:
        before, after = panels[f"input, padding {padding}"], panels[f"map, padding {padding}"]
        ends = [(0, 0), (len(after) - 1, len(after) - 1)]
        title = f"patch with padding {padding}, {sized(before)}"
        rows.append(
            [
                Panel(values=before, title=title, padding=padding, outlines=windows(ends, len(kernel))),
                "∗",
                Panel(values=kernel, title="kernel (Sobel)", scale=signed(kernel)),
                "=",
                Panel(values=after, title=f"map, {sized(after)}", scale=scale, outlines=windows(ends, 1)),
            ]
        )
    return draw_rows(rows, title="Padding: zeros around an image keep its map from shrinking")


def padding_caption(table: pd.DataFrame) -> str:
    """One sentence: the sizes of the maps, and the effect of the zeros at the border."""
    panels = arrays(table)
    padded = np.abs(panels[f"map, padding {_settings(panels, 'padding')[-1]}"])
    inside = padded[1:-1, 1:-1].max()
    padded[1:-1, 1:-1] = 0
    return (
        f"The map of the patch is {_sizes(panels, 'padding')}; on its border the padded map goes up to "
        f"±{number(padded.max())}, inside up to ±{number(inside)}."
    )


PADDING_NOTE = (
    "To the kernel a bright pixel beside a zero is an edge. The network sees pixels from −1 to 1, so that its zeros "
    "are mid-grey."
)


def draw_dilation(table: pd.DataFrame) -> Figure:
    """The pixels that a dilated kernel reads at two positions, and its maps of a patch and of the whole image.

    Args:
        table: `tabulate` of patch and kernel and, for each dilation d, of ``map, dilation d`` and
            ``whole map, dilation d``.
    """
    panels = arrays(table)
    size = len(panels["kernel"])
    columns = []
    for dilation in _settings(panels, "dilation"):
        last = len(panels[f"map, dilation {dilation}"]) - 1
        reach = dilation * (size - 1) + 1
        text = f"dilation {dilation}: {size} × {size} pixels out of {reach} × {reach}"
        columns.append((text, [(0, 0), (last, last)], {"dilation": dilation}))
    return _draw_settings(panels, "dilation", columns, "Dilation: as many weights, spread over a wider field")


def draw_stride(table: pd.DataFrame) -> Figure:
    """A kernel at two neighbouring positions, and its maps of a patch and of the whole image.

    Args:
        table: `tabulate` of patch and kernel and, for each stride s, of ``map, stride s`` and ``whole map, stride s``.
    """
    panels = arrays(table)
    columns = [
        (f"stride {stride}: moves by {stride} pixel{'s' if stride > 1 else ''}", [(0, 0), (0, 1)], {"stride": stride})
        for stride in _settings(panels, "stride")
    ]
    return _draw_settings(panels, "stride", columns, "Stride: the kernel skips pixels, and the map gets smaller")


def _draw_settings(
    panels: Mapping[str, np.ndarray],
    what: str,
    columns: Sequence[tuple[str, list[Place], dict[str, int]]],
    title: str,
) -> Figure:
    """A column for each setting: the patch with some windows marked, its map with their positions, the whole map."""
    maps, wholes = (
        [panels[f"{kind}, {what} {setting}"] for setting in _settings(panels, what)] for kind in ("map", "whole map")
    )
    scale, whole_scale = signed(*maps), signed(*wholes)
    patches, results = [], []
    for (heading, places, geometry), values in zip(columns, maps, strict=True):
        under = windows(places, len(panels["kernel"]), **geometry)
        patches.append(Panel(values=panels["patch"], title=heading, outlines=under))
        results.append(Panel(values=values, title=f"map, {sized(values)}", scale=scale, outlines=windows(places, 1)))
    pictures = [picture(values, f"map of the whole image, {sized(values)}", whole_scale) for values in wholes]
    return draw_rows([patches, results, pictures], title=title)


def sizes_caption(table: pd.DataFrame, what: str) -> str:
    """One sentence: the sizes of the maps of the patch and of the whole image; `what` is dilation or stride."""
    panels = arrays(table)
    wholes = {name.removeprefix("whole "): values for name, values in panels.items() if name.startswith("whole")}
    return (
        f"Of a patch of {sized(panels['patch'])} pixels the map is {_sizes(panels, what)}; "
        f"of the whole image it is {_sizes(wholes, what)}."
    )
