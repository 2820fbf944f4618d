"""How the answers bear changes of the image: moved, brighter, less contrast, noisy, blurred; and the reason."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, panels
from analysis.drawing.wording import listed, model_label, number
from analysis.exhibit import Exhibit
from analysis.results.proportions import wilson

HEADING = "Does a moved image keep its answer?"
SHIFT = 4
"""Pixels of the shift that the text is about."""
UNITS = {
    "brightness": ("brightness", "factor"),
    "contrast": ("contrast", "factor"),
    "noise": ("Gaussian noise", "σ, share of the range"),
    "blur": ("Gaussian blur", "σ, pixels"),
}
"""The changes beside moving: what they are called, and what their strength is."""
LAYERS = {"relu1": "first layer, ReLU", "pool1": "first layer, pooled", "pool2": "second layer, pooled"}
FILL_LINES: Any = {"edge": "-", "grey": ":"}
FILL_WORDS = {"edge": "the edge repeated", "grey": "grey"}
MAP_COLOURS = ("#08306b", "#2171b5", "#6baed6")
NOTE = (
    "Shares of a class-balanced sample of test images; bands: Wilson's 95% interval. Each image is moved in one of "
    "four directions; the border that opens repeats the edge, or (dotted) is grey. A map moves along if the map of "
    "the moved image is the map of the unmoved image, moved: compared at units whose field lies inside both images, "
    "for shifts by whole units."
)


def show(changes: pd.DataFrame, epochs: pd.DataFrame, maps: pd.DataFrame) -> Exhibit:
    """Accuracy and unchanged answers under every change, the models side by side, and why a moved image loses them.

    Args:
        changes: model, change, fill, strength, images, accuracy, unchanged.
        epochs: model, epoch, change, strength, images, accuracy, unchanged, at a medium strength of each change.
        maps: layer, pixels, cosine_in_place, cosine_along, difference_along, unchanged, unchanged_back; empty for
            a network without maps.
    """
    table = with_intervals(changes)
    return Exhibit(
        "sensitivity",
        HEADING,
        caption(table),
        table,
        draw(table, epochs, maps),
        points=points(table, epochs, maps),
        note=NOTE,
        tables={"sensitivity_epochs": epochs, **({"sensitivity_maps": maps} if len(maps) else {})},
    )


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the bounds of each share: accuracy_low, accuracy_high, unchanged_low, unchanged_high."""
    table = table.copy()
    for share in ("accuracy", "unchanged"):
        hits = (table[share] * table["images"]).round().astype(int)
        table[f"{share}_low"], table[f"{share}_high"] = wilson(hits.tolist(), table["images"].tolist())
    return table


def caption(table: pd.DataFrame) -> str:
    """One sentence: what a shift costs each model, and whether that is invariance."""
    parts, shares = [], {}
    for model, part in table[table["change"] == "moved"].groupby("model", sort=False):
        clean, far = _at(part, 0), _at(part, SHIFT)
        shares[model] = far
        parts.append(
            f"the {model_label(model)} keeps {far['unchanged']:.0%} of its answers, and its accuracy goes from "
            f"{clean['accuracy']:.1%} to {far['accuracy']:.1%}"
        )
    return f"For images moved by {SHIFT} pixels {'; '.join(parts)}: {_verdict(shares)}."


def _verdict(shares: dict[Any, pd.Series]) -> str:
    """Whether the CNN is invariant, and whether it is more so than the other model."""
    if "cnn" not in shares:
        return "it is not invariant to translation" if _is_far(shares) else "few answers change"
    cnn = shares["cnn"]
    if cnn["unchanged"] >= 0.95:
        return "the CNN is nearly invariant to translation"
    others = [far for model, far in shares.items() if model != "cnn"]
    if not others:
        return "the CNN is not invariant to translation"
    other = others[0]
    if cnn["unchanged_low"] > other["unchanged_high"]:
        return "the CNN is not invariant to translation, but bears it better"
    if cnn["unchanged_high"] < other["unchanged_low"]:
        return "the CNN is not invariant to translation, and bears it worse"
    return "the CNN is not invariant to translation, nor are its answers measurably steadier than those of the other"


def _is_far(shares: dict[Any, pd.Series]) -> bool:
    return any(far["unchanged"] < 0.95 for far in shares.values())


def _at(part: pd.DataFrame, strength: float, fill: str = "edge") -> pd.Series:
    """The row of moved images at this strength."""
    return part[(part["strength"] == strength) & (part["fill"] == fill)].iloc[0]


def points(table: pd.DataFrame, epochs: pd.DataFrame, maps: pd.DataFrame) -> list[str]:
    """The reason, the fill of the border, the other changes, and the epochs; a sentence each."""
    return [*_reason(maps), *_fills(table), *_other_changes(table), *_over_epochs(epochs)]


def _reason(maps: pd.DataFrame) -> Iterable[str]:
    """Maps move along, the linear layer does not: with the measured numbers."""
    if not len(maps):
        return
    along = maps.dropna(subset="cosine_along")
    if len(along):
        largest = along["difference_along"].max()
        how = f"the moved map to within {largest:.1g} of its largest value" if largest else "exactly the moved map"
        yield (
            f"Maps move along: inside, the map of the moved image is {how}, in all {len(along)} combinations "
            "of a layer and a shift by whole units."
        )
    last = maps[maps["layer"] == "pool2"].dropna(subset="unchanged_back")
    if len(last):
        row = last.iloc[(last["pixels"] - SHIFT).abs().argmin()]
        rest = " What still changes is due to the border." if row["unchanged_back"] < 1 else ""
        yield (
            f"The linear layer reads fixed positions: there, moved by {row['pixels']:.0f} pixels, the cosine of the "
            f"second layer's maps with the unmoved ones is {number(row['cosine_in_place'], 2)}, and "
            f"{row['unchanged']:.0%} of the answers stay; with the same maps moved back before that layer, "
            f"{row['unchanged_back']:.0%}.{rest}"
        )


def _fills(table: pd.DataFrame) -> Iterable[str]:
    moved = table[table["change"] == "moved"]
    moved = moved[moved["strength"] == moved["strength"].max()]
    for model, part in moved.groupby("model", sort=False):
        shares = [f"{row['accuracy']:.1%} with {FILL_WORDS[row['fill']]}" for _, row in part.iterrows()]
        name, pixels = model_label(model), number(part["strength"].iloc[0])
        yield f"Moved by {pixels} pixels, the {name} is right in {listed(shares)}."


def _other_changes(table: pd.DataFrame) -> Iterable[str]:
    """The lowest accuracy under each other change, for the models side by side."""
    for change, (name, unit) in UNITS.items():
        part = table[table["change"] == change]
        phrases = [_lowest(str(model), rows) for model, rows in part.groupby("model", sort=False)]
        yield f"{name[0].upper()}{name[1:]} ({unit}): {listed(phrases)}{_overtaken(part)}."


def _lowest(model: str, part: pd.DataFrame) -> str:
    """The lowest accuracy of a model at the strengths of one change; the image as it is has the largest `unchanged`."""
    worst, clean = part.iloc[int(part["accuracy"].argmin())], part.iloc[int(part["unchanged"].argmax())]
    if worst["accuracy"] >= clean["accuracy"]:
        return f"the {model_label(model)}'s accuracy is nowhere below {clean['accuracy']:.1%}"
    return f"the {model_label(model)} falls to {worst['accuracy']:.1%} at {worst['strength']:g}"


def _overtaken(part: pd.DataFrame) -> str:
    """Where the FFNN is the more accurate one, by intervals that do not overlap."""
    low, high = (
        part.pivot_table(index="strength", columns="model", values=f"accuracy_{end}") for end in ("low", "high")
    )
    if not {"cnn", "ffnn"} <= set(low):
        return ""
    ahead = low.index[low["ffnn"] > high["cnn"]]
    return f"; the FFNN is the more accurate at {listed([f'{strength:g}' for strength in ahead])}" if len(ahead) else ""


def _over_epochs(epochs: pd.DataFrame) -> Iterable[str]:
    for model, part in epochs[epochs["change"] == "moved"].groupby("model", sort=False):
        part = part[part["epoch"] > 0]
        if part["epoch"].nunique() > 1:
            first, last = part.iloc[part["epoch"].argmin()], part.iloc[part["epoch"].argmax()]
            yield (
                f"Over training, the share of answers that stay at a shift by {first['strength']:g} pixels goes from "
                f"{first['unchanged']:.0%} (epoch {first['epoch']}) to {last['unchanged']:.0%} (epoch "
                f"{last['epoch']}) in the {model_label(model)}."
            )


@style.styled
def draw(table: pd.DataFrame, epochs: pd.DataFrame, maps: pd.DataFrame) -> Figure:
    """Curves of every change, and why a moved image loses its answer; arguments as of `show`, with intervals."""
    figure, axes = panels(style.WIDTH, 5.6, 2, 4, by_row=True)
    style.head(figure, f"How the answers bear changes of the image ({table['images'].iloc[0]:,} test images)")
    moved = table[table["change"] == "moved"]
    _draw_curves(axes[0, 0], moved, "accuracy", "moved: accuracy", "pixels")
    _draw_curves(axes[0, 1], moved, "unchanged", "moved: unchanged", "pixels")
    _draw_maps(axes[0, 2], maps)
    _draw_epochs(axes[0, 3], epochs)
    for ax, (change, (name, unit)) in zip(axes[1], UNITS.items(), strict=True):
        _draw_curves(ax, table[table["change"] == change], "accuracy", f"{name}: accuracy", unit)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=entries_in_row(len(labels)))
    return figure


def _draw_curves(ax: Axes, table: pd.DataFrame, share: str, title: str, unit: str) -> None:
    for (model, fill), part in table.groupby(["model", "fill"], sort=False):
        colour, line = style.model_colour(str(model)), FILL_LINES.get(fill, "-")
        label = f"{model_label(model)}, {FILL_WORDS[str(fill)]}" if fill else model_label(model)
        if line == "-":
            ax.fill_between(
                part["strength"], 100 * part[f"{share}_low"], 100 * part[f"{share}_high"], color=colour, alpha=0.15,
                linewidth=0,
            )  # fmt: skip
        ax.plot(part["strength"], 100 * part[share], line, marker="o", markersize=3, color=colour, label=label)
    _finish(ax, title, unit)


def _finish(ax: Axes, title: str, unit: str) -> None:
    ax.set(title=title, xlabel=unit, ylim=(0, 103))
    ax.yaxis.set_major_formatter("{x:.0f}%")
    ax.grid(True, axis="y")
    ax.title.set_fontsize(9)


def _draw_maps(ax: Axes, maps: pd.DataFrame) -> None:
    if not len(maps):
        style.placeholder(ax, "no maps:\nno convolution")
        return
    for (layer, name), colour in zip(LAYERS.items(), MAP_COLOURS, strict=True):
        part = maps[maps["layer"] == layer]
        ax.plot(part["pixels"], part["cosine_along"], "o", color=colour, markersize=4)
        ax.plot(part["pixels"], part["cosine_in_place"], color=colour, label=name)
    ax.set(title="maps: • along, – in place", xlabel="pixels", ylabel="cosine with unmoved", ylim=(0, 1.05))
    ax.title.set_fontsize(9)
    ax.legend(fontsize=8, loc="lower left")
    ax.grid(True, axis="y")


def _draw_epochs(ax: Axes, epochs: pd.DataFrame) -> None:
    moved = epochs[epochs["change"] == "moved"]
    for model, part in moved.groupby("model", sort=False):
        ax.plot(part["epoch"], 100 * part["unchanged"], "-o", markersize=3, color=style.model_colour(str(model)))
    _finish(ax, f"unchanged at {_pixels(moved)} pixels", "epoch")
    style.tick_epochs(ax, _whole(moved["epoch"]))


def _pixels(moved: pd.DataFrame) -> str:
    return f"{moved['strength'].iloc[0]:g}" if len(moved) else str(SHIFT)


def _whole(epochs: Iterable[Any]) -> Sequence[int]:
    return sorted({int(epoch) for epoch in np.asarray(list(epochs))})
