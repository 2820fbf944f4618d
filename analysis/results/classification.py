"""How well the models classify, and what they confuse: the report's Table 2 and Figures 13 and 14."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special
from sklearn.metrics import auc, roc_curve

from analysis.drawing import style
from analysis.drawing.wording import counted, first_few, several, without_middle

MEASURES = ["accuracy", "precision", "recall", "f1"]
REPORT_TABLE_2 = pd.DataFrame(
    [
        ("cnn", "test", 0.710, 0.708, 0.710, 0.706),
        ("ffnn", "test", 0.520, 0.518, 0.520, 0.518),
        ("cnn", "train", 0.832, 0.833, 0.832, 0.829),
        ("ffnn", "train", 0.589, 0.587, 0.589, 0.587),
    ],
    columns=["model", "split", *MEASURES],
)
"""Wik, "Tracing the Convolutions of a CNN" (2023), Table 2."""

ROC_COLUMNS = ["class", "false_positive_rate", "true_positive_rate", "threshold", "auc"]
CURVE_POINTS = 500
"""Points that are kept of a ROC curve: enough for a page, few enough for a small table."""
MOST_COUNTED = 15
"""Classes up to which the counts are written into a confusion matrix."""
MOST_LABELLED = 40
"""Classes whose names find room beside a confusion matrix; of more only every other, or third, … is named."""
MOST_NAMED = 12
"""Classes up to which a ROC legend names them all."""
Predictions = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""Logits (N, K) and labels (N,), by (model, split)."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """The class probabilities (N, K) of logits (N, K), in float64: fewer of a confident model's round to 1."""
    return special.softmax(logits.astype(np.float64), axis=1)


def confusion(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """How many images of each class were taken for which: true, predicted, count; a row for every pair.

    Args:
        logits: (N, K).
        labels: (N,), places in `classes`.
        classes: the K names.
    """
    size = len(classes)
    pairs = np.bincount(labels * size + logits.argmax(axis=1), minlength=size * size)
    names = pd.MultiIndex.from_product([classes, classes], names=["true", "predicted"])
    return pd.Series(pairs, index=names, name="count").reset_index()


def _matrix(table: pd.DataFrame) -> pd.DataFrame:
    """The counts with the true classes down and the predicted ones across, in the table's order."""
    classes = list(dict.fromkeys(table["true"]))
    return table.pivot(index="true", columns="predicted", values="count").loc[classes, classes]


def confusion_caption(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: each model's most frequent confusion, or all that are as frequent."""
    said = []
    for model, table in tables.items():
        wrong = table[(table["true"] != table["predicted"]) & (table["count"] > 0)]
        if wrong.empty:
            said.append(f"{model.upper()} confuses no classes")
            continue
        most = wrong[wrong["count"] == wrong["count"].max()]
        pairs = [f"{true} for {predicted}" for true, predicted in zip(most["true"], most["predicted"], strict=True)]
        count, total = most["count"].iloc[0], table.loc[table["true"] == most["true"].iloc[0], "count"].sum()
        how_often = f"{count:,} of {total:,}" if len(most) == 1 else f"{counted(count, 'image')} each"
        said.append(f"{model.upper()} most often takes {several(pairs)} ({how_often})")
    return f"{'; '.join(said)}."


@style.styled
def draw_confusion(tables: dict[str, pd.DataFrame]) -> Figure:
    """The models side by side: counts written in, coloured by the share of the true class, on one scale."""
    made = style.figure(5.6 if len(tables) == 1 else style.WIDTH, 5.1, compress=True)
    axes = list(np.atleast_1d(made.subplots(1, len(tables), sharey=True)))
    for ax, (model, table) in zip(axes, tables.items(), strict=True):
        _draw_matrix(ax, _matrix(table))
        ax.set(title=model.upper(), xlabel="predicted class")
    axes[0].set_ylabel("true class")
    style.colour_bar(axes, (0.0, 100.0), style.SHARES, "share of the true class (%)")
    return made


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
            ax.text(column, row, str(count), ha="center", va="center", fontsize=7, color=ink)


def roc(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One-vs-rest ROC curves: class, false_positive_rate, true_positive_rate, threshold, auc.

    From softmax probabilities: one-vs-rest compares scores across images, and logits have no common zero. The curves
    are thinned to about `CURVE_POINTS` points, the AUC is that of the full curve. A class that has all the images or
    none has no curve: one row, all NaN.

    Args:
        logits: (N, K), finite.
        labels: (N,), places in `classes`.
        classes: the K names.
    """
    probabilities = softmax(logits)
    parts = [_curve(labels == place, probabilities[:, place], name) for place, name in enumerate(classes)]
    return pd.concat(parts, ignore_index=True)


def _curve(positive: np.ndarray, score: np.ndarray, name: str) -> pd.DataFrame:
    if positive.all() or not positive.any():
        return pd.DataFrame([[name, *[np.nan] * 4]], columns=ROC_COLUMNS)
    false, true, threshold = roc_curve(positive, score)
    # Evenly along the curve, which only ever goes right and up, both ends included.
    along = false + true
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], CURVE_POINTS)))
    curve = pd.DataFrame(np.stack([false, true, threshold], axis=1)[kept], columns=ROC_COLUMNS[1:4])
    return curve.assign(**{"class": name, "auc": auc(false, true)})[ROC_COLUMNS]


def class_auc(table: pd.DataFrame) -> pd.Series:
    """The AUC of every class of a `roc` table, best first; undefined ones (NaN) last."""
    return table.groupby("class", sort=False)["auc"].first().sort_values(ascending=False, kind="stable")


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def roc_caption(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: each model's mean AUC, its best and its worst class, and which classes have no AUC."""
    areas = {model: class_auc(table) for model, table in tables.items()}
    # The models are asked about the same images, so what is undefined for one is so for all.
    missing = next((list(area.index[area.isna()]) for area in areas.values()), [])
    if any(area.isna().all() for area in areas.values()):
        return "The AUC is undefined, as all images are of one class: a curve takes images of a class and of others."
    said = "; ".join(_of_model(model, area.dropna()) for model, area in areas.items())
    return said + (f"; undefined, for want of images: {first_few(missing)}." if missing else ".")


def _of_model(model: str, defined: pd.Series) -> str:
    worst, best = (f"{end:.3f}" for end in (defined.min(), defined.max()))
    ends = f"{best} for every class"
    if worst != best:
        lowest, highest = (several(_at(defined, end)) for end in (defined.min(), defined.max()))
        ends = f"from {worst} for {lowest} to {best} for {highest}"
    return f"{model.upper()} has a mean AUC of {defined.mean():.3f} ({ends})"


def _at(areas: pd.Series, end: float) -> list[str]:
    """The classes with this AUC, which ties where classes are told apart without a mistake."""
    return [str(name) for name in areas.index[np.isclose(areas, end, rtol=0, atol=1e-12)]]


@style.styled
def draw_roc(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each model, a curve for each class, the AUCs in the legend, best first."""
    made = style.figure(5.6 if len(tables) == 1 else style.WIDTH, 5.2)
    axes = list(np.atleast_1d(made.subplots(1, len(tables), sharey=True)))
    for ax, (model, table) in zip(axes, tables.items(), strict=True):
        _draw_curves(ax, table)
        ax.set(xlabel="false positive rate", title=f"{model.upper()}: {_mean_in_words(class_auc(table))}")
    axes[0].set_ylabel("true positive rate")
    return made


def _mean_in_words(areas: pd.Series) -> str:
    defined = areas.dropna()
    some = f" over {len(defined)} of {len(areas)} classes" if 0 < len(defined) < len(areas) else ""
    return f"mean AUC {_number(areas.mean())}{some}"


def _draw_curves(ax: Axes, table: pd.DataFrame) -> None:
    areas = class_auc(table)
    classes = list(dict.fromkeys(table["class"]))
    colours, dashes = style.class_colours(classes), style.class_dashes(classes)
    named = set(areas.index) if len(areas) <= MOST_NAMED else {*areas.index[:6], *areas.index[-6:]}
    ax.plot([0, 1], [0, 1], color=style.QUIET, linewidth=1, linestyle=":")
    for name, area in areas.items():
        curve = table[table["class"] == name]
        ax.plot(
            curve["false_positive_rate"],
            curve["true_positive_rate"],
            color=colours[str(name)],
            linestyle="none" if np.isnan(area) else dashes[str(name)],
            linewidth=1.4,
            label=f"{without_middle(str(name))} {_number(area)}" if name in named else "_",
        )
    ax.legend(
        loc="lower right",
        frameon=True,
        framealpha=1,
        edgecolor="none",
        title="AUC" if len(named) == len(areas) else "AUC, six best and six worst",
    )
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.grid(True)


def metrics_table(predictions: Predictions) -> pd.DataFrame:
    """Accuracy, and precision, recall and F1 weighted by class size: the report's Table 2.

    Args:
        predictions: logits and labels. A pair without images gives NaN.

    Returns:
        model, split, images, accuracy, precision, recall, f1.
    """
    rows = [(*key, len(labels), *_measures(logits, labels)) for key, (logits, labels) in predictions.items()]
    return pd.DataFrame(rows, columns=["model", "split", "images", *MEASURES])


def _measures(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return weighted_measures(*class_counts(logits, labels))


def class_counts(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many images of each class were taken for it, how many it has, and how many were taken for it: (K,) each."""
    chosen, size = logits.argmax(axis=1), logits.shape[1]
    hits, sizes, taken = (np.bincount(of, minlength=size) for of in (labels[chosen == labels], labels, chosen))
    return hits, sizes, taken


def weighted_measures(hits: np.ndarray, sizes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Accuracy, precision, recall and F1 (..., 4), the last three averaged over the classes, weighted by their size.

    As scikit-learn's with ``average="weighted", zero_division=0``, but of any number of samples at once.

    Args:
        hits: (..., K), the images of each class that were taken for it.
        sizes: (..., K), the images of each class.
        taken: (..., K), the images that were taken for each class. Without any images all measures are NaN.
    """
    images = np.where(sizes.any(axis=-1), sizes.sum(axis=-1), np.nan)
    weights = sizes / images[..., None]
    precision = (weights * hits / np.maximum(taken, 1)).sum(axis=-1)
    f1 = (weights * 2 * hits / np.maximum(sizes + taken, 1)).sum(axis=-1)
    # Recall is hits / sizes, so that weighted by the sizes it is the accuracy.
    accuracy = hits.sum(axis=-1) / images
    return np.stack([accuracy, precision, accuracy, f1], axis=-1)


def to_markdown(table: pd.DataFrame) -> str:
    """The table in GitHub's Markdown: three decimals, models in capitals, NaN empty, numbers to the right."""
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    lines = [[str(name).replace("_", " ") for name in table], ["---:" if number else "---" for number in numeric]]
    lines += [[_cell(name, value) for name, value in row.items()] for row in table.to_dict("records")]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(name: object, value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).upper() if name == "model" and value in style.MODEL_COLOURS else str(value)
