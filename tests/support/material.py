"""Figures of the report, made one by one from what is at hand."""

from collections.abc import Collection
from pathlib import Path

from pipelines.report import figures
from pipelines.report.exhibits import Report
from pipelines.report.material import Material


def written(material: Material, folder: Path, names: Collection[str]) -> Report:
    """A report of the figures `names`, as far as the run has them."""
    report, steps = Report(folder), figures.steps(material)
    for name in (name for name in steps if name in names):
        for exhibit in steps[name]():
            report.add(exhibit)
    return report
