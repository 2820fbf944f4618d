"""Test accuracy of the retrained networks against their number of parameters.

The table `retrained` has a row per finished retraining: model, network (its settings in words), training (the same),
parameters, epochs, trial (its number), search, is_report (whether it is the report's network), seed, and test_accuracy
(0..1) of the last epoch.
"""

import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, label_counts
from analysis.drawing.wording import counted, mean_phrase, model_label, sentence
from analysis.exhibit import Exhibit
from analysis.searches.paired_seeds import Row

HEADING = "Test accuracy against the number of parameters"
OF_NETWORK = ["model", "network", "training", "parameters", "epochs", "trial", "search", "is_report"]
NOTE = (
    "All finished retrainings on this data set whose trials record the number of parameters. Means ± standard "
    "deviations over the seeds of one trial's retrainings with the same number of epochs. A network that is picked "
    "here is chosen by the test images, which favours it: choose by validation accuracy."
)


def is_shown(retrained: pd.DataFrame, model: str) -> bool:
    """Whether the retrained networks of `model` differ in their number of parameters."""
    return bool(retrained.loc[retrained["model"] == model, "parameters"].nunique() > 1)


def show(retrained: pd.DataFrame) -> Exhibit:
    """The networks by size, each with its seeds."""
    table = networks(retrained)
    return Exhibit(
        "network_sizes",
        HEADING,
        caption(table),
        table,
        draw(table, retrained),
        shown=readable(table),
        note=NOTE,
        tables={"network_sizes_seeds": retrained},
    )


def networks(retrained: pd.DataFrame) -> pd.DataFrame:
    """A row per network and training, from the smallest: its columns, and over the seeds those below.

    Returns:
        number (from 1), the columns of `OF_NETWORK`, seeds (how many), test_accuracy_mean, and test_accuracy_sd
        (divisor n − 1; NaN for one seed).
    """
    grouped = retrained.groupby(OF_NETWORK, sort=False)["test_accuracy"]
    table = grouped.agg(seeds="count", test_accuracy_mean="mean", test_accuracy_sd="std").reset_index()
    table = table.sort_values(["parameters", "test_accuracy_mean"], ignore_index=True)
    table.insert(0, "number", range(1, len(table) + 1))
    return table


def caption(table: pd.DataFrame) -> str:
    """One sentence on `networks`: the best, and the smallest that is no worse than the report's."""
    rows = table.to_dict("records")
    report = max((row for row in rows if row["is_report"]), key=lambda row: row["test_accuracy_mean"], default=None)
    if report is None:
        best = max(rows, key=lambda row: row["test_accuracy_mean"])
        return sentence(f"{_named(best)} has the highest mean test accuracy; the report's network was not retrained")
    fitting = [row for row in rows if row["parameters"] <= report["parameters"]]
    best = max(fitting, key=lambda row: row["test_accuracy_mean"])
    reaching = [row for row in rows if row["test_accuracy_mean"] >= report["test_accuracy_mean"]]
    smallest = min(reaching, key=lambda row: (row["parameters"], -row["test_accuracy_mean"]))
    if best is report:
        return f"No network with at most as many parameters is better than the report's, {_named(report)}."
    text = (
        f"Of the networks with at most the report's {report['parameters']:,.0f} parameters ({_accuracy(report)}), "
        f"{_named(best)} has the highest mean test accuracy"
    )
    if smallest is best:
        return f"{text}; no smaller one reaches the report's."
    return f"{text}; the smallest that reaches the report's is {_named(smallest)}."


def _named(row: Row) -> str:
    return f"network {row['number']} with {row['parameters']:,.0f} parameters ({_accuracy(row)})"


def _accuracy(row: Row) -> str:
    return f"{mean_phrase(row['test_accuracy_mean'], row['test_accuracy_sd'], '{:.1f}', 100)}%, n = {row['seeds']}"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`networks` formatted for the page, accuracies in %."""
    rows = [
        {
            "number": row["number"],
            "network": f"{model_label(row['model'])}, {row['network']}",
            "parameters": f"{row['parameters']:,.0f}",
            "trained with": f"{counted(row['epochs'], 'epoch')}, {row['training']}",
            "seeds": row["seeds"],
            "test accuracy, %": mean_phrase(row["test_accuracy_mean"], row["test_accuracy_sd"], "{:.2f}", 100),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


@style.styled
def draw(table: pd.DataFrame, retrained: pd.DataFrame) -> Figure:
    """Accuracy over the number of parameters (logarithmic): seeds as dots, means as numbered marks with their sd.

    Args:
        table: from `networks`.
        retrained: a row per retraining.
    """
    figure = style.figure(style.page_width(), 4.4)
    ax = figure.add_subplot()
    for model, part in table.groupby("model", sort=False):
        colour = style.model_colour(str(model))
        seeds = retrained[retrained["model"] == model]
        ax.scatter(seeds["parameters"], 100 * seeds["test_accuracy"], s=14, color=colour, alpha=0.35, linewidth=0)
        means, spread = 100 * part["test_accuracy_mean"], 100 * part["test_accuracy_sd"].fillna(0)
        label = f"{model_label(model)}, mean ± sd over the seeds"
        ax.errorbar(part["parameters"], means, spread, fmt="D", ms=5, color=colour, capsize=3, lw=1, label=label)
    for row in table.to_dict("records"):
        ax.annotate(
            str(row["number"]),
            (row["parameters"], 100 * row["test_accuracy_mean"]),
            (9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=style.INK,
        )
    of_report = table[table["is_report"]]
    if len(of_report):
        means = 100 * of_report["test_accuracy_mean"]
        label = "the report's network"
        ax.scatter(of_report["parameters"], means, s=130, facecolor="none", edgecolor=style.INK, label=label)
    ax.set(xscale="log", xlabel="parameters of the network", ylabel="test accuracy (%)", title=HEADING)
    ax.margins(x=0.08)
    label_counts(ax.xaxis)
    ax.grid(True, axis="y")
    figure.legend(loc="outside lower center", ncols=entries_in_row(len(ax.get_legend_handles_labels()[1])))
    return figure
