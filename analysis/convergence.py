"""How accuracy and loss converge over the epochs: the report's Figure 7."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import style

COLUMNS = ["model", "split", "metric", "epoch", "value"]
METRICS = {"accuracy": "accuracy (%)", "loss": "cross-entropy loss"}
SPLITS = {"train": "train (running mean over the epoch)", "test": "test (after the epoch)"}
_DASHES = {"train": (0, (4, 2)), "test": "solid"}


def convergence(histories: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The histories as one tidy table: model, split, metric (``accuracy`` or ``loss``), epoch, value.

    Args:
        histories: by the model's name, tables with the column epoch and any of train_accuracy, test_accuracy (0..1),
            train_loss, test_loss. NaN, as at epoch 0, before anything was trained, gives no row.
    """
    parts = [
        history[["epoch", f"{split}_{metric}"]]
        .set_axis(["epoch", "value"], axis=1)
        .assign(model=model, split=split, metric=metric)
        for model, history in histories.items()
        for metric in METRICS
        for split in SPLITS
        if f"{split}_{metric}" in history
    ]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts)[COLUMNS].dropna(subset="value").reset_index(drop=True)


def caption(table: pd.DataFrame) -> str:
    """One sentence: each model's accuracy at its last epoch, and its best on the test images."""
    accuracy = table[table["metric"] == "accuracy"]
    said = [_of_model(name, part) for name, part in accuracy.groupby("model", sort=False)]
    return f"{'; '.join(said)}." if said else "No accuracy was recorded."


def _of_model(name: object, accuracy: pd.DataFrame) -> str:
    last = accuracy[accuracy["epoch"] == accuracy["epoch"].max()]
    values = " and ".join(f"{row.value:.1%} on the {row.split} images" for row in last.itertuples())
    said = f"{str(name).upper()}: accuracy {values} at epoch {last['epoch'].iloc[0]}"
    test = accuracy[accuracy["split"] == "test"]
    if test.empty:
        return said
    top = test.sort_values("value", ascending=False, kind="stable").iloc[0]
    return f"{said} (highest on test: {top['value']:.1%} at epoch {top['epoch']})"


@style.styled
def draw_convergence(table: pd.DataFrame) -> Figure:
    """Accuracy and loss over the epochs, test solid and train dashed, a colour for each model.

    The training values are means over an epoch while the weights still move, so they lag behind the test values.
    """
    metrics = [metric for metric in METRICS if (table["metric"] == metric).any()]
    made = style.figure(style.WIDTH if len(metrics) != 1 else 6.5, 4.0)
    if not metrics:
        style.say(made.add_subplot(), "No accuracy or loss was recorded.")
        return made
    axes = np.atleast_1d(made.subplots(1, len(metrics)))
    for ax, metric in zip(axes, metrics, strict=True):
        _draw_metric(ax, table[table["metric"] == metric])
        ax.set(xlabel="epoch", ylabel=METRICS[metric], title=metric.capitalize())
    lines = {line.get_label(): line for ax in axes for line in ax.lines}
    made.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2)
    return made


def _draw_metric(ax: Axes, table: pd.DataFrame) -> None:
    scale = 100 if table["metric"].iloc[0] == "accuracy" else 1
    for (model, split), part in table.groupby(["model", "split"], sort=False):
        ax.plot(
            part["epoch"],
            scale * part["value"],
            color=style.model_colour(str(model)),
            linestyle=_DASHES[str(split)],
            marker="o" if len(part) < 4 else None,
            markersize=4,
            label=f"{str(model).upper()}, {SPLITS[str(split)]}",
        )
    ax.grid(True)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
