"""Training images that moved the loss of one image most, beside its nearest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import is_narrow
from analysis.drawing.tiles import MARGIN, draw_picture, sheet
from analysis.drawing.wording import counted, listed, minus_signs, number, quoted, without_middle
from analysis.exhibit import Exhibit

SHOWN = 6
"""Training images in each row."""
GROUPS = {"lowered": "lowered its loss most", "raised": "raised its loss most", "nearest": "nearest by {layer}"}
"""The rows of the figure, and their titles."""
CAVEAT = (
    "An earlier check, not repeated here, retrained 60 networks: TracIn explained no more than such nearest neighbours "
    "do. Read them as images on which the last layer was corrected in the same or in the opposite direction, not as "
    "causes."
)
NOTE = (
    "TracIn (Pruthi et al. 2020): the learning rate times the product of the gradients of two losses, the training "
    "image's and this image's, by the last layer's weights, summed over the epochs; above 0 where a step on the "
    "training image lowers this image's loss. The network trains with Adam, whose steps are not quite these. Nearest: "
    "the largest cosine of what the last layer reads, after the last epoch. Images equal to this one are left out."
)
SIDE, ACROSS, DOWN, LEFT = 1.0, 1.22, 1.75, 2.5
"""Inches: the side of a training image, from one to the next, from row to row, and where they begin."""
NARROW_COLUMNS, NARROW_ACROSS, NARROW_DOWN = 3, 1.14, 1.55
"""Images side by side on a narrow screen, and inches from one to the next and from row to row."""
SAME, OTHER = "#0072b2", "#d55e00"
"""Colours of the image's own class and of the others; Okabe and Ito's palette (2008)."""


@dataclass(frozen=True, eq=False)
class Influence:
    """What was measured of sampled training images for one image."""

    image: np.ndarray
    """(H, W, 3), bytes."""
    description: str
    label: int
    """The class whose loss is meant."""
    known: bool
    """Whether that is its true class; otherwise the predicted one."""
    classes: tuple[str, ...]
    epochs: Sequence[int]
    learning_rate: float
    layer: str
    """What the last layer reads, in words."""
    of: int
    """Number of training images but those equal to this image, of which a sample was measured."""
    rows: np.ndarray
    """Rows of the sample in the training images, ascending: (N,), as all that follow."""
    labels: np.ndarray
    images: np.ndarray
    """(N, H, W, 3), bytes."""
    scores: np.ndarray
    """TracIn; above 0: lowered the loss."""
    similarity: np.ndarray
    """Cosine."""
    files: Sequence[str] = ()
    """The paths of their files; empty where they are not known."""


def show(influence: Influence) -> Exhibit:
    """The training images that lowered and raised the loss most, and the nearest."""
    table = leading(influence)
    return Exhibit(
        "influence",
        f"Which training images taught it the answer to {influence.description}?",
        caption(influence, table),
        table,
        draw(influence, table),
        points=[agreement(influence, table), CAVEAT],
        note=NOTE,
    )


def leading(influence: Influence) -> pd.DataFrame:
    """group, place, image (its number among the training images), class, score, cosine; the first of each group first.

    Also file, where the files are known.

    An image whose score has the other sign, or is 0, neither lowered nor raised the loss: a group may be shorter.
    """
    values = {"lowered": influence.scores, "raised": -influence.scores, "nearest": influence.similarity}
    parts = []
    for group, measured in values.items():
        order = np.argsort(-measured, kind="stable")[:SHOWN]
        order = order if group == "nearest" else order[measured[order] > 0]
        columns = {
            "place": range(len(order)),
            "image": influence.rows[order],
            "class": [influence.classes[label] for label in influence.labels[order]],
            "score": influence.scores[order],
            "cosine": influence.similarity[order],
        }
        if influence.files:
            columns["file"] = [influence.files[row] for row in order]
        parts.append(pd.DataFrame({"group": group, **columns}))
    return pd.concat(parts, ignore_index=True)


def caption(influence: Influence, table: pd.DataFrame) -> str:
    """One sentence: how it was measured, and of which classes the images are."""
    measured = len(influence.rows)
    sample = (
        f"{number(measured)} of {number(influence.of)} training images, sampled evenly from each class"
        if measured < influence.of
        else f"all {number(measured)} training images"
    )
    epochs = listed([str(epoch) for epoch in influence.epochs])
    return (
        f"By TracIn with the last layer after epoch{'s' if len(influence.epochs) > 1 else ''} {epochs} (learning rate "
        f"{influence.learning_rate:g}; {sample}), those that lowered the loss of {influence.description} for the "
        f"{'' if influence.known else 'predicted '}class {quoted(influence.classes[influence.label])} most are "
        f"{_classes(table, 'lowered')}, and those that raised it most {_classes(table, 'raised')}; its nearest "
        f"neighbours by {influence.layer} are {_classes(table, 'nearest')}."
    )


def _classes(table: pd.DataFrame, group: str) -> str:
    counts = table.loc[table["group"] == group, "class"].value_counts()
    return listed([f"{count} of class {quoted(str(name))}" for name, count in counts.items()]) or "none"


def agreement(influence: Influence, table: pd.DataFrame) -> str:
    """One sentence: how many of those that lowered or raised the loss are among the nearest as well."""
    places = {group: set(members) for group, members in table.groupby("group")["image"]}
    both = [len(places.get(group, set()) & places["nearest"]) for group in ("lowered", "raised")]
    return (
        f"Of the {counted(len(places['nearest']), 'nearest neighbour')}, {both[0] or 'none'} are among those that "
        f"lowered the loss most and {both[1] or 'none'} among those that raised it most{_correlation(influence)}."
    )


def _correlation(influence: Influence) -> str:
    sizes = np.abs(influence.scores)
    if np.ptp(sizes) == 0 or np.ptp(influence.similarity) == 0:
        return ""
    correlation = np.corrcoef(sizes, influence.similarity)[0, 1]
    return f"; over all measured images the size of the score and the cosine correlate {number(correlation, 2)}"


@style.styled
def draw(influence: Influence, table: pd.DataFrame) -> Figure:
    """The image, and a row for each group; the arguments are those of `caption`."""
    name = influence.classes[influence.label]
    kind = "" if influence.known else "predicted "
    title = f"Training images that moved the loss of {influence.description} for the {kind}class {name}"
    if is_narrow():
        side, start, left, key = 1.3, 2.35, MARGIN, (1.5, 0.5)
        deep = 0.25 + -(-SHOWN // NARROW_COLUMNS) * NARROW_DOWN
    else:
        side, start, left, key, deep = 2.0, 0.45, LEFT, (MARGIN, 2.6), DOWN
    figure, ax = sheet(style.page_width(), start - 0.15 + len(GROUPS) * deep, title)
    draw_picture(ax, influence.image, MARGIN, 0.45, side, without_middle(influence.description, 28))
    for colour, text, line in ((SAME, f"{kind}class {name}", 0), (OTHER, "another class", 1)):
        ax.text(key[0], key[1] + 0.2 * line, without_middle(text, 30), va="top", fontsize=8, color=colour)
    for line, (group, group_title) in enumerate(GROUPS.items()):
        top = start + line * deep
        heading = group_title.format(layer=influence.layer)
        ax.text(left, top - 0.22, heading, va="bottom", fontsize=9, fontweight="bold", color=style.INK)
        _draw_images(ax, influence, table[table["group"] == group], (left, top))
    return figure


def _draw_images(ax: Axes, influence: Influence, members: pd.DataFrame, corner: tuple[float, float]) -> None:
    """The training images of a group, with class and score, or cosine for the nearest."""
    columns, across = (NARROW_COLUMNS, NARROW_ACROSS) if is_narrow() else (SHOWN, ACROSS)
    if members.empty:
        ax.text(corner[0], corner[1] + 0.1, "none", va="top", fontsize=8, color=style.QUIET)
    own = influence.classes[influence.label]
    for row in members.to_dict("records"):
        left = corner[0] + row["place"] % columns * across
        top = corner[1] + row["place"] // columns * NARROW_DOWN
        picture = influence.images[np.searchsorted(influence.rows, row["image"])]
        draw_picture(ax, picture, left, top, SIDE, f"train:{row['image']}")
        nearest = row["group"] == "nearest"
        value = f"cosine {number(row['cosine'], 2)}" if nearest else minus_signs(f"{row['score']:+#.2g}")
        label, colour = without_middle(row["class"], 13 if is_narrow() else 16), SAME if row["class"] == own else OTHER
        ax.text(left, top + SIDE + 0.05, f"{label}\n{value}", va="top", fontsize=8, color=colour)
