"""Which attribution methods can be believed: their agreement with measured drops, beside maps that know nothing."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import bootstrap

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, is_narrow, panels
from analysis.drawing.wording import listed, number
from analysis.exhibit import Exhibit

HEADING = "Which explanations can be believed?"
CONTROLS = {
    "random": "random",
    "smooth_random": "smooth random",
    "edges": "Sobel edges",
    "middle": "the middle of the image",
    "distance_from_grey": "distance from grey",
}
"""Maps that know nothing of the network, by the name that tables use."""
INFILLS = {"grey": ("grey", "#8a8a8a", "s"), "blur": ("blurred", "#e69f00", "o"), "image": ("another image", "#56b4e9",
           "D")}  # fmt: skip
OTHER = "other_classes"
SAME = 0.3
"""Mean rank correlation above which a map counts as the same map: it ignores the weights, or the question."""
RESAMPLES = 2000
NOTE = (
    "Parts of the image are replaced, and the margin's drop is measured; all parts are made of the cells of an 8 × 8 "
    "grid, and a map counts by its sum over each. Agreement is the correlation with the drops of 49 squares and 60 "
    "sets of fixed sizes, mean over three fillings. Bars: bootstrap 95% intervals over images. A method is believed if "
    "it agrees better than the best control (paired bootstrap of the difference), and if its map does not stay the "
    f"same (rank correlation above {SAME}) with random weights or for two other classes."
)


def show(scores: pd.DataFrame, checks: pd.DataFrame, titles: Mapping[str, str]) -> Exhibit:
    """A ranking of the methods, with a sentence a method: believe it, or not.

    Args:
        scores: image, infill, method, squares, sets, insertion_deletion.
        checks: image, method, check, rank_correlation.
        titles: the methods' names for readers.
    """
    table = summary(scores, checks, titles)
    images = f"{scores['image'].nunique()} test images, {checks['image'].nunique()} of them with random weights"
    return Exhibit(
        "faithfulness",
        HEADING,
        caption(table),
        table,
        draw(table, images),
        points=[verdict(row, table) for _, row in table[~table["control"]].iterrows()],
        note=f"{images[0].upper()}{images[1:]}. {NOTE}",
        tables={"faithfulness_scores": scores, "faithfulness_checks": checks},
    )


def summary(scores: pd.DataFrame, checks: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """A row for each method and control, the best agreement first.

    Returns:
        method, title, control; agreement and insertion_deletion, each with _low and _high; insertion_deletion with
        each filling; difference from the best control's agreement, with bounds (0 for that control itself);
        random_NAME, the mean rank correlation with all layers random from the last one to NAME; other_classes;
        better, whether the difference is above 0, same, the checks at which the map stays the same; and believe.
    """
    scores = scores.assign(agreement=(scores["squares"] + scores["sets"]) / 2)
    by_image = {name: scores.pivot_table(index="image", columns="method", values=name) for name in
                ("agreement", "insertion_deletion")}  # fmt: skip
    agreement = by_image["agreement"]
    best = agreement[[name for name in CONTROLS if name in agreement]].mean().idxmax()
    table = pd.DataFrame({"method": agreement.mean().sort_values(ascending=False).index})
    table["title"] = [titles.get(name) or CONTROLS[name] for name in table["method"]]
    table["control"] = table["method"].isin(CONTROLS)
    for name, values in by_image.items():
        _add_means(table, name, values)
    for infill, part in scores.groupby("infill", sort=False):
        means = part.groupby("method")["insertion_deletion"].mean()
        table[f"insertion_deletion_{infill}"] = table["method"].map(means)
    _add_means(table, "difference", agreement.sub(agreement[best], axis=0))
    for check, part in checks.groupby("check", sort=False):
        name = OTHER if check == OTHER else f"random_{check}"
        table[name] = table["method"].map(part.groupby("method")["rank_correlation"].mean())
    table["better"] = table["difference_low"] > 0
    table["same"] = [", ".join(name for name in _last_checks(table) if row[name] > SAME) for _, row in table.iterrows()]
    table["believe"] = table["better"] & (table["same"] == "")
    return table


def _last_checks(table: pd.DataFrame) -> list[str]:
    """The columns of the checks that count: all layers random, and other classes."""
    names = [str(name) for name in table]
    random = [name for name in names if name.startswith("random_")]
    return [*random[-1:], *(name for name in names if name == OTHER)]


def _add_means(table: pd.DataFrame, name: str, values: pd.DataFrame) -> None:
    """Adds the means over images of `values` (images × methods), with their bootstrap intervals."""
    chosen = values[table["method"]].to_numpy()
    table[name] = chosen.mean(axis=0)
    low, high = table[name], table[name]
    if len(chosen) > 1:
        # All methods share the resamples.
        interval = bootstrap((chosen,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0).confidence_interval
        low, high = interval.low, interval.high
    table[f"{name}_low"], table[f"{name}_high"] = low, high


def caption(table: pd.DataFrame) -> str:
    """One sentence: how many methods can be believed, the best of them, and the others by name."""
    methods, best = table[~table["control"]], _best_control(table)
    believed = methods[methods["believe"]]
    if not len(believed):
        return (
            f"None of {len(methods)} methods can be believed: the best control, {best['title']}, agrees as well with "
            f"what is measured ({number(best['agreement'], 2)}), or the maps stay the same with random weights or for "
            "other classes."
        )
    leader, others = believed.iloc[0], methods[~methods["believe"]]["title"].tolist()
    text = (
        f"{len(believed)} of {len(methods)} methods can be believed, first {leader['title']}: its maps agree with the "
        f"measured drops by {number(leader['agreement'], 2)}, those of the best control ({best['title']}) by "
        f"{number(best['agreement'], 2)}"
    )
    return f"{text}; not {listed(others)}." if others else f"{text}."


def _best_control(table: pd.DataFrame) -> pd.Series:
    return table[table["control"]].iloc[0]


def verdict(row: pd.Series, table: pd.DataFrame) -> str:
    """A sentence on one method, from its numbers: believe it, or not, and why."""
    control = _best_control(table)
    agrees = (
        f"agreement {number(row['agreement'], 2)}, {number(abs(row['difference']), 2)} "
        f"{'above' if row['difference'] >= 0 else 'below'} {control['title']} "
        f"({number(row['difference_low'], 2)} to {number(row['difference_high'], 2)})"
    )
    unchanged = [f"{_what(name)} (rank correlation {number(row[name], 2)})" for name in row["same"].split(", ") if name]
    if row["believe"]:
        kept = [f"{_what(name)} {number(row[name], 2)}" for name in _last_checks(table) if pd.notna(row[name])]
        return f"{_first(row['title'])}: believe it; {agrees}, and rank correlation {listed(kept)}."
    reasons = [
        *(() if row["better"] else (f"it does no better than a map that knows nothing of the network, {agrees}",)),
        *((f"its map stays the same {listed(unchanged)}",) if unchanged else ()),
    ]
    return f"{_first(row['title'])}: do not believe it; {', and '.join(reasons)}."


def short_verdicts(table: pd.DataFrame) -> dict[str, str]:
    """By method, from the best: whether to believe it and its agreement, in a few words; of the table of `summary`."""
    control = _best_control(table)
    return {
        row["method"]: (
            f"{'believe' if row['believe'] else 'do not believe'} it: agreement {number(row['agreement'], 2)} "
            f"({control['title']}: {number(control['agreement'], 2)})"
        )
        for _, row in table[~table["control"]].iterrows()
    }


def _first(title: str) -> str:
    return f"{title[0].upper()}{title[1:]}"


def _what(name: str) -> str:
    return "for two other classes" if name == OTHER else "with random weights"


@style.styled
def draw(table: pd.DataFrame, images: str) -> Figure:
    """The ranking, a row for each method and control; `table` from `summary`, `images` says how many were measured."""
    checks = _last_checks(table)
    ratios, height = [1.3, 1.3, 1.1, *[0.9] * len(checks)], 1.2 + 0.27 * len(table)
    figure, (axes,) = panels(style.WIDTH, height, 1, 3 + len(checks), sharey=True, shrink=False, width_ratios=ratios)
    style.head(figure, f"Agreement of maps with what is measured ({images})")
    _draw_intervals(axes[0], table, "agreement", "agreement with\nmeasured drops")
    _draw_intervals(axes[1], table, "insertion_deletion", "insertion minus\ndeletion")
    for infill, (label, colour, marker) in INFILLS.items():
        if f"insertion_deletion_{infill}" in table:
            values = table[f"insertion_deletion_{infill}"]
            axes[2].plot(values, range(len(table)), marker, color=colour, markersize=4, label=label)
    axes[2].set_title("the same,\nby filling", fontsize=9)
    for ax, name in zip(axes[3:], checks, strict=True):
        ax.scatter(table[name], range(len(table)), s=18, c=_colours(table))
        ax.axvline(SAME, color=style.QUIET, linewidth=1, linestyle="--")
        ax.set_title("same map for\nother classes?" if name == OTHER else "same map at\nrandom weights?", fontsize=9)
        ax.set_xlim(min(-0.25, table[name].min() - 0.1), 1.1)
    for ax in axes:
        ax.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
        ax.grid(True, axis="y")
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(range(len(table)), [_label(row) for _, row in table.iterrows()])
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    for ax in axes if is_narrow() else axes[:1]:
        for tick, believe in zip(ax.get_yticklabels(), table["believe"], strict=True):
            tick.set_color(style.INK if believe else style.QUIET)
    handles, labels = axes[2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=entries_in_row(3, most=2))
    return figure


def _label(row: pd.Series) -> str:
    return f"control: {row['title']}" if row["control"] else f"{'✓' if row['believe'] else '✗'} {row['title']}"


def _colours(table: pd.DataFrame) -> list[str]:
    return [style.QUIET if control else style.MODEL_COLOURS["cnn"] for control in table["control"]]


def _draw_intervals(ax: Axes, table: pd.DataFrame, name: str, title: str) -> None:
    """The means with their intervals, and a dashed line at the best control's."""
    for place, (colour, (_, row)) in enumerate(zip(_colours(table), table.iterrows(), strict=True)):
        ax.plot([row[f"{name}_low"], row[f"{name}_high"]], [place, place], color=colour)
        ax.plot(row[name], place, "o", color=colour, markersize=4)
    ax.axvline(table.loc[table["control"], name].max(), color="#cc3311", linewidth=1, linestyle="--")
    ax.set_title(title, fontsize=9)
