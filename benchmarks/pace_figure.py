"""The figure of the coordination benchmark: trials a second by workers, and what limits them.

python -m benchmarks.pace_figure coordination.json pace.png   # from what the benchmark wrote
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.drawing.style import CLASS_COLOURS, INK, QUIET, figure, plain_logarithms, styled
from benchmarks.coordination_worker import CONFIG

Row = dict[str, float]


def whole(row: Row) -> float:
    """Milliseconds of processor time of a worker for a trial with all its epochs."""
    return row["trial"] + CONFIG.epochs * row["epoch"]


def draw(rows: Sequence[Row], pause: float, cores: int, file: Path) -> None:
    """Draws the rows with the most frequent number of finished trials into `file`."""
    numbers = [row["finished"] for row in rows]
    usual = max(numbers, key=numbers.count)
    pace_by_workers([row for row in rows if row["finished"] == usual], CONFIG.epochs * pause, cores).savefig(
        file, dpi=150
    )


@styled
def pace_by_workers(rows: Sequence[Row], length: float, cores: int) -> Figure:
    """Trials a second by number of workers, measured, and as processor times allow.

    Args:
        rows: what was measured, by increasing numbers of workers.
        length: seconds for which a trial sleeps.
        cores: processor cores, which workers and servers share.
    """
    first = rows[0]
    used = {"workers": whole(first), "MLflow's server": first["mlflow"], "PostgreSQL": first["postgresql"]}
    most = 1000 * cores / sum(used.values())
    counts = [int(row["workers"]) for row in rows]
    drawn = figure(7.0, 3.6)
    ax = drawn.add_subplot()
    own = length + sum(used.values()) / 1000
    # Beyond the number of workers with which the processor is at its limit.
    line = np.geomspace(counts[0], max(counts[-1], 2 * most * own), 200)
    ax.plot(line, np.minimum(line / own, most), color=INK, label="cost model, an idle machine")
    ax.axhline(most, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.plot(counts, [row["pace"] for row in rows], "o", color=CLASS_COLOURS[0], label="measured")
    parts = " + ".join(f"{name} {value:.0f}" for name, value in used.items())
    ax.annotate(
        f"limit: the processor ({cores} cores; {parts} ms a trial)",
        (counts[0], most),
        xytext=(0, 5),
        textcoords="offset points",
        color="#555555",
        fontsize=8,
    )
    ax.set(xscale="log", yscale="log", xlabel="workers", ylabel="trials per second")
    ax.set_title(f"Trials of {length:g} s that only sleep; workers and servers on one machine of {cores} cores")
    ax.set_ylim(top=2 * most)
    ax.xaxis.set_major_locator(FixedLocator([2**power for power in range(20) if counts[0] <= 2**power <= line[-1]]))
    ax.xaxis.set_minor_locator(NullLocator())
    for axis in (ax.xaxis, ax.yaxis):
        plain_logarithms(axis)
    ax.legend(loc="lower right")
    return drawn


def main(figures: Path, file: Path, cores: int = 2) -> None:
    """Draw the figure from the benchmark's JSON file."""
    measured = json.loads(figures.read_text())
    draw(measured["rows"], measured["pause"], cores, file)


if __name__ == "__main__":
    typer.run(main)
