"""Sample images before normalisation: the report's Figures 5 and 8."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from analysis.drawing import style
from analysis.drawing.numbered_cells import axes_at
from analysis.drawing.screens import is_narrow
from analysis.drawing.style import COLOURS
from analysis.drawing.wording import without_middle
from analysis.exhibit import Exhibit

SAMPLES = 10
"""Images shown per class."""
MOST_CLASSES = 20
"""Most classes shown."""
DOTS, NARROW_DOTS = 96, 64
"""About how many dots a side of an image has, on a wide and on a narrow screen."""
MOST_LETTERS = 32
"""Most characters of a class's name shown."""


def show(images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Exhibit:
    """Samples of each class from training images (N, H, W, 3) of bytes; `labels` (N,) are indices of `classes`."""
    table = class_samples(labels, classes)
    figure = draw_samples(table, [images[index] for index in table["index"]])
    text = samples_caption(table, labels, classes)
    note = f"The images are reduced to {DOTS} × {DOTS} pixels, on a narrow screen to {NARROW_DOTS} × {NARROW_DOTS}."
    larger = images.shape[1] > DOTS
    return Exhibit("samples", "Images of each class (Figure 5)", text, table, figure, note=note if larger else "")


def class_samples(labels: np.ndarray, classes: Sequence[str], count: int = SAMPLES) -> pd.DataFrame:
    """The first `count` images of each of the first `MOST_CLASSES` classes: class, place, index.

    Args:
        labels: (N,), indices of `classes`.
        classes: the names.
        count: images per class; a class with fewer shows all of them.
    """
    rows = [
        (name, place, int(index))
        for label, name in enumerate(classes[:MOST_CLASSES])
        for place, index in enumerate(np.flatnonzero(labels == label)[:count])
    ]
    return pd.DataFrame(rows, columns=["class", "place", "index"])


def samples_caption(table: pd.DataFrame, labels: np.ndarray, classes: Sequence[str]) -> str:
    """One sentence: how many images are shown, and how many each class has."""
    counts = np.bincount(labels, minlength=len(classes))
    each = f"{counts.min():,}" if np.ptp(counts) == 0 else f"{counts.min():,} to {counts.max():,}"
    sizes = table.groupby("class").size()
    first = f"The first {sizes.max()}" if np.ptp(sizes) == 0 else f"Up to {sizes.max()}"
    which = (
        f"each of the {len(sizes)} classes" if len(sizes) == len(classes) else f"{len(sizes)} of {len(classes)} classes"
    )
    return (
        f"{first} training images of {which}, as they are before normalisation; a class has {each} of the "
        f"{len(labels):,}."
    )


@style.styled
def draw_samples(table: pd.DataFrame, images: Sequence[np.ndarray]) -> Figure:
    """A row of images for each class.

    Args:
        table: as from `class_samples`.
        images: (H, W, 3), bytes, one for each row of the table.
    """
    names = list(dict.fromkeys(table["class"]))
    # On a narrow screen a class has two rows of images.
    dots, lines = (NARROW_DOTS, 2) if is_narrow() else (DOTS, 1)
    images = [_reduced(image, dots) for image in images]
    side, gap = images[0].shape[0], 2
    scale = round(dots / side)
    across = -(-(int(table["place"].max()) + 1) // lines)
    step = side + gap
    sheet = np.full((lines * len(names) * step - gap, across * step - gap, 3), 255, np.uint8)
    for name, place, image in zip(table["class"], table["place"], images, strict=True):
        top, left = (lines * names.index(name) + place // across) * step, place % across * step
        sheet[top : top + side, left : left + side] = image
    phrases = [without_middle(name, 10 if is_narrow() else MOST_LETTERS) for name in names]
    # A whole number of dots per pixel, at 150 dpi.
    height, width = (length * scale / 150 for length in sheet.shape[:2])
    left = 0.2 + _widest(phrases, 9)
    figure = style.figure(left + width + 0.1, height + 0.2)
    figure.set_layout_engine("none")
    ax = axes_at(figure, left, 0.1, width, height)
    ax.imshow(sheet, interpolation="nearest")
    ax.set(xticks=[])
    ax.set_yticks([place * lines * step + side / 2 for place in range(len(names))], phrases, fontsize=9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    """An image with at most `side` rows and columns."""
    if len(image) <= side:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))


def _widest(names: Sequence[str], size: float) -> float:
    """Width in inches of the widest name, at a font size of `size` points."""
    probe = style.figure(1, 1)
    return max(probe.text(0, 0, name, fontsize=size).get_window_extent().width for name in names) / probe.dpi


def show_image(image: np.ndarray, description: str) -> Exhibit:
    """The image under study (H, W, 3), bytes, with each of its channels."""
    table = image_table(image)
    text = image_caption(table, description)
    return Exhibit("image", "The image under study (Figure 8)", text, table, draw_image(image))


def image_table(image: np.ndarray) -> pd.DataFrame:
    """An image (H, W, 3) of bytes as a table: row, column, red, green, blue."""
    rows, columns = np.indices(image.shape[:2])
    channels = dict(zip(COLOURS, image.reshape(-1, 3).T, strict=True))
    return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), **channels})


def image_caption(table: pd.DataFrame, description: str) -> str:
    """One sentence: the mean of each channel."""
    means = ", ".join(f"{name} {table[name].mean():.0f}" for name in COLOURS)
    return f"Shown is {description}, as it is before normalisation; the channels' means are {means} of 255."


@style.styled
def draw_image(image: np.ndarray) -> Figure:
    """An image (H, W, 3) of bytes, and each of its channels in grey on one scale."""
    columns, side, gap = (2, 1.62, 0.12) if is_narrow() else (4, 2.24, 0.12)
    deep = side + 0.45
    figure = style.figure(columns * side + (columns - 1) * gap + 0.2, 4 // columns * deep)
    figure.set_layout_engine("none")
    for place, name in enumerate(("image", *COLOURS)):
        down, across = divmod(place, columns)
        ax = axes_at(figure, 0.1 + across * (side + gap), 0.3 + down * deep, side, side)
        shown = image if place == 0 else np.repeat(image[..., place - 1 : place], 3, axis=2)
        style.picture(ax, shown)
        ax.set_title(name, fontsize=9)
    return figure
