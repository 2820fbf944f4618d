"""A figure is one module of `analysis` and one row, as docs/add-a-figure.md says: its own code is run here."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from pipelines.analyse import analyse
from pipelines.report import figures
from study.config import AnalysisConfig
from study.errors import StudyError
from tests.conftest import Finished

DOCS = Path(__file__).parents[3] / "docs" / "add-a-figure.md"
ONLY = AnalysisConfig(only=("sureness",))


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> figures.Figure:
    """The figure of the documentation, in the table."""
    module, row = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(module, names)  # what a reader is told to write is tried as it stands
    figure = eval(row.replace("sureness.show", "show"), {**vars(figures), "show": names["show"], "partial": partial})
    assert isinstance(figure, figures.Figure)
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES, figure))
    return figure


def test_the_documented_figure_is_drawn_named_and_put_in_its_part(added: figures.Figure, finished_study: Finished):
    made = analyse("best", ONLY, finished_study.context, loaded=finished_study.dataset)
    folder, html = made.page.parent, made.page.read_text()
    assert {"sureness.png", "sureness.svg", "sureness.csv"} <= {file.name for file in folder.iterdir()}
    assert set(pd.read_csv(folder / "sureness.csv")["model"]) == {"cnn", "ffnn"}
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", html)[0] == figures.RESULTS
    assert "<h3>How sure the models are</h3>" in html


def test_what_a_row_needs_and_is_not_there_is_named(
    added: figures.Figure, finished_study: Finished, monkeypatch: pytest.MonkeyPatch
):
    lacking = figures.Need(lambda material: False, lambda material: "Nothing was kept.")
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES[:-1], replace(added, needs=(lacking,))))
    with pytest.raises(StudyError, match=r"Left out: sureness\. Nothing was kept\."):
        analyse("best", ONLY, finished_study.context, loaded=finished_study.dataset)
    monkeypatch.setattr(
        figures, "FIGURES", (*figures.FIGURES[:-1], replace(added, needs=(figures.Need(lambda material: False),)))
    )
    with pytest.raises(StudyError, match=r"This run has no sureness"):
        analyse("best", ONLY, finished_study.context, loaded=finished_study.dataset)
