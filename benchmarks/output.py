"""Output of the benchmarks: a table, and the same figures as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table."""
    table = Table(*columns, title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    Console(width=None if Console().is_terminal else 140, highlight=False).print(table)


def conclude(figures: Mapping[str, Any], file: Path | None) -> None:
    """Prints the figures, and writes them to `file` as JSON if it is given."""
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"{name}: {value:.4g}")
        elif not isinstance(value, list | dict):
            print(f"{name}: {value}")
    if file:
        file.write_text(json.dumps(figures, indent=2) + "\n")
