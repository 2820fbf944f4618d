"""Precision and recall of each class: which classes are hard."""

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, is_narrow, label_first, panels
from analysis.drawing.wording import all_quoted, first_few, model_label, several
from analysis.exhibit import Exhibit, joined
from analysis.results import leads
from analysis.results.classification import TestPredictions, class_counts
from analysis.results.intervals import readable
from analysis.results.proportions import CONFIDENCE, wilson

MEASURES = {
    "recall": "share of the class's images taken for it",
    "precision": "share of the images taken for the class that are of it",
}
MOST_SHOWN = 30
"""Most classes in the figure; with more classes, half of these are the easiest and half the hardest."""
LINE, NARROW_LINE = 32, 14
"""Characters after which the name of a class is wrapped, and on a narrow screen."""


NOTE = f"{leads.NOTE} Before the draws half an image that is right and half one that is wrong are added to each class."


def show(predictions: TestPredictions, classes: Sequence[str]) -> Exhibit:
    """Precision and recall of each class, on the test images."""
    tables = {model: per_class(*kept, classes) for model, kept in predictions.items()}
    heading, figure, shown = "How hard each class is", draw_per_class(tables), side_by_side(tables)
    return Exhibit("classes", heading, caption(tables), joined(tables), figure, shown, note=NOTE)


def per_class(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Measures of each class: class, support, predicted, recall, precision, f1, bounds of both shares, leads, trails.

    `support` is the number of images of the class, `predicted` that of the images predicted as it; ``recall_low`` …
    ``precision_high`` are Wilson's intervals. Recall of a class without images, and precision of a class never
    predicted, are NaN. `leads` and `trails` are the shares of parametric bootstrap resamples in which the class has the
    highest and the lowest recall, see `leads`.

    Args:
        logits: (N, K).
        labels: (N,), indices of `classes`.
        classes: the K names.
    """
    hits, sizes, taken = class_counts(logits, labels)
    table = pd.DataFrame({"class": classes, "support": sizes, "predicted": taken})
    for measure, totals in (("recall", sizes), ("precision", taken)):
        table[measure] = np.divide(hits, totals, out=np.full(len(hits), np.nan), where=totals > 0)
        table[f"{measure}_low"], table[f"{measure}_high"] = wilson(hits.tolist(), totals.tolist())
    both = sizes + taken
    # With half an image more on either side (Jeffreys), since a recall of 1 of few images would never vary.
    chances = (hits + 0.5) / (sizes + 1)
    drawn = np.random.default_rng(0).binomial(sizes, chances, (leads.RESAMPLES, len(sizes)))
    resampled = drawn / np.where(sizes, sizes, np.nan)
    return table.assign(
        f1=np.divide(2 * hits, both, out=np.full(len(hits), np.nan), where=both > 0),
        leads=leads.lead_shares(resampled),
        trails=leads.lead_shares(-resampled),
    )


def side_by_side(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The `per_class` tables formatted for the page: class, images, each model's recall and precision with bounds."""
    first = next(iter(tables.values()))
    columns = {
        f"{model_label(model)} {measure}": [
            readable(numbers)
            for numbers in table[[measure, f"{measure}_low", f"{measure}_high"]].itertuples(index=False, name=None)
        ]
        for model, table in tables.items()
        for measure in MEASURES
    }
    return pd.DataFrame({"class": first["class"], "images": first["support"], **columns})


def caption(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: each model's hardest and easiest class by recall, and the classes with undefined measures."""
    phrases = []
    for model, table in tables.items():
        defined = table.dropna(subset="recall")
        hardest, easiest = (
            defined[defined["recall"] == end] for end in (defined["recall"].min(), defined["recall"].max())
        )
        if len(defined) and len(hardest) == len(defined):
            phrases.append(f"{model_label(model)}: {_classes_phrase(defined)}")
        elif len(defined):
            phrases.append(f"{model_label(model)}: {_ends_phrase(defined, hardest, easiest)}")
        never = list(table.loc[table["precision"].isna(), "class"])
        if never:
            phrases.append(f"{model_label(model)} never predicts {first_few(all_quoted(never))} (precision undefined)")
    missing = next((list(table.loc[table["support"] == 0, "class"]) for table in tables.values()), [])
    if missing:
        phrases.append(f"recall is undefined without images: {first_few(all_quoted(missing))}")
    return f"{'; '.join(phrases)}."


def _ends_phrase(defined: pd.DataFrame, hardest: pd.DataFrame, easiest: pd.DataFrame) -> str:
    """The hardest and the easiest classes with those tied with them, or that the images do not tell these apart."""
    low, high = _tied(defined, hardest, "trails"), _tied(defined, easiest, "leads")
    if {*hardest["class"]} & {*high} or {*easiest["class"]} & {*low}:
        return f"from {_classes_phrase(hardest)} to {_classes_phrase(easiest)}, which the images do not tell apart"
    ties = [leads.tie_clause(all_quoted(names)) for names in (low, high)]
    return f"hardest {_classes_phrase(hardest)}{ties[0]}, and easiest {_classes_phrase(easiest)}{ties[1]}"


def _tied(defined: pd.DataFrame, rows: pd.DataFrame, column: str) -> list[str]:
    also = leads.tied(defined[column].to_numpy(), np.flatnonzero(defined.index.isin(rows.index)).tolist())
    return [str(name) for name in defined["class"].iloc[also]]


def _classes_phrase(rows: pd.DataFrame) -> str:
    """The tied classes and their recall; a single class also has its interval, which depends on its support."""
    columns = ["recall", "recall_low", "recall_high"] if len(rows) == 1 else ["recall"]
    return f"{several(all_quoted(rows['class']))} with recall {readable(rows[columns].iloc[0].to_list())}"


@style.styled
def draw_per_class(tables: dict[str, pd.DataFrame]) -> Figure:
    """Recall and precision of each class and model with intervals, the easiest class on top."""
    shown = _shown(tables)
    support = next(iter(tables.values())).set_index("class")["support"]
    names = [fill(f"{name} ({support[name]:,})", NARROW_LINE if is_narrow() else LINE) for name in shown]
    lines = max(name.count("\n") + 1 for name in names)
    height = 1.2 + max(0.36, 0.18 * len(tables), 0.15 * lines) * len(shown)
    low = _left_end(tables)
    figure, (axes,) = panels(style.WIDTH, height, 1, len(MEASURES), shrink=False, sharey=True)
    for ax, (measure, words) in zip(axes, MEASURES.items(), strict=True):
        for place, (model, table) in enumerate(tables.items()):
            rows = table.set_index("class").loc[shown].reset_index()
            heights = np.arange(len(shown)) + 0.32 * (place - (len(tables) - 1) / 2)
            _draw_measure(ax, rows, measure, heights, {"color": style.model_colour(model), "label": model_label(model)})
        ax.set(xlim=(low - 0.02 * (1 - low), 1 + 0.02 * (1 - low)), title=measure.capitalize())
        # Long names leave a narrow axis, whose label has room to its left alone.
        ax.set_xlabel(words, loc="right" if is_narrow() else "center")
        ax.grid(True, axis="x")
    axes[0].set_yticks(range(len(shown)), names)
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    label_first(axes, "class (images)")
    cut = f"the {MOST_SHOWN // 2} easiest and the {MOST_SHOWN // 2} hardest of {len(support)} classes"
    handles, models = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        [f"{model}, {CONFIDENCE:.0%} interval" for model in models],
        loc="outside lower center",
        ncols=entries_in_row(len(models)),
        title=cut if len(shown) < len(support) else None,
    )
    return figure


def _left_end(tables: dict[str, pd.DataFrame]) -> float:
    """Where the axes begin: at 0, or at the tenth below the lowest interval if much would be empty."""
    lowest = min(float(table[f"{measure}_low"].min()) for table in tables.values() for measure in MEASURES)
    return math.floor(10 * lowest) / 10 if lowest >= 0.3 else 0.0


def _shown(tables: dict[str, pd.DataFrame]) -> list[str]:
    """The classes to show, sorted by mean recall over the models, easiest first, those without images last."""
    recall = pd.concat([table.set_index("class")["recall"] for table in tables.values()], axis=1).mean(axis=1)
    ranked = [str(name) for name in recall.sort_values(ascending=False, kind="stable").index]
    half = MOST_SHOWN // 2
    return ranked if len(ranked) <= MOST_SHOWN else ranked[:half] + ranked[-half:]


def _draw_measure(ax: Axes, rows: pd.DataFrame, measure: str, heights: np.ndarray, look: dict[str, Any]) -> None:
    values = rows[measure]
    span = [values - rows[f"{measure}_low"], rows[f"{measure}_high"] - values]
    ax.errorbar(values, heights, xerr=span, fmt="o", markersize=4, capsize=2, linewidth=1.3, **look)
    for height in heights[values.isna()]:
        ax.text(
            0.01, height, "undefined", transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=look["color"]
        )
