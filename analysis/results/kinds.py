"""Confusions of CIFAR-10's classes by kind: within animals, within vehicles, and across."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.drawing.wording import are, counted, listed, model_label, sentence
from analysis.exhibit import Exhibit, joined
from analysis.results.classification import TestPredictions
from analysis.results.confusion import confusion
from analysis.results.proportions import CONFIDENCE, wilson

GROUPS = {
    "animals": ("bird", "cat", "deer", "dog", "frog", "horse"),
    "vehicles": ("airplane", "automobile", "ship", "truck"),
}
KINDS = (*(f"within {group}" for group in GROUPS), "across")
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


def has_groups(classes: Sequence[str]) -> bool:
    """Whether these are CIFAR-10's classes, in any order."""
    return set(classes) == set(_GROUP_OF)


def show(predictions: TestPredictions, classes: Sequence[str]) -> Exhibit:
    """Each model's confusions within animals, within vehicles and across, on the test images."""
    tables = {model: grouped(confusion(*kept, classes)) for model, kept in predictions.items()}
    heading, figure = "Confusions within animals, within vehicles and across", draw_grouped(tables)
    return Exhibit("groups", heading, caption(tables), joined(tables), figure, note=NOTE)


def grouped(table: pd.DataFrame) -> pd.DataFrame:
    """The confusions by kind, with the shares expected by chance.

    Args:
        table: true, predicted, count, see `confusion.confusion`; of CIFAR-10's classes.

    Returns:
        A row for each of `KINDS`: kind, count, share of all confusions, low, high (Wilson's interval), chance. Chance
        is the expected share if each class's mistakes were spread evenly over the other classes, regardless of
        similarity. Without mistakes the shares are NaN.
    """
    wrong = table[table["true"] != table["predicted"]]
    true, predicted = (wrong[column].map(_GROUP_OF) for column in ("true", "predicted"))
    kinds = ("within " + true).where(true == predicted, "across")
    spread = wrong.groupby("true")["count"].transform("mean")
    total = int(wrong["count"].sum())
    counts, even = (values.groupby(kinds).sum().reindex(KINDS) for values in (wrong["count"], spread))
    low, high = wilson(counts.tolist(), [total] * len(KINDS))
    share, chance = (values.to_numpy(float) / total if total else np.nan for values in (counts, even))
    columns = {"kind": KINDS, "count": counts.to_numpy(), "share": share, "low": low, "high": high, "chance": chance}
    return pd.DataFrame(columns)


def caption(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: the shares of each model's confusions by kind, and those expected by chance."""
    phrases = []
    for model, table in tables.items():
        total = int(table["count"].sum())
        if not total:
            phrases.append(f"the {model_label(model)} confuses no classes")
            continue
        rows = table.to_dict("records")
        parts = [f"{row['share']:.0%} {are(total)} {row['kind']} (chance {row['chance']:.0%})" for row in rows]
        phrases.append(f"of the {model_label(model)}'s {counted(total, 'confusion')} {listed(parts)}")
    return sentence("; ".join(phrases))


NOTE = (
    "Chance: each class's mistakes spread evenly over the other classes. "
    f"Animals: {', '.join(GROUPS['animals'])}; vehicles: {', '.join(GROUPS['vehicles'])}."
)


@style.styled
def draw_grouped(tables: dict[str, pd.DataFrame]) -> Figure:
    """A bar with its interval for each kind and model, and a dash at the share expected by chance."""
    figure = style.figure(min(6.5, style.page_width()), 3.6)
    ax = figure.add_subplot()
    width = 0.8 / len(tables)
    for place, (model, table) in enumerate(tables.items()):
        centres = np.arange(len(KINDS)) + width * (place - (len(tables) - 1) / 2)
        share, chance = 100 * table["share"], 100 * table["chance"]
        span = [share - 100 * table["low"], 100 * table["high"] - share]
        words = f"{model_label(model)}, {table['count'].sum():,} confusions"
        ax.bar(centres, share, 0.92 * width, color=style.model_colour(model), label=words)
        ax.errorbar(centres, share, yerr=span, fmt="none", color=style.INK, capsize=3, linewidth=1)
        for centre, value, high in zip(centres, share, 100 * table["high"], strict=True):
            if np.isfinite(value):
                ax.text(centre, high + 1, f"{value:.0f}%", ha="center", va="bottom")
        ax.hlines(chance, centres - 0.46 * width, centres + 0.46 * width, color=style.INK, lw=2, ls=(0, (2, 1)))
    ax.set_xticks(range(len(KINDS)), KINDS)
    ax.margins(y=0.15)
    ax.set(ylabel="share of the model's confusions (%)", title="Confusions within and across kinds")
    handles, _ = ax.get_legend_handles_labels()
    by_chance = Line2D([], [], color=style.INK, lw=2, ls=(0, (2, 1)), label="by chance")
    interval = Line2D([], [], color=style.INK, lw=1, marker="|", label=f"{CONFIDENCE:.0%} interval")
    figure.legend(handles=[*handles, by_chance, interval], loc="outside lower center", ncols=2)
    return figure
