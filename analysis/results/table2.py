"""Table 2 of Wik (2023): every measure with its interval beside the report's, as a table and as a figure."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.drawing.screens import break_if_narrow, entries_in_row, panels
from analysis.drawing.wording import listed, model_label
from analysis.exhibit import Exhibit
from analysis.results.bootstrap import RESAMPLES
from analysis.results.classification import MEASURES, REPORTED
from analysis.results.intervals import readable
from analysis.results.proportions import CONFIDENCE, is_shown, p_in_words, verdict

NOT_COMPARED = "Wik's (2023) numbers are of CIFAR-10, and are shown only for its classes."
CHOSEN_BY_TEST = "Wik (2023) chose the settings by test accuracy, which favours those numbers."
OTHER_IMAGES = (
    "They are of CIFAR-10 itself; this data set has the names of its classes, but not necessarily its pixels, so that "
    "a difference may be one of the images."
)
_WORDS = {name: name for name in MEASURES} | {"f1": "F1", "balanced_accuracy": "balanced accuracy"}


def show(table: pd.DataFrame) -> list[Exhibit]:
    """Table 2 as a table and as a figure; `table` is from `intervals.measured`."""
    return [
        Exhibit("table2", _heading(table), caption(table), table, shown=answer(table), note=note(table)),
        Exhibit(
            "table2_intervals",
            "How certain these measures are",
            intervals_caption(table),
            table,
            draw_intervals(table),
            note=figure_note(table),
        ),
    ]


def _heading(table: pd.DataFrame) -> str:
    beside = f" beside the report's{_elsewhere(table, ' on ')}" if "report" in table else ""
    return f"Accuracy, precision, recall, F1 and balanced accuracy{beside} (Table 2)"


def _elsewhere(rows: Any, before: str, after: str = "") -> str:
    """Which images the report's numbers of a table or row are of, between two texts; empty if of the same as ours."""
    return "" if np.all(rows["same_images"]) else f"{before}CIFAR-10 itself{after}"


def answer(table: pd.DataFrame) -> pd.DataFrame:
    """An `intervals` table formatted for the page: ``0.701 (0.692–0.710)``, a row per split and model or difference.

    Below each is the report's row, if the table is `with_report` and the report has the numbers.
    """
    rows = []
    for split in table["split"].unique():
        for (model, minus), part in table[table["split"] == split].groupby(["model", "minus"], sort=False):
            values, name = part.set_index("measure").loc[MEASURES], _name(str(model), str(minus))
            rows.append([split, name, *_cells(values[["value", "low", "high"]], signed=bool(minus))])
            if "report" in values and values["report"].notna().any():
                label = f"{name} (Wik{_elsewhere(part, ', ')})"
                # It has no balanced accuracy.
                reported = _cells(values.loc[REPORTED, ["report"]], signed=bool(minus))
                rows.append([split, label, *reported, ""])
        if "largest_class" in table:
            share = table.loc[table["split"] == split, "largest_class"].iloc[0]
            rows.append([split, "majority class", readable([share]), "", "", "", ""])
    return pd.DataFrame(rows, columns=["images", "model", *_WORDS.values()])


def _name(model: str, minus: str) -> str:
    return f"{model_label(model)} − {model_label(minus)}" if minus else model_label(model)


def _cells(values: pd.DataFrame, *, signed: bool) -> list[str]:
    return [readable(row, signed=signed) for row in values.itertuples(index=False, name=None)]


def caption(table: pd.DataFrame) -> str:
    """One sentence: the test accuracies, where the report's lie, and whether the models differ."""
    tests = table[(table["split"] == "test") & (table["measure"] == "accuracy")]
    if tests.empty:
        return "No predictions of the test images were kept."
    return f"Test accuracy: {listed([_accuracy_phrase(row) for row in tests.to_dict('records')])}."


def intervals_caption(table: pd.DataFrame) -> str:
    """One sentence: the widths of the accuracies' intervals."""
    rows = table[(table["measure"] == "accuracy") & (table["minus"] == "")].to_dict("records")
    phrases = [
        f"{100 * (row['high'] - row['low']):.1f} points for the {model_label(row['model'])} on the {row['split']} "
        "images"
        for row in rows
    ]
    return f"The {CONFIDENCE:.0%} interval of the accuracy spans {listed(phrases)}."


def note(table: pd.DataFrame, resamples: int = RESAMPLES) -> str:
    """How far the report's numbers compare with ours, the number of images, and how the intervals were computed."""
    images = table.groupby("split", sort=False)["images"].first().items()
    counts = " and ".join(f"{count:,} {split}" for split, count in images)
    return (
        f"{_comparability(table)} On {counts} images; in brackets {CONFIDENCE:.0%} intervals. "
        "They say what other images would have changed, "
        "not another training. Precision, recall and F1 are averages over the classes, weighted by their size, so that "
        "recall is the accuracy; the balanced accuracy is the unweighted average of the recalls (macro recall). The "
        "intervals of accuracy and recall are Wilson's (1927), of their differences, image by image, "
        f"Bonett and Price's (2012); of the others percentiles of {resamples:,} bootstrap resamples of the "
        "images, the same for all models, and none where all resamples are alike. Whether two models differ is "
        "decided by McNemar's test alone: where they disagree on few images, the bootstrap of a difference is too sure."
    )


def _comparability(table: pd.DataFrame) -> str:
    if "report" not in table:
        return NOT_COMPARED
    return CHOSEN_BY_TEST if table["same_images"].all() else f"{CHOSEN_BY_TEST} {OTHER_IMAGES}"


def figure_note(table: pd.DataFrame) -> str:
    """Why a point has no error bar; empty if all have one."""
    bare = table["value"].notna() & table["low"].isna()
    return "A point without a bar: all bootstrap resamples are alike, and tell no interval." if bare.any() else ""


def _accuracy_phrase(row: Mapping[Hashable, Any]) -> str:
    """An accuracy with its interval and where the report's lies, or a difference with its interval and test."""
    numbers = readable([row["value"], row["low"], row["high"]], signed=bool(row["minus"]))
    words = f"{_name(row['model'], row['minus'])} {numbers}"
    if row["minus"]:
        return words + _test_clause(row)
    reported = row.get("report", np.nan)
    if np.isnan(reported):
        return words
    place = "above" if reported > row["high"] else "below" if reported < row["low"] else "inside"
    return f"{words} with Wik's (2023) {reported:.3f}{_elsewhere(row, ' (on ', ')')} {place} this interval"


def _test_clause(row: Mapping[Hashable, Any]) -> str:
    """The result of McNemar's test of a difference, and whether the interval disagrees; the test decides."""
    if np.isnan(row["value"]):
        return ""
    is_apart, holds_zero = is_shown(row["p_value"]), row["low"] <= 0 <= row["high"]
    text = (
        f", where only one of them is right on {row['discordant']:,.0f} of {row['images']:,} images and McNemar's test "
        f"says that {verdict(row['p_value'])} (p {p_in_words(row['p_value'])})"
    )
    if is_apart == holds_zero:
        text += f" although the interval {'holds zero' if holds_zero else 'leaves zero out'}"
    return text


@style.styled
def draw_intervals(table: pd.DataFrame) -> Figure:
    """A panel for the measures of each split, and one for each split's differences; open diamonds are the report's."""
    parts = [part for _, part in table.groupby([table["minus"] != "", "split"], sort=False)]
    rows, columns = -(-len(parts) // 2), min(2, len(parts))
    figure, axes = panels(style.WIDTH if len(parts) > 1 else 5.6, 0.9 + 2.2 * rows, rows, columns, sharey=True)
    for ax, part in zip(axes.flat, parts, strict=False):
        _draw_panel(ax, part)
    for ax in axes.flat[len(parts) :]:
        ax.set_axis_off()
    lines = {model: f"{model_label(model)}, this run, {CONFIDENCE:.0%} interval" for model in table["model"].unique()}
    marks = [
        Line2D([], [], color=style.model_colour(model), marker="o", markersize=5, label=label)
        for model, label in lines.items()
    ]
    if "report" in table and table["report"].notna().any():
        label = f"Wik (2023){_elsewhere(table, ', on ')}"
        marks.append(Line2D([], [], color=style.INK, marker="D", markerfacecolor="none", ls="none", label=label))
    figure.legend(handles=marks, loc="outside lower center", ncols=entries_in_row(len(marks)))
    return figure


def _draw_panel(ax: Axes, table: pd.DataFrame) -> None:
    lines = list(table.groupby(["model", "minus"], sort=False))
    for place, ((model, minus), part) in enumerate(lines):
        heights = np.arange(len(part)) + 0.3 * (place - (len(lines) - 1) / 2)
        colour = style.INK if minus else style.model_colour(str(model))
        # A percentile interval need not contain the value, so it is drawn around its own middle.
        middle, reach = (part["high"] + part["low"]) / 2, (part["high"] - part["low"]) / 2
        ax.errorbar(middle, heights, xerr=reach, fmt="none", color=colour, capsize=3, clip_on=False)
        ax.plot(part["value"], heights, "o", color=colour, markersize=5, clip_on=False)
        if "report" in part:
            ax.plot(part["report"], heights, "D", color=colour, markerfacecolor="none", markersize=7)
    first = table.iloc[0]
    difference = _name(first["model"], first["minus"]) if first["minus"] else ""
    break_line = break_if_narrow()
    after = f":{break_line}{difference}" if difference else ""
    ax.set_yticks(range(len(MEASURES)), list(_WORDS.values()))
    ax.set(
        ylim=(len(MEASURES) - 0.5, -0.5),
        xlabel=f"difference {difference}" if difference else "share (0 to 1)",
        title=f"{first['split'].capitalize()}, {first['images']:,} images{after}",
    )
    if not difference:
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, 0.0), min(high, 1.0))
    else:
        ax.axvline(0, color=style.QUIET, linewidth=1, linestyle=":")
    ax.locator_params(axis="x", nbins=6)
    ax.grid(True, axis="x")
