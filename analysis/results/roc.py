"""ROC curves and AUC of each class against the rest: the report's Figure 14."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import auc, roc_auc_score, roc_curve

from analysis.drawing import style
from analysis.drawing.class_styles import class_lines
from analysis.drawing.screens import label_first, panels
from analysis.drawing.wording import all_quoted, first_few, listed, model_label, several, without_middle
from analysis.exhibit import Exhibit, joined
from analysis.results import leads
from analysis.results.auc import auc_contributions
from analysis.results.classification import TestPredictions, softmax

COLUMNS = ["class", "false_positive_rate", "true_positive_rate", "threshold", "auc", "logit_auc"]
CURVE_POINTS = 500
"""Most points kept of a ROC curve: enough for the figure, few enough for a small table."""
MOST_NAMED = 12
"""Most classes that a ROC legend names; with more it names the six best and the six worst."""


def show(predictions: TestPredictions, classes: Sequence[str]) -> Exhibit:
    """The ROC curve of each class against the rest, on the test images."""
    tables = {model: roc(*kept, classes) for model, kept in predictions.items()}
    heading, text = "ROC curves of each class against the rest (Figure 14)", roc_caption(tables)
    return Exhibit("roc", heading, text, joined(tables), draw_roc(tables), note=note(tables))


def roc(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One-vs-rest ROC curves: class, false_positive_rate, true_positive_rate, threshold, auc, logit_auc, and shares.

    Computed from softmax probabilities: one-vs-rest compares scores across images, and logits have no common zero.
    `logit_auc` is the AUC of the raw logits, as in the report. The curves are thinned to about `CURVE_POINTS` points;
    the AUC is that of the full curve. `leads` and `trails` are the shares of bootstrap resamples in which the class has
    the highest and the lowest AUC, see `leads`, and `logit_leads` that with the highest of the logits. A class that has
    all images or none has no curve: in its single row all that is of the curve is NaN.

    Args:
        logits: (N, K), finite.
        labels: (N,), indices of `classes`.
        classes: the K names.
    """
    probabilities = softmax(logits)
    scores = zip(classes, probabilities.T, logits.T, strict=True)
    parts = [_curve(labels == place, *of_class) for place, of_class in enumerate(scores)]
    resampled = leads.sums(labels, auc_contributions(probabilities, labels))
    of_logits = leads.sums(labels, auc_contributions(logits, labels))
    shares = {
        "leads": leads.lead_shares(resampled),
        "trails": leads.lead_shares(-resampled),
        "logit_leads": leads.lead_shares(of_logits),
    }
    return pd.concat(parts, ignore_index=True).merge(pd.DataFrame({"class": classes, **shares}), on="class")


def _curve(positive: np.ndarray, name: str, score: np.ndarray, logit: np.ndarray) -> pd.DataFrame:
    if positive.all() or not positive.any():
        return pd.DataFrame([[name, *[np.nan] * 5]], columns=COLUMNS)
    false, true, threshold = roc_curve(positive, score)
    # Points evenly spaced along the monotonic curve, including both ends.
    along = false + true
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], CURVE_POINTS)))
    curve = pd.DataFrame(np.stack([false, true, threshold], axis=1)[kept], columns=COLUMNS[1:4])
    areas = {"auc": auc(false, true), "logit_auc": roc_auc_score(positive, logit)}
    return curve.assign(**{"class": name, **areas})[COLUMNS]


def class_auc(table: pd.DataFrame, column: str = "auc") -> pd.Series:
    """The AUC of every class of a `roc` table, best first; undefined ones (NaN) last."""
    return table.groupby("class", sort=False)[column].first().sort_values(ascending=False, kind="stable")


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def roc_caption(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: each model's mean AUC, its best and its worst class, and which classes have no AUC."""
    areas = {model: class_auc(table) for model, table in tables.items()}
    # The models see the same images, so a class undefined for one is undefined for all.
    missing = next((list(area.index[area.isna()]) for area in areas.values()), [])
    if any(area.isna().all() for area in areas.values()):
        return "The AUC is undefined, as all images are of one class: a curve takes images of a class and of others."
    text = "; ".join(_model_phrase(model, table.dropna(subset="auc")) for model, table in tables.items())
    return text + (f"; undefined without images: {first_few(all_quoted(missing))}." if missing else ".")


def _model_phrase(model: str, table: pd.DataFrame) -> str:
    """A model's mean AUC, its worst and its best class, and those that are tied with these."""
    areas = class_auc(table)
    worst, best = (f"{end:.3f}" for end in (areas.min(), areas.max()))
    ends = f"{best} for every class"
    if worst != best:
        lowest, highest = (_end(table, areas, *end) for end in ((areas.min(), "trails"), (areas.max(), "leads")))
        ends = f"from {worst} for {lowest}{',' * (', ' in lowest)} to {best} for {highest}"
    return f"{model_label(model)} has a mean AUC of {areas.mean():.3f} ({ends})"


def _end(table: pd.DataFrame, areas: pd.Series, end: float, column: str) -> str:
    """The classes with this AUC, and those that are tied with them."""
    shares, names = class_auc(table, column)[areas.index], _classes_at(areas, end)
    also = leads.tied(shares.to_numpy(), np.flatnonzero(areas.index.isin(names)).tolist())
    return several(all_quoted(names)) + leads.tie_clause(all_quoted(areas.index[place] for place in also))


def note(tables: dict[str, pd.DataFrame]) -> str:
    """Which scores the curves are of, and what the report's scores give instead."""
    phrases = [phrase for model, table in tables.items() if (phrase := _logits_phrase(model, table))]
    also = f" The mean AUC of the logits is {listed(phrases)}." if phrases else ""
    return f"{FROM_PROBABILITIES}{also} {leads.NOTE}"


FROM_PROBABILITIES = (
    "Curves and AUCs are of the softmax probabilities. Wik (2023) took the logits for Figure 14, whose zero differs "
    "from image to image."
)


def _logits_phrase(model: str, table: pd.DataFrame) -> str:
    """The mean AUC of a model's logits, and their best class if it is another; empty if all are undefined."""
    ours, theirs = (class_auc(table, column).dropna() for column in ("auc", "logit_auc"))
    if ours.empty:
        return ""
    text = f"{theirs.mean():.3f} for the {model_label(model)} (here {ours.mean():.3f}"
    best, best_of_logits = (_classes_at(areas, areas.max()) for areas in (ours, theirs))
    if set(best) == set(best_of_logits):
        return f"{text})"
    return f"{text}; best {_end(table, theirs, theirs.max(), 'logit_leads')})"


def _classes_at(areas: pd.Series, end: float) -> list[str]:
    """The classes with this AUC; perfect AUCs, for example, tie."""
    return [str(name) for name in areas.index[np.isclose(areas, end, rtol=0, atol=1e-12)]]


@style.styled
def draw_roc(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each model, a curve for each class, the AUCs in the legend, best first."""
    figure, (axes,) = panels(5.6 if len(tables) == 1 else style.WIDTH, 5.2, 1, len(tables), sharey=True)
    for ax, (model, table) in zip(axes, tables.items(), strict=True):
        _draw_curves(ax, table)
        ax.set(xlabel="false positive rate", title=f"{model_label(model)}: {_mean_in_words(class_auc(table))}")
    label_first(axes, "true positive rate")
    return figure


def _mean_in_words(areas: pd.Series) -> str:
    defined = areas.dropna()
    some = f" over {len(defined)} of {len(areas)} classes" if 0 < len(defined) < len(areas) else ""
    return f"mean AUC {_number(areas.mean())}{some}"


def _draw_curves(ax: Axes, table: pd.DataFrame) -> None:
    areas = class_auc(table)
    classes = list(dict.fromkeys(table["class"]))
    looks = class_lines(classes)
    named = set(areas.index) if len(areas) <= MOST_NAMED else {*areas.index[:6], *areas.index[-6:]}
    entries: list[tuple[Line2D, str]] = []
    ax.plot([0, 1], [0, 1], color=style.QUIET, linewidth=1, linestyle=":")
    for name, area in areas.items():
        curve = table[table["class"] == name]
        rates = curve["false_positive_rate"], curve["true_positive_rate"]
        undefined = {"linestyle": "none", "marker": ""} if np.isnan(area) else {}
        (line,) = ax.plot(*rates, linewidth=1.4, **(looks[str(name)] | undefined))
        if name in named:
            entries.append((line, f"{without_middle(str(name))} {_number(area)}"))
    # Explicit entries: matplotlib's own legend leaves out labels that begin with an underscore.
    ax.legend(
        *zip(*entries, strict=True),
        loc="lower right",
        frameon=True,
        framealpha=1,
        edgecolor="none",
        title="AUC" if len(named) == len(areas) else "AUC, six best and six worst",
    )
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.grid(True)
