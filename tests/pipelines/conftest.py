import io
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipelines.report import exhibits


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves a report's figures as pictures of one pixel: laying them out and drawing them takes most of an analysis.

    For tests of the report's files, tables and page; those of test_analyse.py draw all figures.
    """
    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, format="png")
    picture = buffer.getvalue()

    def write_figure(folder: Path, name: str, numbers: pd.DataFrame, figure: Figure) -> bytes:
        for kind in ("png", "svg"):
            exhibits.write(folder / f"{name}.{kind}", picture)
        exhibits.write_table(folder, name, numbers)
        return picture

    monkeypatch.setattr(exhibits, "write_figure", write_figure)
    monkeypatch.setattr(exhibits, "narrow_png", lambda figure: None)
