"""Figures and tables as files: the picture, and beside it its numbers."""

import io
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

DOTS_PER_INCH = 150


def png(figure: Figure) -> bytes:
    """The figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def write_figure(folder: Path, name: str, numbers: pd.DataFrame, figure: Figure) -> bytes:
    """Writes `name.png` and `name.csv` to `folder`, and returns the picture."""
    picture = png(figure)
    (folder / f"{name}.png").write_bytes(picture)
    write_table(folder, name, numbers)
    return picture


def write_table(folder: Path, name: str, numbers: pd.DataFrame) -> None:
    """Writes `name.csv` to `folder`, with as many digits as float32 has."""
    numbers.to_csv(folder / f"{name}.csv", index=False, float_format="%.9g")
