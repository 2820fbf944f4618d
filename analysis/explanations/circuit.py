"""The circuit of one decision: which filters, where, made the margin of one class over another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from analysis.drawing import style
from analysis.drawing.tiles import MARGIN, beside, draw_picture, sheet
from analysis.drawing.wording import number, without_middle
from analysis.exhibit import Exhibit
from analysis.filters.kernel_pictures import kernel_pictures, slice_pictures, strongest_inputs

MOST = 6
"""Filters shown of each layer."""
MOST_RIVALS = 12
"""Most classes for which the strip of rivals is drawn."""
FOR, AGAINST = "#b2182b", "#2166ac"
NAMES = {"conv1": "First layer", "conv2": "Second layer"}
HEAD, STEP, SIDE, IMAGE, WATERFALL = 0.95, 0.74, 0.62, 1.55, 1.5
"""Inches: above the first row, from row to row, a side of a tile and of the image, and the waterfall's height."""
LEFT = {"conv1": 1.95, "conv2": 6.35}
"""Where each layer's columns begin."""
PLACE, WORDS, STRIP, END = 0.68, 1.36, 1.92, 3.05
"""From there to the map, to the share, to the strip of rivals and to its end."""
NOTE = (
    "DeepSHAP: pixels, filters of either layer and links between them each sum to the margin less its mean over the "
    "background images. The second layer's shares are exact (the last layer is linear in its maps). Red speaks for "
    "the class, blue for its rival; each map's color is as strong as its share, on one scale per layer. The small "
    "cells give the filter's share for the class against every other class. Of a second-layer kernel, the slice with "
    "the largest norm is drawn."
)


@dataclass(frozen=True, eq=False)
class Decision:
    """The margin of one class over another in one image, and the shares that it consists of."""

    image: np.ndarray
    """(H, W, 3), bytes."""
    description: str
    classes: Sequence[str]
    chosen: int
    """Number of the class that positive shares speak for."""
    rival: int
    probabilities: np.ndarray
    """(classes,)."""
    margin: float
    mean_margin: float
    """Of the background images."""
    background: int
    """Number of background images."""
    pixels: np.ndarray
    """Shares (H, W)."""
    places: Mapping[str, np.ndarray]
    """Shares (filters, H, W), by layer."""
    against: Mapping[str, np.ndarray]
    """Shares (classes, filters) in the margin over each class, by layer."""
    links: np.ndarray
    """Shares (first layer's filters, second layer's)."""
    kernels: Mapping[str, np.ndarray]
    """(filters, channels, k, k), by layer."""

    @property
    def explained(self) -> float:
        """What pixels, filters and links each sum to."""
        return self.margin - self.mean_margin

    def shares(self, layer: str) -> np.ndarray:
        """The shares (filters,) in the margin over the rival."""
        return self.against[layer][self.rival]

    def leading(self, layer: str) -> list[int]:
        """The `MOST` filters with the largest shares, either way, from most for the class to most against it."""
        shares = self.shares(layer)
        largest = [filter for filter in np.argsort(-np.abs(shares), kind="stable")[:MOST] if shares[filter]]
        return sorted(map(int, largest), key=lambda filter: -shares[filter])


def show(decision: Decision, name: str = "circuit") -> Exhibit:
    """The circuit of a decision."""
    chosen, rival = decision.classes[decision.chosen], decision.classes[decision.rival]
    return Exhibit(
        name,
        f"Which filters, and where, made {decision.description} {chosen} rather than {rival}?",
        caption(decision),
        shares_table(decision),
        draw(decision),
        points=points(decision),
        note=NOTE,
        tables={f"{name}_links": links_table(decision), f"{name}_pixels": pixels_table(decision)},
    )


def shares_table(decision: Decision) -> pd.DataFrame:
    """The shares: layer, filter, for, against, share; a row for each filter and rival."""
    parts = [
        pd.DataFrame(
            {
                "layer": layer,
                "filter": np.arange(shares.shape[1]),
                "for": decision.classes[decision.chosen],
                "against": decision.classes[rival],
                "share": shares[rival],
            }
        )
        for layer, shares in decision.against.items()
        for rival in (decision.rival, *range(len(shares)))
        if rival != decision.chosen
    ]
    return pd.concat(parts, ignore_index=True).drop_duplicates(["layer", "filter", "against"], ignore_index=True)


def links_table(decision: Decision) -> pd.DataFrame:
    """The links: conv1, conv2, share; those with a share."""
    first, second = np.nonzero(decision.links)
    return pd.DataFrame({"conv1": first, "conv2": second, "share": decision.links[first, second]})


def pixels_table(decision: Decision) -> pd.DataFrame:
    """The pixels: row, column, share."""
    rows, columns = np.indices(decision.pixels.shape)
    return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), "share": decision.pixels.ravel()})


def caption(decision: Decision) -> str:
    """One sentence: the margin, what of it the shares explain, and the filter with the largest share."""
    chosen, rival = decision.classes[decision.chosen], decision.classes[decision.rival]
    text = (
        f"The margin of {chosen} ({decision.probabilities[decision.chosen]:.1%}) over {rival} "
        f"({decision.probabilities[decision.rival]:.1%}) is {signed(decision.margin)} logits, "
        f"{signed(decision.mean_margin)} in the mean of {decision.background} training images"
    )
    leading = decision.leading("conv2")
    if not leading:
        return f"{text}; no filter of the second layer makes a difference."
    shares = decision.shares("conv2")
    most, least = leading[0], leading[-1]
    return (
        f"{text}: of the difference, {signed(decision.explained)}, filter {most} of the second layer contributes "
        f"{signed(shares[most])} and filter {least} {signed(shares[least])}."
    )


def points(decision: Decision) -> list[str]:
    """One sentence each: the largest link, how much depends on the rival, and silent filters."""
    first, second = np.unravel_index(np.abs(decision.links).argmax(), decision.links.shape)
    sentences = []
    if decision.links[first, second]:
        share = signed(decision.links[first, second])
        sentences.append(f"The largest link, {share}, runs from filter {first} of conv1 to filter {second} of conv2.")
    sentences += filter(None, [_rival_sentence(decision, layer) for layer in decision.against])
    silent = int((~decision.against["conv2"].any(axis=0)).sum())
    total = decision.against["conv2"].shape[1]
    if silent:
        sentences.append(f"{silent} of the {total} second-layer filters contribute exactly 0: they are silent here.")
    return sentences


def _rival_sentence(decision: Decision, layer: str) -> str:
    """The filter of a layer that speaks both for and against the class, depending on the rival, the most."""
    shares = np.delete(decision.against[layer], decision.chosen, axis=0)
    rivals = np.delete(np.arange(len(decision.classes)), decision.chosen)
    both = np.minimum(shares.max(axis=0), -shares.min(axis=0))
    filter = int(both.argmax())
    if both[filter] <= 0:
        return ""
    most, least = shares[:, filter].argmax(), shares[:, filter].argmin()
    chosen = decision.classes[decision.chosen]
    return (
        f"The answer depends on the rival: filter {filter} of {layer} gives {chosen} "
        f"{signed(shares[most, filter])} against {decision.classes[rivals[most]]} and "
        f"{signed(shares[least, filter])} against {decision.classes[rivals[least]]}."
    )


def signed(value: SupportsFloat) -> str:
    """A share with two decimals and its sign."""
    text = number(float(value), 2)
    return text if text.startswith("−") or text == "0.00" else f"+{text}"


@style.styled
def draw(decision: Decision) -> Figure:
    """The image and its pixels, the leading filters of both layers with their links, and the waterfall."""
    chosen, rival = (without_middle(decision.classes[place], 20) for place in (decision.chosen, decision.rival))
    title = f"{chosen} rather than {rival}: the margin above the mean, {signed(decision.explained)} logits, divided"
    below = HEAD + MOST * STEP + 0.35
    figure, ax = sheet(style.WIDTH, below + WATERFALL + 0.45, title)
    ax.text(MARGIN, 0.06, f"Red speaks for {chosen}, blue for {rival}.", va="top", fontsize=8, color=style.QUIET)
    draw_picture(ax, decision.image, MARGIN, HEAD, IMAGE, without_middle(decision.description, 24))
    limit = float(np.abs(decision.pixels).max())
    _place(ax, decision, decision.pixels, (MARGIN, HEAD + IMAGE + 0.4, IMAGE), limit)
    words = f"its pixels, sum {signed(float(decision.pixels.sum()))}"
    ax.text(MARGIN, HEAD + IMAGE + 0.37, words, va="bottom", fontsize=8)
    shown = {layer: decision.leading(layer) for layer in decision.against}
    for layer, filters in shown.items():
        _draw_layer(ax, decision, layer, filters)
    _draw_links(ax, decision, shown)
    bottom = beside(ax, 0.75, below, style.WIDTH - 0.95, WATERFALL)
    _draw_waterfall(bottom, decision, shown["conv2"])
    return figure


def _draw_layer(ax: Axes, decision: Decision, layer: str, filters: Sequence[int]) -> None:
    """The rows of a layer: kernel, place, share and strip of rivals of each filter."""
    left, kernels, shares = LEFT[layer], decision.kernels[layer], decision.shares(layer)
    colours = kernels.shape[1] == len(style.COLOURS)
    pictures = kernel_pictures(kernels) if colours else slice_pictures(kernels, strongest_inputs(kernels, 1))
    ax.text(left, 0.3, NAMES[layer], va="top", fontsize=9, color=style.INK)
    ax.text(left, 0.48, "kernel · where it counts · share", va="top", fontsize=7, color=style.QUIET)
    limit = float(np.abs(decision.places[layer]).max())
    for place, filter in enumerate(filters):
        top = HEAD + place * STEP
        draw_picture(ax, pictures[filter, 0], left, top, SIDE)
        _place(ax, decision, decision.places[layer][filter], (left + PLACE, top, SIDE), limit)
        colour = FOR if shares[filter] > 0 else AGAINST
        ax.text(left + WORDS, top + 0.2, f"filter {filter}", va="center", fontsize=8, color=style.INK)
        ax.text(left + WORDS, top + 0.4, signed(shares[filter]), va="center", fontsize=9, color=colour)
    _draw_strips(ax, decision, layer, filters)
    rest = np.delete(shares, filters)
    words = f"the other {len(rest)}: {signed(rest.sum())};  sum {signed(shares.sum())}"
    ax.text(left, HEAD + len(filters) * STEP + 0.02, words, va="top", fontsize=8, color=style.QUIET)


def _draw_strips(ax: Axes, decision: Decision, layer: str, filters: Sequence[int]) -> None:
    """A row of cells for each filter: its share for the class against every other one."""
    rivals = [place for place in range(len(decision.classes)) if place != decision.chosen]
    if len(rivals) > MOST_RIVALS:
        return
    values, left = decision.against[layer], LEFT[layer] + STRIP
    width = (END - STRIP) / len(rivals)
    limits = style.limits_around_zero(values[:, filters])
    for column, rival in enumerate(rivals):
        middle, bold = left + (column + 0.5) * width, "bold" if rival == decision.rival else "normal"
        name = without_middle(decision.classes[rival], 10)
        ax.text(middle, HEAD - 0.04, name, rotation=90, ha="center", va="bottom", fontsize=6.5, fontweight=bold)
    for place, filter in enumerate(filters):
        top = HEAD + place * STEP + 0.2
        row = values[rivals, filter][None]
        extent = (left, left + width * len(rivals), top + 0.22, top)
        ax.imshow(row, cmap=style.DIVERGING, vmin=limits[0], vmax=limits[1], extent=extent, aspect="auto")
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


def _draw_links(ax: Axes, decision: Decision, shown: Mapping[str, Sequence[int]]) -> None:
    """Bands between the filters that are shown, as wide as the link's share is large."""
    left, right = LEFT["conv1"] + END + 0.05, LEFT["conv2"] - 0.05
    first, second = shown["conv1"], shown["conv2"]
    links = decision.links[np.ix_(first, second)]
    largest = float(np.abs(links).max(initial=0)) or 1
    bend = (right - left) / 2
    for (i, j), share in sorted(np.ndenumerate(links), key=lambda item: abs(item[1])):
        start, end = (HEAD + place * STEP + SIDE / 2 for place in (i, j))
        curve = Path([(left, start), (left + bend, start), (right - bend, end), (right, end)], [1, 4, 4, 4])
        colour = FOR if share > 0 else AGAINST
        width = 9 * abs(float(share)) / largest
        ax.add_patch(PathPatch(curve, facecolor="none", edgecolor=colour, linewidth=width, alpha=0.5))
    middle = (left + right) / 2
    words = f"links between them:\n{signed(links.sum())} of {signed(decision.links.sum())}"
    ax.text(middle, 0.3, words, va="top", ha="center", fontsize=8, color=style.INK)


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
    ax.bar(range(len(labels)), heights, bottom=bottoms, color=[style.QUIET, *inner, style.INK], width=0.6)
    for place, (height, bottom) in enumerate(zip(heights, bottoms, strict=True)):
        top = max(bottom, bottom + height)
        ax.annotate(signed(height), (place, top), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    ax.axhline(0, color="#666666", linewidth=0.7)
    ax.margins(y=0.18)
    ax.set(xticks=range(len(labels)), ylabel="margin (logits)")
    ax.set_xticklabels(labels)
