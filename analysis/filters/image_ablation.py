"""Filter ablation on one image: which filters speak for and against a class, each replaced in turn."""

import math
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import is_narrow
from analysis.drawing.tiles import MARGIN, beside, draw_picture, draw_tile, sheet
from analysis.drawing.wording import minus_signs, number, probability, quoted, without_middle
from analysis.exhibit import Exhibit
from analysis.filters.ablation import NO_EFFECT, REPLACED
from analysis.filters.kernel_pictures import kernel_pictures, slice_pictures, strongest_inputs
from analysis.results.classification import softmax

MOST = 6
"""Most filters shown per layer for a class, and as many against it."""
HEAD, STEP, SIDE, IMAGE = 0.5, 0.5, 0.46, 1.25
"""Inches: over the first row, from row to row, a side of a kernel or a map, and a side of the image."""
LEFT, BARS, EDGE = 0.5, 1.55, 0.2
"""Inches from the left edge of a layer's panel to its kernels, and to its bars; and beside these, for half a number."""
FOR, AGAINST = "#b2182b", "#2166ac"
"""The ends of the diverging scale, as in the ablation of all classes: red is a loss without the filter."""


Pictures = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""The kernels (filters, channels, k, k) of each layer, and its filters' maps (filters, H, W) of the image."""
NOTE = (
    "Left of each bar the filter's kernel and its map of this image after ReLU, each map on its own scale. Of a "
    "second-layer kernel, the slice with the largest norm is drawn."
)


def show(table: pd.DataFrame, pictures: Pictures, *, image: np.ndarray, description: str) -> Exhibit:
    """Which filters speak for and against the class of an image.

    Args:
        table: see `image_effects`.
        pictures: kernels and maps, see `Pictures`.
        image: (H, W, 3), bytes.
        description: which image it is.
    """
    target, text = quoted(table["class"].iloc[0]), caption(table)
    heading = f"Which filters speak for and against {target} in {description}"
    if not table["margin_lost"].any():
        return Exhibit("ablation_image", heading, text, tables={"ablation_image": table})
    figure = draw_image_effects(table, pictures, image=image, description=description)
    return Exhibit("ablation_image", heading, text, table, figure, points=points(table), note=NOTE)


def leading(table: pd.DataFrame, firing: Mapping[str, np.ndarray]) -> dict[str, tuple[int, str]]:
    """The filter of each layer that changes the margin most among those that fire on the image, and why in words.

    Args:
        table: see `image_effects`.
        firing: bool (filters,) by layer. A filter that is silent here may matter too, but its maps show nothing.
    """
    found = {}
    for layer, part in table.groupby("layer", sort=False):
        fires = part[firing[str(layer)][part["filter"]]]
        if not fires["margin_lost"].any():
            continue
        row = fires.iloc[int(fires["margin_lost"].abs().argmax())]
        before, after = _signed(row["margin"]), _signed(row["margin"] - row["margin_lost"])
        change = (
            f"goes from {before} to {after}" if before != after else f"changes by only {abs(row['margin_lost']):.1g}"
        )
        found[str(layer)] = (
            int(row["filter"]),
            "of those that fire on this image the one that changes the margin most: with its map replaced by "
            f"{REPLACED[row['replaced_by']]} the margin of {quoted(row['class'])} {change}.",
        )
    return found


def image_effects(
    logits: np.ndarray, without: Mapping[str, np.ndarray], classes: Sequence[str], target: int, by: str = "mean"
) -> pd.DataFrame:
    """What one class loses in one image without each filter: a row for every layer and filter.

    Args:
        logits: (K,), of the intact network.
        without: (filters, K) by layer, each with one filter's map replaced.
        classes: the K ≥ 2 names.
        target: index of the class in `classes`.
        by: what a map was replaced by, a key of `REPLACED`.

    Returns:
        layer, filter, replaced_by; class, the target; margin, its logit less the largest of the others in the intact
        network, and margin_lost without the filter, negative for a gain; probability and probability_lost; predicted,
        the class that the intact network predicts, and predicted_without.
    """
    margin, probability, predicted = (values[0] for values in _scores(logits[None], target))
    parts = []
    for layer, changed in without.items():
        margins, probabilities, chosen = _scores(changed, target)
        # Changes within rounding count as zero: a silent filter must not be ranked.
        lost = np.where(np.abs(margin - margins) > NO_EFFECT, margin - margins, 0.0)
        parts.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "filter": np.arange(len(changed)),
                    "replaced_by": by,
                    "class": classes[target],
                    "margin": margin,
                    "margin_lost": lost,
                    "probability": probability,
                    "probability_lost": probability - probabilities,
                    "predicted": classes[predicted],
                    "predicted_without": [classes[place] for place in chosen],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _scores(logits: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The margin and probability of the target, and the predicted class, for each row of logits (N, K)."""
    logits = logits.astype(np.float64)
    margin = logits[:, target] - np.delete(logits, target, axis=1).max(axis=1)
    return margin, softmax(logits)[:, target], logits.argmax(axis=1)


def caption(table: pd.DataFrame) -> str:
    """One sentence: the predicted class, and the filter that speaks most for the target."""
    [best] = table.nlargest(1, "margin_lost").to_dict("records")
    target = quoted(best["class"])
    text = (
        f"The image is classified as {quoted(best['predicted'])}, with a margin of {target} over its strongest "
        f"rival of {_signed(best['margin'])} (probability {probability(best['probability'])})"
    )
    by = REPLACED[best["replaced_by"]]
    if best["margin_lost"] <= 0:
        return f"{text}, and no filter speaks for {target} when its map is replaced by {by}."
    outcome = _outcome(best, f"with its map replaced by {by}")
    return f"{text}; filter {best['filter']} of {best['layer']} speaks most for {target}: {outcome}."


def points(table: pd.DataFrame) -> list[str]:
    """One sentence each: the filter most against the target, layers without effect, how many change the answer."""
    [worst] = table.nsmallest(1, "margin_lost").to_dict("records")
    if not table["margin_lost"].any():
        return []
    against = f"Filter {worst['filter']} of {worst['layer']} speaks most against {quoted(worst['class'])}"
    changing = table["margin_lost"].ne(0).groupby(table["layer"], sort=False).any()
    idle = [f"No filter of {layer} changes the margin." for layer in changing.index[~changing]]
    phrases = [f"{against}: {_outcome(worst)}."] if worst["margin_lost"] < 0 else []
    return [*phrases, *idle, _decisive_sentence(table)]


def _decisive_sentence(table: pd.DataFrame) -> str:
    count = int((table["predicted_without"] != table["predicted"]).sum())
    if not count:
        return "No filter decides the answer by itself."
    decide, it = ("decides", "it") if count == 1 else ("decide", "any one of them")
    return f"{count} of the {len(table)} filters {decide} the answer: without {it} the image is classified otherwise."


def _outcome(row: Mapping[Hashable, Any], without: str = "without it") -> str:
    changed = row["predicted_without"] != row["predicted"]
    if abs(row["margin_lost"]) < 0.005 and not changed:
        verb = "falls" if row["margin_lost"] > 0 else "grows"
        return f"{without} the margin {verb} by only {abs(row['margin_lost']):.1g}"
    text = (
        f"{without} the margin is {_signed(row['margin'] - row['margin_lost'])} "
        f"(probability {probability(row['probability'] - row['probability_lost'])})"
    )
    return f"{text}, and the answer {quoted(row['predicted_without'])}" if changed else text


def _signed(value: float) -> str:
    return number(value, 2)


@style.styled
def draw_image_effects(table: pd.DataFrame, pictures: Pictures, *, image: np.ndarray, description: str) -> Figure:
    """The image, and ranked bars for each layer: the six filters most for the class, and the six most against it.

    What is zero to the digits that are written is left out. A layer whose filters change nothing is left out.

    Args:
        table: from `image_effects`.
        pictures: kernels and maps, see `Pictures`.
        image: (H, W, 3), bytes.
        description: which image it is.
    """
    changing = table[table["margin_lost"] != 0]
    layers = {str(layer): _ranked(part) for layer, part in changing.groupby("layer", sort=False)}
    bars = {layer: max(3, len(part)) for layer, part in layers.items()}
    name, by = quoted(without_middle(table["class"].iloc[0], 40)), REPLACED[table["replaced_by"].iloc[0]]
    title = f"Margin of {name} lost (logits) when a filter's map is replaced by {by}"
    narrow = is_narrow()
    if not narrow:
        bars = dict.fromkeys(bars, max(bars.values()))
    deep = [HEAD + count * STEP + 0.5 for count in bars.values()]
    beginning = HEAD + IMAGE + 0.1 if narrow else 0.0
    figure, ax = sheet(style.page_width(), beginning + (sum(deep) if narrow else deep[0]), title)
    draw_picture(ax, image, MARGIN, HEAD, IMAGE, without_middle(description, 24))
    predicted = without_middle(table["predicted"].iloc[0], 14)
    text = f"{textwrap.fill(f'classified as {predicted}', 24)}\nmargin {_signed(table['margin'].iloc[0])}"
    beside_image = (2 * MARGIN + IMAGE, HEAD) if narrow else (MARGIN, HEAD + IMAGE + 0.06)
    ax.text(*beside_image, text, va="top", fontsize=8, color=style.INK)
    across = style.page_width() if narrow else (style.page_width() - IMAGE - 2 * MARGIN) / len(layers)
    limits = _limits(pd.concat(layers.values()), across - BARS - EDGE)
    for place, (layer, part) in enumerate(layers.items()):
        left, top = (0.0, beginning + sum(deep[:place])) if narrow else (MARGIN + IMAGE + place * across, 0.0)
        ax.text(left + LEFT, top, _panel_title(layer, part, int((table["layer"] == layer).sum())), va="top", fontsize=9)
        panel = beside(ax, left + BARS, top + HEAD, across - BARS - EDGE, bars[layer] * STEP)
        _draw_bars(panel, part, bars[layer])
        panel.set(xlim=limits)
        _draw_pictures(ax, part["filter"].tolist(), *pictures[layer], (left + LEFT, top + HEAD))
    return figure


def _draw_pictures(
    ax: Axes, filters: Sequence[int], kernels: np.ndarray, maps: np.ndarray, corner: tuple[float, float]
) -> None:
    """The number, the kernel and the map of each filter, one below the other."""
    colours = kernels.shape[1] == len(style.COLOURS)
    strongest = strongest_inputs(kernels, 1)
    drawn = kernel_pictures(kernels) if colours else slice_pictures(kernels, strongest)
    for place, filter in enumerate(filters):
        left, top = corner[0], corner[1] + place * STEP
        ax.text(left - 0.06, top + SIDE / 2, str(filter), ha="right", va="center", fontsize=8, color=style.INK)
        draw_picture(ax, drawn[filter, 0], left, top, SIDE, "" if place else "kernel")
        scale = style.limits_from_zero(maps[filter]), style.SEQUENTIAL
        draw_tile(ax, maps[filter], left + STEP, top, SIDE, scale, "" if place else "map")


def _panel_title(layer: str, part: pd.DataFrame, filters: int) -> str:
    """The title of a panel: the number of filters shown, and of all."""
    if len(part) == filters:
        return layer
    favouring = int((part["margin_lost"] > 0).sum())
    sides = (("for it", favouring), ("against", len(part) - favouring))
    counts = [f"the {count} most {side}" if count > 1 else f"{count or 'none'} {side}" for side, count in sides]
    return f"{layer}, {filters} filters: {counts[0]},\n{counts[1]}"


def _limits(shown: pd.DataFrame, width: float) -> style.Limits:
    """Limits of an axis of `width` inches: the range of the bars, plus room for their labels."""
    lost = shown["margin_lost"]
    least, most = min(0.0, lost.min()), max(0.0, lost.max())
    changed = shown["predicted_without"] != shown["predicted"]
    wide, number = 0.85 if is_narrow() else 1.15, 0.07 * shown["written"].str.len().max()
    left, right = (wide if changed[side].any() else number if side.any() else 0.0 for side in (lost < 0, lost > 0))
    inch = (most - least) / (width - left - right)
    return least - left * inch, most + right * inch


def _ranked(part: pd.DataFrame) -> pd.DataFrame:
    """The filters of one layer to show, from most for the class to most against it, with their losses as `written`.

    Those under the last digit that is written are left out, as long as they do not decide the answer.
    """
    digits = max(0, 1 - math.floor(math.log10(part["margin_lost"].abs().max())))
    counts = (part["margin_lost"].abs() >= 10**-digits) | (part["predicted_without"] != part["predicted"])
    part = part[counts].assign(written=part["margin_lost"].map(lambda lost: minus_signs(f"{lost:.{digits}f}")))
    ordered = part.sort_values("margin_lost", ascending=False, kind="stable")
    favouring, opposing = (ordered[ordered["margin_lost"] > 0], ordered[ordered["margin_lost"] < 0])
    return pd.concat([favouring.head(MOST), opposing.tail(MOST)])


def _draw_bars(ax: Axes, part: pd.DataFrame, longest: int) -> None:
    lost = part["margin_lost"].to_numpy(float)
    ax.barh(range(len(part)), lost, color=np.where(lost > 0, FOR, AGAINST), height=0.6)
    ax.axvline(0, color="#666666", linewidth=0.7)
    letters = 9 if is_narrow() else 14
    for place, row in enumerate(part.to_dict("records")):
        end, changed = row["margin_lost"], row["predicted_without"] != row["predicted"]
        text = row["written"]
        text += f"\nthen {without_middle(row['predicted_without'], letters)}" if changed else ""
        away, side = (3, "left") if end > 0 else (-3, "right")
        ax.annotate(text, (end, place), (away, 0), textcoords="offset points", va="center", ha=side, fontsize=8)
    ax.set(ylim=(longest - 0.5, -0.5), xlabel="margin lost (logits)", yticks=[])
    ax.spines["left"].set_visible(False)
