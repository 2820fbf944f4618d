"""Why filters fall silent and their weights collapse: the conditions of the experiment, compared over seeds.

The input is two tables. `replicates` has a row per training: condition (its label), group (``optimiser`` or
``filters``), optimiser, learning_rate, warmup_steps, weight_decay, filters_conv1, filters_conv2 (how many), seed,
epochs, diverged (bool) and val_accuracy (0..1, after the last epoch; NaN if it diverged). `counts` has a row per
training and counted step: condition, seed, step (optimiser steps so far) and the `COUNTS`.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from analysis.drawing import style, wording
from analysis.drawing.screens import break_if_narrow, entries_in_row, is_narrow
from analysis.exhibit import Exhibit
from analysis.searches import findings
from analysis.searches.paired_seeds import TOO_FEW, paired_interval

HEADING = "Why filters fall silent and collapse"
COUNTS = [f"{kind}_{layer}" for layer in ("conv1", "conv2") for kind in ("silent", "collapsed", "silent_collapsed")]
SETTINGS = [
    "condition", "group", "optimiser", "learning_rate", "warmup_steps", "weight_decay", "filters_conv1", "filters_conv2"
]  # fmt: skip


def show(replicates: pd.DataFrame, counts: pd.DataFrame) -> Iterator[Exhibit]:
    """Why filters fall silent: the figure with the results, then the table of conditions, then the comparisons."""
    table = ends(replicates, counts)
    means, contrasts, note = summary(table), findings.contrasts(table), findings.note(table)
    yield Exhibit(
        "dead_filters",
        HEADING,
        findings.caption(table),
        counts,
        draw(table, counts),
        points=findings.points(table, counts),
        note=note,
        tables={"dead_filters_trainings": table, "dead_filters_means": means},
    )
    heading = f"{HEADING}: every condition"
    yield Exhibit("dead_filters_conditions", heading, caption(table), readable(means), note=CONDITIONS_NOTE)
    heading, text, shown = (
        f"{HEADING}: the comparisons",
        findings.contrasts_caption(contrasts),
        findings.readable(contrasts),
    )
    yield Exhibit("dead_filters_contrasts", heading, text, contrasts, shown=shown, note=note)


CONDITIONS_NOTE = (
    "Means ± standard deviations over the seeds, after the last epoch, on the validation images. Shown to differ: the "
    "95% t interval of the difference, paired by seed and not corrected for their number, leaves out zero."
)


def ends(replicates: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """The replicates with the `COUNTS` of their last step, and `silent_share`, that of the second layer's filters.

    These are NaN for a training that diverged.
    """
    last = counts.sort_values("step").groupby(["condition", "seed"], as_index=False).last()
    table = replicates.merge(last[["condition", "seed", *COUNTS]], on=["condition", "seed"], how="left")
    table[COUNTS] = table[COUNTS].astype(float).mask(table["diverged"])
    return table.assign(silent_share=table["silent_conv2"] / table["filters_conv2"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row per condition of `ends`: its settings, seeds, diverged, and every measure's mean and sd over the seeds.

    The standard deviation of a single seed is NaN.
    """
    measures = [*COUNTS, "val_accuracy"]
    grouped = table.groupby(SETTINGS, sort=False)
    means = grouped.agg(seeds=("seed", "size"), diverged=("diverged", "sum"))
    for name in measures:
        means[f"{name}_mean"], means[f"{name}_sd"] = grouped[name].mean(), grouped[name].std()
    return means.reset_index()


def readable(means: pd.DataFrame) -> pd.DataFrame:
    """A `summary` formatted for the page: a row per condition, each measure as mean ± standard deviation."""
    columns = {
        "silent, first layer": ("silent_conv1", 1, "{:.1f}"),
        "silent, second layer": ("silent_conv2", 1, "{:.1f}"),
        "collapsed, second layer": ("collapsed_conv2", 1, "{:.1f}"),
        "silent and collapsed, second layer": ("silent_collapsed_conv2", 1, "{:.1f}"),
        "validation accuracy, %": ("val_accuracy", 100, "{:.2f}"),
    }
    cells = {
        title: [
            wording.mean_phrase(mean, sd, form, scale)
            for mean, sd in zip(means[f"{name}_mean"], means[f"{name}_sd"], strict=True)
        ]
        for title, (name, scale, form) in columns.items()
    }
    filters = means["filters_conv1"].astype(str) + "/" + means["filters_conv2"].astype(str)
    first = {
        "condition": means["condition"],
        "filters, first/second layer": filters,
        "seeds": means["seeds"],
        "diverged": means["diverged"],
    }
    return pd.DataFrame(first | cells)


def caption(table: pd.DataFrame) -> str:
    """One sentence on `ends`: where the silent share of the second layer is largest, where smallest, and ties."""
    by_seed = table.pivot(index="seed", columns="condition", values="silent_share")
    by_seed = by_seed[table["condition"].unique()].dropna(axis=1, how="all")
    if by_seed.empty:
        return "Every training diverged."
    means = by_seed.mean()
    ends = [str(means.idxmax()), str(means.idxmin())]
    alike = [_alike(by_seed, condition) for condition in ends]
    untested = alike[0] if alike[0] == alike[1] == f"; {TOO_FEW}" else ""
    largest, smallest = (
        f"“{condition}” ({means[condition]:.0%}{'' if untested else clause})"
        for condition, clause in zip(ends, alike, strict=True)
    )
    return f"The silent share of the second layer is largest with {largest} and smallest with {smallest}{untested}."


def _alike(by_seed: pd.DataFrame, condition: str) -> str:
    """A clause: the other conditions from which this one is not shown to differ, paired by seed; empty for none."""
    intervals = {
        str(other): paired_interval(by_seed[condition], by_seed[other])[1:3]
        for other in by_seed.columns.drop(condition)
    }
    if intervals and np.isnan([low for low, _ in intervals.values()]).all():
        return f"; {TOO_FEW}"
    alike = [f"“{other}”" for other, (low, high) in intervals.items() if not (low > 0 or high < 0)]
    return f"; not shown to differ from {wording.several(alike)}" if alike else ""


DECAYS = {
    ("adam", True): ("Adam with L2 inside", style.MODEL_COLOURS["ffnn"]),
    ("adamw", True): ("AdamW, decoupled decay", style.MODEL_COLOURS["cnn"]),
    ("adam", False): ("no decay (Adam = AdamW)", "#009e73"),
}
"""Label and colour by optimiser and whether weights decay; colours of Okabe and Ito's palette (2008)."""
FILTER_COLOURS = ("#e69f00", "#999999", style.INK)
"""Colours, from the fewest filters to the most."""
WIDTHS = (3.4, 2.2, 1.1)
"""Widths of three lines drawn over one another, so that equal ones all stay visible."""
NARROW_LABEL, NARROW_ROW = 24, 0.62
"""Characters in a line of a condition's label, and inches from one condition to the next, on narrow screens."""


@style.styled
def draw(table: pd.DataFrame, counts: pd.DataFrame) -> Figure:
    """Silent (solid) and collapsed (dashed) second-layer filters over the steps, and the final accuracy.

    Lines are means over the seeds, bands span the lowest to the highest seed.

    Args:
        table: see `ends`.
        counts: see the module's docstring.
    """
    curves = counts.merge(table[[*SETTINGS, "seed"]], on=["condition", "seed"])
    optimisers = curves[curves["group"] == "optimiser"]
    rates = _rates(optimisers)
    beside, heights = (1, len(rates)), (3.5, 4.9)
    if is_narrow():
        beside, heights = (len(rates), 1), (1.2 + 2.2 * len(rates), 3.4 + NARROW_ROW * table["condition"].nunique())
    figure = style.figure(style.page_width(), sum(heights))
    # Separate subfigures: the long labels below would push the panels above apart.
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    above, below = parts
    panels = above.subplots(*beside, sharex=True, sharey=True, squeeze=False).flat
    for ax, (rate, warmup) in zip(panels, rates, strict=True):
        rows = optimisers[(optimisers["learning_rate"] == rate) & (optimisers["warmup_steps"] == warmup)]
        _draw_decays(ax, rows, f"Learning rate {rate:g}\n{warmup or 'no'} warm-up steps")
    above.axes[len(rates) // 2 if is_narrow() else 0].set_ylabel(
        f"second-layer filters (of {optimisers['filters_conv2'].max()})"
    )
    if is_narrow():
        first, second = below.subplots(2, 1, height_ratios=(2.6, heights[1] - 2.6))
    else:
        first, second = below.subplots(1, 2, width_ratios=(1, 1.3))
    _draw_filter_counts(first, curves[curves["group"] == "filters"])
    _draw_accuracy(second, table)
    _legend(above)
    _legend_of_marks(below)
    return figure


def _rates(optimisers: pd.DataFrame) -> list[tuple[float, int]]:
    """The pairs of learning rate and warm-up steps, ascending: low, high, high with warm-up."""
    pairs = (
        optimisers[["learning_rate", "warmup_steps"]].drop_duplicates().sort_values(["learning_rate", "warmup_steps"])
    )
    return list(pairs.itertuples(index=False, name=None))


def _draw_decays(ax: Axes, rows: pd.DataFrame, title: str) -> None:
    for width, ((optimiser, decays), (_, colour)) in zip(WIDTHS, DECAYS.items(), strict=True):
        chosen = rows[(rows["optimiser"] == optimiser) & ((rows["weight_decay"] > 0) == decays)]
        _draw_counts(ax, chosen, 1, colour, width)
    ax.set(title=title, ylim=(-1, rows["filters_conv2"].max() + 1))
    _step_axis(ax, rows)


def _draw_filter_counts(ax: Axes, rows: pd.DataFrame) -> None:
    for width, colour, (filters, part) in zip(WIDTHS, FILTER_COLOURS, rows.groupby("filters_conv2"), strict=True):
        _draw_counts(
            ax, part, 100 / part["filters_conv2"].max(), colour, width, f"{part['filters_conv1'].max()}/{filters}"
        )
    line = break_if_narrow()
    ax.set(ylabel=f"share of the{line}second layer's filters (%)", ylim=(-2, 102), title="Too many filters?")
    ax.legend(title="filters, 1st/2nd layer", loc="best")
    _step_axis(ax, rows)


def _draw_counts(ax: Axes, rows: pd.DataFrame, scale: float, colour: str, width: float, label: str = "") -> None:
    for name, dashes in (("silent_conv2", "solid"), ("collapsed_conv2", (0, (3, 2)))):
        seeds = (scale * rows.set_index("step")[name]).groupby(level=0).agg(["mean", "min", "max"])
        look: dict[str, Any] = {"color": colour, "linestyle": dashes, "lw": width, "marker": "o", "ms": width + 1}
        ax.plot(seeds.index, seeds["mean"], label=label if dashes == "solid" else None, **look)
        ax.fill_between(seeds.index, seeds["min"], seeds["max"], color=colour, alpha=0.15, linewidth=0)


def _step_axis(ax: Axes, rows: pd.DataFrame) -> None:
    """Sets a logarithmic axis that includes zero: the changes happen in the first steps."""
    ax.set_xscale("symlog", linthresh=10, linscale=0.5)
    last = int(rows["step"].max())
    # Leaves room for the last tick, the length of a training.
    ax.set_xticks([*(tick for tick in (0, 10, 40, 160, 1000, 4000) if 2 * tick <= last), last], minor=False)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="optimiser steps", xlim=(0, 1.1 * last))
    ax.grid(True)


def _draw_accuracy(ax: Axes, table: pd.DataFrame) -> None:
    """A row per condition: a dot for every seed, with their mean and standard deviation."""
    labels = list(dict.fromkeys(table["condition"]))
    for place, label in enumerate(labels):
        rows = table[table["condition"] == label]
        values, colour = 100 * rows["val_accuracy"].dropna(), _colour(rows.iloc[0])
        if values.empty:
            ax.text(0.02, place, "diverged", transform=ax.get_yaxis_transform(), va="center", color=style.QUIET)
            continue
        ax.scatter(values, np.full(len(values), place - 0.15), s=14, color=colour, alpha=0.6, linewidth=0)
        sd = values.std() if len(values) > 1 else 0.0
        ax.errorbar(values.mean(), place + 0.15, xerr=sd, color=colour, marker="D", ms=4, capsize=2, lw=1.2)
    ax.set_yticks(range(len(labels)), [_in_lines(label) for label in labels], fontsize=8)
    line = break_if_narrow()
    ax.set(ylim=(len(labels) - 0.4, -0.6), xlabel=f"validation accuracy{line}in the end (%)", title="What a cure costs")
    if is_narrow():
        ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.grid(True, axis="x")


def _in_lines(label: str) -> str:
    """A condition's label in two lines, the decay in the second; on a narrow screen in more."""
    settings = re.sub(r"\blr\b", "learning rate", label)
    return textwrap.fill(settings, NARROW_LABEL) if is_narrow() else "\n".join(settings.rsplit(", ", 1))


def _colour(row: pd.Series) -> str:
    if row["group"] == "filters":
        return style.QUIET
    return DECAYS[row["optimiser"], row["weight_decay"] > 0][1]


def _legend(figure: SubFigure) -> None:
    lines: list[Artist] = [Line2D([], [], color=colour, label=words) for words, colour in DECAYS.values()]
    lines += [
        Line2D([], [], color=style.QUIET, label="silent"),
        Line2D([], [], color=style.QUIET, linestyle=(0, (3, 2)), label="collapsed"),
        Patch(color=style.QUIET, alpha=0.3, linewidth=0, label="lowest to highest seed"),
    ]
    figure.legend(handles=lines, loc="outside upper left", ncols=entries_in_row(len(lines)))


def _legend_of_marks(figure: SubFigure) -> None:
    look: dict[str, Any] = {"color": style.QUIET, "linestyle": "none"}
    marks = [
        Line2D([], [], marker="o", ms=4, label="one seed", **look),
        Line2D([], [], marker="D", ms=4, label="mean ± standard deviation over the seeds", **look),
    ]
    figure.legend(handles=marks, loc="outside lower right", ncols=entries_in_row(len(marks)))
