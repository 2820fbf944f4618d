"""Convergence of accuracy and loss over the epochs, and its spread over seeds: the report's Figure 7."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, panels
from analysis.drawing.wording import counted, listed, mean_phrase, model_label, several
from analysis.exhibit import Exhibit

COLUMNS = ["model", "split", "metric", "epoch", "value"]
METRICS = {"accuracy": "accuracy (%)", "loss": "cross-entropy loss"}
SPLITS = {"train": "train (mean over the epoch)", "test": "test (after the epoch)"}
STABLE = 5
"""The epoch after which Wik (2023) saw the accuracy stable."""
_DASHES = {"train": (0, (4, 2)), "test": "solid"}


def show(histories: dict[str, pd.DataFrame], accuracies: pd.DataFrame, commands: Mapping[str, str]) -> list[Exhibit]:
    """Loss and accuracy over the epochs, and the final accuracy over seeds.

    Args:
        histories: see `convergence`.
        accuracies: see `seeds_table`.
        commands: by model, the command that adds two seeds; only models trained with one seed.
    """
    hints = [
        f"The {model_label(model)} was trained with one seed: `{command}` adds two."
        for model, command in commands.items()
    ]
    table, spread = convergence(histories), seeds_table(accuracies)
    trained = spread[spread["split"] == "train"].dropna(subset="mean")
    after = dict(zip(trained["model"], trained["mean"], strict=True))
    heading, text, figure = "Convergence (Figure 7)", caption(table, after), draw_convergence(table)
    of_seeds, shown = seeds_caption(spread), seeds_readable(spread)
    return [
        Exhibit("convergence", heading, text, table, figure, points=stable_points(table), note=note(table)),
        Exhibit("seeds", "The final accuracy over seeds", of_seeds, spread, shown=shown, points=hints),
    ]


def convergence(histories: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The training histories as one tidy table: model, split, metric (``accuracy`` or ``loss``), epoch, value.

    Args:
        histories: by model, tables with the column epoch and any of train_accuracy, test_accuracy (0..1), train_loss,
            test_loss. NaN, as at epoch 0 before training, gives no row. A model trained with several seeds has the
            rows of all of them and the column seed, which is kept.
    """
    parts = [
        history.rename(columns={f"{split}_{metric}": "value"}).assign(model=model, split=split, metric=metric)
        for model, history in histories.items()
        for metric in METRICS
        for split in SPLITS
        if f"{split}_{metric}" in history
    ]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    seeded = ["seed"] if any("seed" in part for part in parts) else []
    table = pd.concat(parts)[[*COLUMNS[:2], *seeded, *COLUMNS[2:]]]
    return table.dropna(subset="value").reset_index(drop=True)


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """A `convergence` table averaged over seeds: model, split, metric, epoch, seeds (how many), mean, deviation.

    The standard deviation divides by n − 1, and is NaN for a single seed.
    """
    grouped = table.groupby(["model", "split", "metric", "epoch"], sort=False)["value"]
    return grouped.agg(seeds="count", mean="mean", deviation="std").reset_index()


def caption(table: pd.DataFrame, after: Mapping[str, float]) -> str:
    """One sentence: each model's accuracy at its last epoch, and its highest test accuracy.

    Args:
        table: see `convergence`.
        after: by model, the accuracy on the training images after the last epoch, as far as it was measured.
    """
    accuracy = over_seeds(table[table["metric"] == "accuracy"])
    phrases = [
        _describe(str(name), part, after.get(str(name), np.nan)) for name, part in accuracy.groupby("model", sort=False)
    ]
    return f"{'; '.join(phrases)}." if phrases else "No accuracy was recorded."


def stable_points(table: pd.DataFrame) -> list[str]:
    """A sentence: between which values the test accuracy lies from epoch `STABLE` on; none for shorter trainings."""
    accuracy = over_seeds(table[(table["metric"] == "accuracy") & (table["split"] == "test")])
    ranges = [
        f"{late['mean'].min():.1%} and {late['mean'].max():.1%} ({model_label(name)})"
        for name, part in accuracy.groupby("model", sort=False)
        if len(late := part[part["epoch"] >= STABLE]) > 1
    ]
    saw = f"Wik (2023) saw the accuracy stable after epoch {STABLE}"
    return [f"{saw}: from it on, the test accuracy here lies between {listed(ranges)}."] if ranges else []


def note(table: pd.DataFrame) -> str:
    """What ± and the bands are, if there are any, and how the values are measured."""
    has_seeds = table.groupby("model")["seed"].nunique().gt(1).any() if len(table) else False
    spread = "The ± and the bands are standard deviations over seeds. " if has_seeds else ""
    return f"{spread}{MEASURED}"


MEASURED = (
    "A training value of the curves is the mean over an epoch while the weights still move; in Wik (2023) it was "
    "measured after the epoch, as the test values are here. The highest test accuracy is known only in hindsight, and "
    "chose no epoch."
)


def _describe(name: str, accuracy: pd.DataFrame, after: float) -> str:
    last = accuracy[accuracy["epoch"] == accuracy["epoch"].max()]
    how = {"train": " over the epoch" + ("" if np.isnan(after) else f" ({after:.1%} after it)"), "test": ""}
    values = " and ".join(
        f"{_mean_and_deviation(row)} on the {row['split']} images{how[row['split']]}" for row in last.to_dict("records")
    )
    seeds = f" ({last['seeds'].max()} seeds)" if last["seeds"].max() > 1 else ""
    text = f"{model_label(name)}{seeds}: accuracy {values} at epoch {last['epoch'].iloc[0]}"
    test = accuracy[accuracy["split"] == "test"]
    if test.empty:
        return text
    top = test.loc[test["mean"] == test["mean"].max(), "epoch"]
    epochs = f"epoch{'s' if len(top) > 1 else ''} {several([str(epoch) for epoch in top])}"
    return f"{text} (highest on test: {test['mean'].max():.1%} at {epochs})"


def _mean_and_deviation(row: Mapping[Hashable, Any]) -> str:
    """A mean share, with its standard deviation if it has one: ``71.0%``, ``71.02% ± 0.31%``."""
    mean, deviation = row["mean"], row["deviation"]
    return f"{mean:.1%}" if np.isnan(deviation) else f"{mean:.2%} ± {deviation:.2%}"


@style.styled
def draw_convergence(table: pd.DataFrame) -> Figure:
    """Accuracy and loss over the epochs: test solid, train dashed, one colour per model.

    Several seeds are drawn as their mean, with a band of ± one standard deviation. The training values are means over
    an epoch while the weights still change.
    """
    metrics = [metric for metric in METRICS if (table["metric"] == metric).any()]
    figure, (axes,) = panels(style.WIDTH if len(metrics) != 1 else 6.5, 4.0, 1, max(1, len(metrics)))
    if not metrics:
        style.placeholder(axes[0], "No accuracy or loss was recorded.")
        return figure
    for ax, metric in zip(axes, metrics, strict=True):
        _draw_metric(ax, over_seeds(table[table["metric"] == metric]))
        ax.set(xlabel="epoch", ylabel=METRICS[metric], title=metric.capitalize())
    lines = {line.get_label(): line for ax in axes for line in ax.lines}
    banded = any(ax.collections for ax in axes)
    title = "band: mean ± one standard deviation over the seeds" if banded else None
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=entries_in_row(2), title=title)
    return figure


def _draw_metric(ax: Axes, table: pd.DataFrame) -> None:
    scale = 100 if table["metric"].iloc[0] == "accuracy" else 1
    for (model, split), part in table.groupby(["model", "split"], sort=False):
        colour, seeds = style.model_colour(str(model)), part["seeds"].max()
        words = f", mean of n = {seeds} seeds" if seeds > 1 else ""
        ax.plot(
            part["epoch"],
            scale * part["mean"],
            color=colour,
            linestyle=_DASHES[str(split)],
            marker="o" if len(part) < 4 else None,
            markersize=4,
            # A single epoch has no line to tell the splits by.
            markerfacecolor=style.PAPER if split == "train" else colour,
            label=f"{model_label(model)}, {SPLITS[str(split)]}{words}",
        )
        if seeds > 1:
            low, high = (scale * (part["mean"] + sign * part["deviation"]) for sign in (-1, 1))
            ax.fill_between(part["epoch"], low, high, color=colour, alpha=0.2, linewidth=0)
    ax.grid(True)
    style.tick_epochs(ax, table["epoch"].unique().astype(int).tolist())


def seeds_table(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of the final accuracy over seeds (divisor n − 1; NaN for a single seed).

    Args:
        accuracies: a table of model, split, seed, accuracy.

    Returns:
        model, split, seeds (how many), mean, deviation, lowest, highest.
    """
    grouped = accuracies.groupby(["model", "split"], sort=False)["accuracy"]
    return grouped.agg(seeds="count", mean="mean", deviation="std", lowest="min", highest="max").reset_index()


def seeds_readable(table: pd.DataFrame) -> pd.DataFrame:
    """A `seeds_table` formatted for the page, accuracies in %."""
    rows = [
        {
            "model": model_label(row["model"]),
            "images": row["split"],
            "seeds": row["seeds"],
            "final accuracy, %": mean_phrase(row["mean"], row["deviation"], "{:.2f}", 100),
            "lowest, %": f"{100 * row['lowest']:.2f}",
            "highest, %": f"{100 * row['highest']:.2f}",
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


def seeds_caption(table: pd.DataFrame) -> str:
    """One sentence: each model's final accuracy on the test images over its seeds."""
    phrases = [
        f"{model_label(row['model'])} {_mean_and_deviation(row)} ({counted(row['seeds'], 'seed')})"
        for row in table[table["split"] == "test"].to_dict("records")
    ]
    return f"Final test accuracy, mean ± standard deviation: {', '.join(phrases)}."
