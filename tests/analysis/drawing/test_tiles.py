import numpy as np
from matplotlib.text import Text

from analysis.drawing import style
from analysis.drawing.tiles import beside, draw_tile, mark, set_map, sheet

SCALE = (-1.0, 1.0), style.DIVERGING


def test_a_long_title_is_wrapped_and_adds_to_the_height_alone():
    short, _ = sheet(6, 2, "a title")
    long, ax = sheet(6, 2, "a title with many words " * 12)
    assert long.get_figwidth() == short.get_figwidth() == 6
    assert long.get_figheight() > short.get_figheight()
    long.draw_without_rendering()
    [title] = [text for text in ax.texts if text.get_text()]
    extent = title.get_window_extent()
    assert 0 < extent.x0 < extent.x1 < long.bbox.x1
    assert ax.transData.transform((0, 0))[1] <= extent.y0 < extent.y1 < long.bbox.y1


def test_a_tile_stands_where_it_is_put_in_inches():
    figure, ax = sheet(6, 2, "a title")
    tile = draw_tile(ax, np.eye(4), 1, 0.5, 1.2, SCALE, "7")
    panel = beside(ax, 1, 0.5, 1.2, 1.2)
    figure.draw_without_rendering()
    box, same = tile.image.get_window_extent(), panel.get_window_extent()
    np.testing.assert_allclose(box.get_points(), same.get_points())
    np.testing.assert_allclose(box.get_points()[0, 0], figure.dpi)
    assert "7" in [text.get_text() for text in figure.findobj(Text)]


def test_a_tile_takes_another_map_and_its_label():
    _, ax = sheet(6, 2, "a title")
    tile = draw_tile(ax, np.zeros((4, 4)), 1, 0.5, 1.2, SCALE)
    assert tile.label.get_text() == "all 0"
    set_map(tile, np.eye(4), SCALE)
    assert tile.label.get_text() == ""
    np.testing.assert_array_equal(tile.image.get_array(), np.eye(4))
    mark(tile, "beyond")
    assert tile.label.get_text() == "beyond"
