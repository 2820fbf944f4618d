"""Confusion matrices of the models: the report's Figure 13."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import label_first, panels
from analysis.drawing.wording import counted, model_label, quoted, several, without_middle
from analysis.exhibit import Exhibit, joined
from analysis.results import leads
from analysis.results.classification import TestPredictions

MOST_COUNTED = 15
"""Most classes for which the counts are written into a confusion matrix."""
MOST_LABELLED = 40
"""Most class names beside a confusion matrix; with more classes only every second, third, … is named."""


def show(predictions: TestPredictions, classes: Sequence[str]) -> Exhibit:
    """The confusion matrix of each model on the test images."""
    tables = {model: confusion(*kept, classes) for model, kept in predictions.items()}
    heading, text, figure = "Confusion matrices (Figure 13)", confusion_caption(tables), draw_confusion(tables)
    return Exhibit("confusion", heading, text, joined(tables), figure, note=leads.NOTE)


def confusion(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """The confusion matrix as a table: true, predicted, count, leads; a row for every pair of classes.

    `leads` is the share of bootstrap resamples in which the pair is the most frequent mistake, see `leads`.

    Args:
        logits: (N, K).
        labels: (N,), indices of `classes`.
        classes: the K names.
    """
    size = len(classes)
    pairs = np.bincount(labels * size + logits.argmax(axis=1), minlength=size * size)
    names = pd.MultiIndex.from_product([classes, classes], names=["true", "predicted"])
    shares = _lead_shares(pairs.reshape(size, size)).ravel()
    return pd.DataFrame({"count": pairs, "leads": shares}, index=names).reset_index()


def _lead_shares(counts: np.ndarray) -> np.ndarray:
    """The share of resamples of each class's images in which each of the `counts` (K, K) is the largest mistake."""
    rng, step = np.random.default_rng(0), max(1, leads.DRAWN_AT_ONCE // counts.size)
    chances = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = np.zeros(counts.size)
    for start in range(0, leads.RESAMPLES, step):
        draws = min(step, leads.RESAMPLES - start)
        drawn = [rng.multinomial(row.sum(), of_row, draws) for row, of_row in zip(counts, chances, strict=True)]
        # A resample without mistakes has no leader but among those that were made.
        is_mistake = (counts > 0) & ~np.eye(len(counts), dtype=bool)
        mistakes = np.where(is_mistake, np.stack(drawn, axis=1), np.nan).reshape(draws, -1)
        shares += leads.lead_shares(mistakes) * draws / leads.RESAMPLES
    return shares.reshape(counts.shape)


def _matrix(table: pd.DataFrame) -> pd.DataFrame:
    """The counts with a row per true class and a column per predicted class, in the table's order."""
    classes = list(dict.fromkeys(table["true"]))
    return table.pivot(index="true", columns="predicted", values="count").loc[classes, classes]


def confusion_caption(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: each model's most frequent confusion, several if they are equal, and those tied with it."""
    phrases = []
    for model, table in tables.items():
        wrong = table[(table["true"] != table["predicted"]) & (table["count"] > 0)]
        if wrong.empty:
            phrases.append(f"{model_label(model)} confuses no classes")
            continue
        most = wrong[wrong["count"] == wrong["count"].max()]
        pairs = _in_words(most)
        count, total = most["count"].iloc[0], table.loc[table["true"] == most["true"].iloc[0], "count"].sum()
        how_often = f"{count:,} of {total:,}" if len(most) == 1 else f"{counted(count, 'image')} each"
        also = table.iloc[leads.tied(table["leads"].to_numpy(), most.index.tolist())]
        ties = leads.tie_clause(_in_words(also))
        phrases.append(f"{model_label(model)} most often takes {several(pairs)} ({how_often}){ties}")
    return f"{'; '.join(phrases)}."


def _in_words(confusions: pd.DataFrame) -> list[str]:
    pairs = zip(confusions["true"], confusions["predicted"], strict=True)
    return [f"{quoted(true)} for {quoted(predicted)}" for true, predicted in pairs]


@style.styled
def draw_confusion(tables: dict[str, pd.DataFrame]) -> Figure:
    """The models' confusion matrices side by side: cells hold counts, coloured by the share of the true class."""
    width = 5.6 if len(tables) == 1 else style.WIDTH
    figure, (axes,) = panels(width, 5.1, 1, len(tables), compress=True, sharey=True)
    for ax, (model, table) in zip(axes, tables.items(), strict=True):
        _draw_matrix(ax, _matrix(table))
        ax.set(title=model_label(model), xlabel="predicted class")
    label_first(axes, "true class")
    style.colour_bar(axes, (0.0, 100.0), style.SHARES, "share of the true class (%)")
    return figure


def _draw_matrix(ax: Axes, counts: pd.DataFrame) -> None:
    values = counts.to_numpy()
    # A class without images has no shares: its row stays at 0 %.
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    ax.imshow(100 * shares, cmap=style.SHARES, vmin=0, vmax=100, aspect="equal")
    few = len(counts) <= MOST_COUNTED
    step = -(-len(counts) // MOST_LABELLED)
    names = [without_middle(str(name)) for name in counts.index][::step]
    places = range(0, len(counts), step)
    ax.set_xticks(places, names, rotation=45 if few else 90, ha="right", va="center", rotation_mode="anchor")
    ax.set_yticks(places, names)
    ax.tick_params(length=0, labelsize=8 if few else max(5, min(8, 230 / len(names))))
    if few:
        for (row, column), count in np.ndenumerate(values):
            ink = style.ink_on(style.SHARES, shares[row, column])
            ax.text(column, row, str(count), ha="center", va="center", fontsize=8, color=ink)
