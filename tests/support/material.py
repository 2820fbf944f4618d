"""Writes selected figures of the report."""

from collections.abc import Collection
from pathlib import Path

from pipelines.report import figures
from pipelines.report.exhibits import Report
from pipelines.report.material import Material


def written(material: Material, folder: Path, names: Collection[str]) -> Report:
    """A report of those of the figures `names` that are available for the run."""
    report = Report(folder)
    for figure in figures.available(material):
        if figure.name in names:
            for exhibit in figures.exhibits(figure, material):
                report.add(exhibit)
    return report
