import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.analyse import analyse
from pipelines.config import AnalysisConfig
from tests.conftest import Finished

Analyse = Callable[..., Path]


@pytest.fixture
def analysed(finished_study: Finished) -> Iterator[Analyse]:
    """Analyses the finished study's CNN, and returns the report's folder; the reports are gone afterwards."""
    context, reports = finished_study.context, finished_study.context.home.reports
    before = reports.rename(reports.with_name("reports of other tests")) if reports.exists() else None

    def run(config: AnalysisConfig, **more: bool) -> Path:
        analysis = analyse("best", config, context, data=finished_study.dataset, **more)
        assert analysis.missing == ()
        return analysis.page.parent

    yield run
    shutil.rmtree(reports, ignore_errors=True)
    if before:
        before.rename(reports)
