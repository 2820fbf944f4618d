"""A figure is one module of `analysis` and one row, as docs/add-a-figure.md says: its own code is run here."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from analysis import results
from analysis.drawing import style
from pipelines.analyse import analyse
from pipelines.config import AnalysisConfig
from pipelines.report import figures
from pipelines.report.material import Material
from pipelines.report.needs import Need
from pipelines.report.network import pull
from study.errors import StudyError
from tests.conftest import Finished
from tests.support.legibility import problems_on_screens
from tests.support.recipes import changes

DOCS = Path(__file__).parents[3] / "docs" / "add-a-figure.md"
ONLY = AnalysisConfig(only=("sureness",))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the documentation, as it stands."""
    [code] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    sureness: Any = ModuleType("analysis.results.sureness")
    exec(code, vars(sureness))
    monkeypatch.setitem(sys.modules, sureness.__name__, sureness)
    monkeypatch.setattr(results, "sureness", sureness, raising=False)
    return sureness


@pytest.fixture
def added(module: Any, monkeypatch: pytest.MonkeyPatch) -> figures.Figure:
    """The figure of the documentation, in the table."""
    source = Path(figures.__file__).read_text()
    (_, before, imported), (_, at, rows) = changes(DOCS)
    assert source.count(before) == source.count(at) == 1
    names: dict[str, Any] = {}
    exec(imported, names)
    figure = eval(f"({rows})", {**vars(figures), **names})[-1]
    assert isinstance(figure, figures.Figure)
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES, figure))
    return figure


def test_the_documented_figure_looks_like_all_others(module: Any):
    logits = np.array([[3.0, 0.0], [0.0, 1.0]])
    figure = module.show({name: (logits, np.array([0, 1])) for name in ("cnn", "ffnn")}).figure
    [ax] = figure.axes
    assert [bar.get_facecolor() for bar in ax.patches] == [
        to_rgba(style.model_colour(name)) for name in ("cnn", "ffnn")
    ]
    assert ax.get_xlabel() == "mean probability of the predicted class (%)"
    assert not ax.spines["top"].get_visible()
    assert problems_on_screens(figure) == []


def test_the_documented_figure_is_drawn_named_and_put_in_its_part(added: figures.Figure, finished_study: Finished):
    analysis = analyse("best", ONLY, finished_study.context, data=finished_study.dataset)
    folder, html = analysis.page.parent, analysis.page.read_text()
    assert {"sureness.png", "sureness.svg", "sureness.csv"} <= {file.name for file in folder.iterdir()}
    assert set(pd.read_csv(folder / "sureness.csv")["model"]) == {"cnn", "ffnn"}
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", html)[0] == figures.RESULTS
    assert "<h3>How sure the models are</h3>" in html


def test_what_a_row_needs_and_is_not_there_is_named(
    added: figures.Figure, finished_study: Finished, monkeypatch: pytest.MonkeyPatch
):
    lacking = Need(lambda material: False, lambda material: "Nothing was kept.")
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES[:-1], replace(added, needs=(lacking,))))
    with pytest.raises(StudyError, match=r"Left out: sureness\. Nothing was kept\."):
        analyse("best", ONLY, finished_study.context, data=finished_study.dataset, again=True)
    monkeypatch.setattr(
        figures, "FIGURES", (*figures.FIGURES[:-1], replace(added, needs=(Need(lambda material: False),)))
    )
    with pytest.raises(StudyError, match=r"This run has no sureness"):
        analyse("best", ONLY, finished_study.context, data=finished_study.dataset, again=True)


def test_a_figure_may_be_called_as_its_file_is():
    files = ("correlation", "covariance", "kernel_conv2_filter12", "table2_intervals")
    assert figures.names_of(files) == ("covariance", "kernel_conv2", "table2")
    with pytest.raises(StudyError, match=r"'fog_filter2'.*confusion.*, seeds,"):
        figures.names_of(["fog_filter2"])


def test_before_a_run_is_chosen_a_figure_of_any_layer_of_any_network_is_possible():
    figures.require_possible(["table2", "kernels_conv17", "grid_relu20_filter3", "maps_relu4"])
    with pytest.raises(StudyError, match=r"'kernels_fog1'.*, seeds,.*kernels_conv1"):
        figures.require_possible(["table2", "kernels_fog1"])


def test_every_name_stands_once_and_every_part_in_one_piece():
    assert len(set(figures.names())) == len(figures.names())
    parts = [figure.part for figure in figures.FIGURES]
    assert sorted(parts, key=figures.parts().index) == parts


def test_an_experiment_that_was_not_run_is_named_with_its_command(finished_study: Finished):
    store = finished_study.context.store
    network = pull(store, store.get(finished_study.retrained["ffnn"]))
    [winner] = (figure for figure in figures.FIGURES if figure.name == "winner")
    [exhibit] = figures.exhibits(winner, Material(network, {}, where=("--home", "/a folder")))
    assert "`study experiment winner --dataset digits --model ffnn --home '/a folder'`" in exhibit.text
