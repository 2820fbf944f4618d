"""The picture of a circuit: filters of both layers with their links, and the waterfall of their shares."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from analysis.drawing import style
from analysis.drawing.screens import is_narrow
from analysis.drawing.tiles import CHARACTER, MARGIN, beside, draw_picture, sheet
from analysis.drawing.wording import all_without_end, quoted, signed, without_end
from analysis.explanations.decision import MOST, Decision
from analysis.filters.kernel_pictures import kernel_pictures, slice_pictures, strongest_inputs

MOST_RIVALS = 12
"""Most classes for which the strip of rivals is drawn."""
FOR, AGAINST = "#b2182b", "#2166ac"
NAMES = {"conv1": "First layer", "conv2": "Second layer"}
HEAD, STEP, SIDE, IMAGE, WATERFALL = 0.95, 0.74, 0.62, 1.55, 1.5
"""Inches: above the first row, from row to row, a side of a tile and of the image, and the waterfall's height."""
LEFT = {"conv1": 1.95, "conv2": 6.35}
"""Where each layer's columns begin."""
BLOCK, LINKS = HEAD + MOST * STEP + 0.35, 1.3
"""Heights in inches of a layer, and of the links between stacked layers."""
PLACE, WORDS, STRIP, END = 0.68, 1.36, 1.92, 3.05
"""From there to the map, to the share, to the strip of rivals and to its end."""


@style.styled
def draw(decision: Decision) -> Figure:
    """The image and its pixels, the leading filters of both layers with their links, and the waterfall."""
    chosen, rival = map(
        quoted, all_without_end([decision.classes[place] for place in (decision.chosen, decision.rival)], 20)
    )
    title = f"{chosen} rather than {rival}: the margin above the mean, {signed(decision.explained)} logits, divided"
    key = f"Red speaks for {chosen}, blue for {rival}."
    shown = {layer: decision.leading(layer) for layer in decision.against}
    draw_panels = _draw_stacked if is_narrow() else _draw_beside
    return draw_panels(decision, shown, title, key)


def _draw_beside(decision: Decision, shown: Mapping[str, Sequence[int]], title: str, key: str) -> Figure:
    """The image, the first layer, its links and the second layer side by side, and the waterfall below."""
    figure, ax = sheet(style.WIDTH, BLOCK + WATERFALL + 0.45, title)
    ax.text(MARGIN, 0.06, key, va="top", fontsize=8, color=style.QUIET)
    _draw_image(ax, decision, (MARGIN, HEAD), (MARGIN, HEAD + IMAGE + 0.4))
    for layer, filters in shown.items():
        _draw_layer(ax, decision, layer, filters, (LEFT[layer], 0.0))
    left, right = LEFT["conv1"] + END + 0.05, LEFT["conv2"] - 0.05
    rows = [HEAD + place * STEP + SIDE / 2 for place in range(MOST)]
    _draw_links(ax, decision, shown, [(left, row) for row in rows], [(right, row) for row in rows])
    ax.text((left + right) / 2, 0.3, _links_sum(decision, shown, "\n"), va="top", ha="center", fontsize=8)
    _draw_waterfall(beside(ax, 0.75, BLOCK, style.WIDTH - 0.95, WATERFALL), decision, shown["conv2"])
    return figure


def _draw_stacked(decision: Decision, shown: Mapping[str, Sequence[int]], title: str, key: str) -> Figure:
    """The same, one below the other, for a narrow screen."""
    first = 0.75 + IMAGE
    links = first + BLOCK + 0.2
    second = links + LINKS + 0.3
    across, bars = style.page_width(), 0.27 * (len(shown["conv2"]) + 3)
    figure, ax = sheet(across, second + BLOCK + bars + 0.5, title)
    ax.text(MARGIN, 0.0, textwrap.fill(key, 52), va="top", fontsize=8, color=style.QUIET)
    _draw_image(ax, decision, (MARGIN, 0.55), (across - MARGIN - IMAGE, 0.55))
    for top, (layer, filters) in zip((first, second), shown.items(), strict=True):
        _draw_layer(ax, decision, layer, filters, (MARGIN, top))
    columns = [0.35 + place * (across - 0.7) / (MOST - 1) for place in range(MOST)]
    starts, ends = ([(column, top) for column in columns] for top in (links, links + LINKS))
    _draw_links(ax, decision, shown, starts, ends)
    for places, filters, side in zip((starts, ends), shown.values(), ("bottom", "top"), strict=True):
        for (column, row), filter in zip(places, filters, strict=False):
            ax.text(column, row, str(filter), va=side, ha="center", fontsize=8)
    ax.text(MARGIN, links - 0.2, _links_sum(decision, shown, " "), va="bottom", fontsize=8)
    _draw_waterfall(beside(ax, 1.1, second + BLOCK, across - 1.25, bars), decision, shown["conv2"])
    return figure


def _draw_image(ax: Axes, decision: Decision, image: tuple[float, float], pixels: tuple[float, float]) -> None:
    """The image, and the shares of its pixels; the upper left corner of each is given."""
    draw_picture(ax, decision.image, *image, IMAGE, without_end(decision.description, 24))
    _place(ax, decision, decision.pixels, (*pixels, IMAGE), float(np.abs(decision.pixels).max()))
    words = f"its pixels, sum {signed(float(decision.pixels.sum()))}"
    ax.text(pixels[0], pixels[1] - 0.03, words, va="bottom", fontsize=8)


def _draw_layer(ax: Axes, decision: Decision, layer: str, filters: Sequence[int], corner: tuple[float, float]) -> None:
    """The rows of a layer: kernel, place, share and strip of rivals of each filter."""
    (left, start), kernels, shares = corner, decision.kernels[layer], decision.shares(layer)
    colours = kernels.shape[1] == len(style.COLOURS)
    pictures = kernel_pictures(kernels) if colours else slice_pictures(kernels, strongest_inputs(kernels, 1))
    ax.text(left, start + 0.3, NAMES[layer], va="top", fontsize=9, color=style.INK)
    ax.text(left, start + 0.48, "kernel · where it counts · share", va="top", fontsize=8, color=style.QUIET)
    limit = float(np.abs(decision.places[layer]).max())
    for place, filter in enumerate(filters):
        top = start + HEAD + place * STEP
        draw_picture(ax, pictures[filter, 0], left, top, SIDE)
        _place(ax, decision, decision.places[layer][filter], (left + PLACE, top, SIDE), limit)
        colour = FOR if shares[filter] > 0 else AGAINST
        ax.text(left + WORDS, top + 0.2, f"filter {filter}", va="center", fontsize=8, color=style.INK)
        ax.text(left + WORDS, top + 0.4, signed(shares[filter]), va="center", fontsize=9, color=colour)
    _draw_strips(ax, decision, layer, filters, (left + STRIP, start + HEAD))
    rest = np.delete(shares, filters)
    words = f"the other {len(rest)}: {signed(rest.sum())};  sum {signed(shares.sum())}"
    ax.text(left, start + HEAD + len(filters) * STEP + 0.02, words, va="top", fontsize=8, color=style.QUIET)


def _draw_strips(ax: Axes, decision: Decision, layer: str, filters: Sequence[int], corner: tuple[float, float]) -> None:
    """A row of cells for each filter: its share for the class against every other one."""
    rivals = [place for place in range(len(decision.classes)) if place != decision.chosen]
    if len(rivals) > MOST_RIVALS:
        return
    values, (left, start) = decision.against[layer], corner
    width = (END - STRIP) / len(rivals)
    limits = style.limits_around_zero(values[:, filters])
    names = dict(zip(rivals, all_without_end([decision.classes[rival] for rival in rivals], 10), strict=True))
    angle = 90 if CHARACTER * max(map(len, names.values())) > width else 0
    for column, rival in enumerate(rivals):
        middle, bold = left + (column + 0.5) * width, "bold" if rival == decision.rival else "normal"
        look: dict[str, Any] = {"rotation": angle, "fontsize": 8, "fontweight": bold}
        ax.text(middle, start - 0.04, names[rival], ha="center", va="bottom", **look)
    for place, filter in enumerate(filters):
        top = start + place * STEP + 0.2
        row = values[rivals, filter][None]
        extent = (left, left + width * len(rivals), top + 0.22, top)
        ax.imshow(
            row, cmap=style.colour_map(style.DIVERGING), vmin=limits[0], vmax=limits[1], extent=extent, aspect="auto"
        )
        place_of_rival = left + rivals.index(decision.rival) * width
        ax.add_patch(Rectangle((place_of_rival, top), width, 0.22, fill=False, edgecolor=style.INK, linewidth=0.8))


def _place(ax: Axes, decision: Decision, values: np.ndarray, square: tuple[float, float, float], limit: float) -> None:
    """A map over the grey image: red and blue, as strong as the share; nothing is clipped."""
    left, top, side = square
    grey = np.repeat(decision.image.mean(axis=2, keepdims=True), 3, axis=2) / 255
    draw_picture(ax, 0.6 + 0.4 * grey, left, top, side)
    colours = np.where(values[..., None] > 0, _rgb(FOR), _rgb(AGAINST))
    strength = np.abs(values)[..., None] / (limit or 1)
    overlay = np.concatenate([colours, strength], axis=2)
    ax.imshow(overlay, interpolation="nearest", extent=(left, left + side, top + side, top), aspect="auto")


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def _draw_links(
    ax: Axes,
    decision: Decision,
    shown: Mapping[str, Sequence[int]],
    starts: Sequence[tuple[float, float]],
    ends: Sequence[tuple[float, float]],
) -> None:
    """Bands from the first layer's filters to the second's, by place, as wide as the link's share is large."""
    links = decision.links[np.ix_(shown["conv1"], shown["conv2"])]
    largest = float(np.abs(links).max(initial=0)) or 1
    for (i, j), share in sorted(np.ndenumerate(links), key=lambda item: abs(item[1])):
        (left, top), (right, bottom) = starts[i], ends[j]
        # A band leaves and reaches its filters at a right angle.
        across, down = (0.0, (bottom - top) / 2) if is_narrow() else ((right - left) / 2, 0.0)
        points = [(left, top), (left + across, top + down), (right - across, bottom - down), (right, bottom)]
        width = 9 * abs(float(share)) / largest
        colour = FOR if share > 0 else AGAINST
        curve = Path(points, [1, 4, 4, 4])
        ax.add_patch(PathPatch(curve, facecolor="none", edgecolor=colour, linewidth=width, alpha=0.5))


def _links_sum(decision: Decision, shown: Mapping[str, Sequence[int]], after: str) -> str:
    links = decision.links[np.ix_(shown["conv1"], shown["conv2"])]
    return f"links between them:{after}{signed(links.sum())} of {signed(decision.links.sum())}"


def _draw_waterfall(ax: Axes, decision: Decision, filters: Sequence[int]) -> None:
    """From the mean margin of the background to that of this image, by second-layer filters."""
    shares = decision.shares("conv2")
    steps = [*(float(shares[filter]) for filter in filters), float(np.delete(shares, filters).sum())]
    starts = decision.mean_margin + np.concatenate([[0], np.cumsum(steps)])
    labels = [
        f"mean of {decision.background}\ntraining images",
        *(f"filter {filter}" for filter in filters),
        f"the other\n{len(shares) - len(filters)}",
        "this image",
    ]
    heights, bottoms = [decision.mean_margin, *steps, decision.margin], [0.0, *starts[:-1], 0.0]
    inner = [FOR if step > 0 else AGAINST for step in steps]
    colours, places = [style.QUIET, *inner, style.INK], range(len(labels))
    # The line at zero runs behind the numbers.
    plate = {"facecolor": style.PAPER, "pad": 0.5, "linewidth": 0}
    words: dict[str, Any] = {"fontsize": 8, "textcoords": "offset points", "bbox": plate}
    numbers = zip(places, heights, bottoms, strict=True)
    if is_narrow():
        ax.barh(places, heights, left=bottoms, color=colours, height=0.6)
        for place, height, bottom in numbers:
            ax.annotate(signed(height), (max(bottom, bottom + height), place), (2, 0), va="center", **words)
        ax.axvline(0, color="#666666", linewidth=0.7)
        low, high = min(0.0, *starts), max(0.0, *starts)
        # Room for the numbers, which stand at the right of the bars.
        ax.set_xlim(low - 0.03 * (high - low), high + 0.3 * (high - low))
        ax.set_yticks(places, labels)
        ax.set(xlabel="margin (logits)", ylim=(len(labels) - 0.5, -0.5))
        return
    ax.bar(places, heights, bottom=bottoms, color=colours, width=0.6)
    for place, height, bottom in numbers:
        ax.annotate(signed(height), (place, max(bottom, bottom + height)), (0, 4), ha="center", **words)
    ax.axhline(0, color="#666666", linewidth=0.7)
    ax.margins(y=0.18)
    ax.set_xticks(places, labels)
    ax.set(ylabel="margin (logits)")
