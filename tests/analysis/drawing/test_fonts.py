from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.drawing import fonts
from analysis.drawing.style import figure, styled

CHARACTER, OUTLINELESS = "\U00016f00", "\U00016f01"
"""Miao letters, which hardly any machine has a font for."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A font of one letter with a shape, and one without, that is installed after matplotlib listed the fonts."""
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "letter", "empty"])
    builder.setupCharacterMap({ord(CHARACTER): "letter", ord(OUTLINELESS): "empty"})
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (500, 700), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    empty = TTGlyphPen(None).glyph()
    builder.setupGlyf({".notdef": empty, "letter": pen.glyph(), "empty": empty})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "letter", "empty"), (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Study Miao", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "miao.ttf"
    builder.save(path)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(path)])
    return "Study Miao"


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been looked for yet."""
    monkeypatch.setattr(fonts, "_families", [fonts.FIRST])
    monkeypatch.setattr(fonts, "_drawn", set())
    monkeypatch.setattr(fonts, "_lacking", set())


def test_what_dejavu_has_needs_no_other_font():
    assert fonts.undrawable("cat é שלום مرحبا \u200d\ufe0f\n") == set()
    assert fonts.families() == ["DejaVu Sans"]


def test_a_character_that_no_font_has_is_undrawable_whatever_the_last_resort_says():
    assert fonts.undrawable(f"a{CHARACTER}") == {CHARACTER}
    assert fonts.families() == ["DejaVu Sans"]


def test_a_font_that_has_the_character_is_found_although_matplotlib_has_not_listed_it(installed: str):
    assert fonts.undrawable(f"a{CHARACTER}{OUTLINELESS}") == {OUTLINELESS}
    assert fonts.families() == ["DejaVu Sans", installed]


@styled
def drawn(text: str):
    result = figure(2, 1)
    result.text(0.1, 0.5, text, fontsize=30)
    return result


def test_figures_draw_the_character_with_that_font(installed: str):
    def filled() -> float:
        """The inked share of the rectangle around the ink."""
        canvas = FigureCanvasAgg(drawn(CHARACTER))
        canvas.draw()
        ink = np.asarray(canvas.buffer_rgba())[..., 0] < 128
        return float(ink[np.ix_(ink.any(axis=1), ink.any(axis=0))].mean())

    assert filled() < 0.9
    assert fonts.undrawable(CHARACTER) == set()
    assert filled() > 0.99


def test_a_missing_glyph_gives_no_warning(recwarn: pytest.WarningsRecorder):
    FigureCanvasAgg(drawn(CHARACTER)).draw()
    assert not recwarn
