"""Filter ablation on one image: which filters speak for and against a class, each replaced in turn."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.wording import without_middle
from analysis.exhibit import Exhibit
from analysis.filters.ablation import NO_EFFECT, REPLACED
from analysis.results.classification import softmax

MOST = 10
"""Most filters shown per layer for a class, and as many against it."""
FOR, AGAINST = "#b2182b", "#2166ac"
"""The ends of the diverging scale, as in the ablation of all classes: red is a loss without the filter."""


def show(
    logits: np.ndarray,
    without: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    label: int | None,
    by: str,
    image: np.ndarray,
    description: str,
) -> Exhibit:
    """Which filters speak for and against the class of an image.

    Args:
        logits: see `image_effects`, as are `without`, `classes` and `by`.
        label: index of the image's class in `classes`; None for the predicted class.
        image: (H, W, 3), bytes.
        description: which image it is.
    """
    target = int(logits.argmax()) if label is None else label
    table = image_effects(logits, without, classes, target, by)
    figure = draw_image_effects(table, image=image, description=description)
    heading = f"Which filters speak for and against {classes[target]} in {description}"
    return Exhibit("ablation_image", heading, caption(table), table, figure, points=points(table))


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
    text = (
        f"The image is classified as {best['predicted']}, with a margin of {best['class']} over its strongest rival of "
        f"{_signed(best['margin'])} (probability {best['probability']:.1%})"
    )
    by = REPLACED[best["replaced_by"]]
    if best["margin_lost"] <= 0:
        return f"{text}, and no filter speaks for {best['class']} when its map is replaced by {by}."
    outcome = _outcome(best, f"with its map replaced by {by}")
    return f"{text}; filter {best['filter']} of {best['layer']} speaks most for {best['class']}: {outcome}."


def points(table: pd.DataFrame) -> list[str]:
    """One sentence each: the filter that speaks most against the target, and how many change the prediction."""
    [worst] = table.nsmallest(1, "margin_lost").to_dict("records")
    if not table["margin_lost"].any():
        return []
    phrases = [f"Filter {worst['filter']} of {worst['layer']} speaks most against {worst['class']}: {_outcome(worst)}."]
    return [*(phrases if worst["margin_lost"] < 0 else []), _decisive_sentence(table)]


def _decisive_sentence(table: pd.DataFrame) -> str:
    count = int((table["predicted_without"] != table["predicted"]).sum())
    if not count:
        return "No filter decides the answer by itself."
    decide, it = ("decides", "it") if count == 1 else ("decide", "any one of them")
    return f"{count} of the {len(table)} filters {decide} the answer: without {it} the image is classified otherwise."


def _outcome(row: Mapping[Hashable, Any], without: str = "without it") -> str:
    text = (
        f"{without} the margin is {_signed(row['margin'] - row['margin_lost'])} "
        f"(probability {row['probability'] - row['probability_lost']:.1%})"
    )
    changed = row["predicted_without"] != row["predicted"]
    return f"{text}, and the answer {row['predicted_without']}" if changed else text


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


@style.styled
def draw_image_effects(table: pd.DataFrame, *, image: np.ndarray, description: str) -> Figure:
    """The image, and ranked bars for each layer: the ten filters most for the class, and the ten most against it.

    Args:
        table: from `image_effects`.
        image: (H, W, 3), bytes.
        description: which image it is.
    """
    layers = {str(layer): _ranked(part) for layer, part in table.groupby("layer", sort=False)}
    longest = max(9, *(len(part) for part in layers.values()))
    figure = style.figure(style.WIDTH, 1.15 + 0.18 * longest)
    axes = figure.subplots(1, 1 + len(layers), width_ratios=[0.55, *[1.0] * len(layers)])
    style.picture(axes[0], image)
    axes[0].set_anchor("N")
    axes[0].set_title(without_middle(description, 30), fontsize=8)
    axes[0].set_xlabel(
        f"taken for {without_middle(table['predicted'].iloc[0], 18)}\nmargin {_signed(table['margin'].iloc[0])}",
        loc="left",
    )
    limits = _limits(pd.concat(layers.values()))
    for ax, (layer, part) in zip(axes[1:], layers.items(), strict=True):
        _draw_bars(ax, part, longest)
        ax.set(title=_panel_title(layer, part, int((table["layer"] == layer).sum())), xlim=limits)
    name, by = without_middle(table["class"].iloc[0], 40), REPLACED[table["replaced_by"].iloc[0]]
    style.head(figure, f"Margin of {name} lost (logits) when a filter's map is replaced by {by}")
    return figure


def _panel_title(layer: str, part: pd.DataFrame, filters: int) -> str:
    """The title of a panel: the number of filters shown, and of all."""
    if len(part) in (0, filters):
        return layer
    favouring = int((part["margin_lost"] > 0).sum())
    return f"{layer}, {filters} filters\nthe {favouring} most for it, the {len(part) - favouring} most against"


def _limits(shown: pd.DataFrame) -> style.Limits:
    """Limits of the axis: the range of the bars, plus room for their labels."""
    lost = shown["margin_lost"]
    least, most = min(0.0, lost.min()), max(0.0, lost.max())
    if least == most:
        return -1.0, 1.0
    changed = shown["predicted_without"] != shown["predicted"]
    left, right = ((most - least) * (0.45 if changed[side].any() else 0.2) for side in (lost < 0, lost > 0))
    return least - left, most + right


def _ranked(part: pd.DataFrame) -> pd.DataFrame:
    """The filters of one layer to show, from most for the class to most against it."""
    ordered = part[part["margin_lost"] != 0].sort_values("margin_lost", ascending=False, kind="stable")
    favouring, opposing = (ordered[ordered["margin_lost"] > 0], ordered[ordered["margin_lost"] < 0])
    return pd.concat([favouring.head(MOST), opposing.tail(MOST)])


def _draw_bars(ax: Axes, part: pd.DataFrame, longest: int) -> None:
    if part.empty:
        style.placeholder(ax, "no filter changes anything")
        return
    lost = part["margin_lost"].to_numpy(float)
    ax.barh(range(len(part)), lost, color=np.where(lost > 0, FOR, AGAINST), height=0.75)
    ax.axvline(0, color="#666666", linewidth=0.7)
    for place, row in enumerate(part.to_dict("records")):
        end, changed = row["margin_lost"], row["predicted_without"] != row["predicted"]
        text = f"{end:#.2g}".rstrip(".").replace("-", "−")
        text += f", then {without_middle(row['predicted_without'], 18)}" if changed else ""
        away, side = (3, "left") if end > 0 else (-3, "right")
        ax.annotate(text, (end, place), (away, 0), textcoords="offset points", va="center", ha=side, fontsize=7)
    ax.set_yticks(range(len(part)), part["filter"])
    ax.set(ylim=(longest - 0.5, -0.5), xlabel="margin lost (logits)", ylabel="filter")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
