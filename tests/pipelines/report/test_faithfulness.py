import shutil
from collections.abc import Iterator

import pandas as pd
import pytest

from pipelines.report import faithfulness, figures
from pipelines.report.material import Material
from pipelines.report.network import Network, pull
from pipelines.session.display import Display
from study.probes import faithfulness as probe
from study.probes.attributions import METHODS


@pytest.fixture
def network(finished_study) -> Iterator[Network]:
    """The retrained CNN; what is kept with its run is removed, since other tests share the run."""
    store, run = finished_study.context.store, finished_study.retrained["cnn"]
    yield pull(store, store.get(run))
    shutil.rmtree(store.root(run) / faithfulness.FOLDER, ignore_errors=True)


def test_what_was_measured_is_kept_with_the_run_and_shown_from_then_on(
    network: Network, finished_study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    few = {name: METHODS[name] for name in ("input_x_gradient", "hirescam2", "guided_backprop")}
    monkeypatch.setattr(probe, "METHODS", few)
    material = Material(network, {"cnn": network}, {"conv1": 0, "conv2": 0}, finished_study.dataset)
    assert "faithfulness" not in {figure.name for figure in figures.available(material)}
    monkeypatch.setattr(faithfulness, "INTERVAL", 0)
    measured = faithfulness.measure(network, finished_study.dataset, Display(), images=4)
    said = capsys.readouterr().out
    assert said.startswith("Measuring on 4 test images which methods can be believed, once for this run: about ")
    assert "faithfulness: 4 of 4 images" in said
    assert measured.table is not None
    assert set(measured.table.loc[~measured.table["control"], "method"]) == set(few)
    assert measured.note.startswith("4 test images, 1 of them with random weights.")
    (figure,) = [figure for figure in figures.available(material) if figure.name == "faithfulness"]
    (shown,) = figures.exhibits(figure, material)
    pd.testing.assert_frame_equal(shown.table, measured.table, atol=1e-6)
    assert shown.points == measured.points
