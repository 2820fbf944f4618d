import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.drawing import style
from analysis.drawing.screens import entries_in_row, label_first, narrow_version, panels
from tests.support.legibility import problems

TITLE = "a title of so many words that no narrow screen has the room to show all of it in one line"


@style.styled
def draw(width: float, rows: int, columns: int) -> Figure:
    figure, axes = panels(width, 4.0, rows, columns, sharex=True, sharey=True)
    for ax in axes.flat:
        ax.plot([0, 1])
        ax.set(title=TITLE[: int(9 * width / columns)], xlabel="epoch")
    label_first(axes[0], "share")
    return figure


def places(figure: Figure) -> np.ndarray:
    """The left and the lower edge of each panel."""
    figure.draw_without_rendering()
    return np.array([ax.get_position().min for ax in figure.axes])


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (1, 4)])
def test_panels_side_by_side_are_stacked_on_a_narrow_screen(rows: int, columns: int):
    wide = draw(style.WIDTH, rows, columns)
    narrow = narrow_version(wide)
    assert narrow is not None
    assert (wide.get_figwidth(), narrow.get_figwidth()) == (style.WIDTH, style.NARROW)
    assert narrow.get_figheight() > wide.get_figheight()
    assert len(np.unique(places(wide)[:, 0].round(3))) == columns
    stacked = places(narrow)
    assert np.ptp(stacked[:, 0]) < 1e-6
    assert (np.diff(stacked[:, 1]) < -0.05).all()
    assert problems(narrow) == []


def test_each_stacked_panel_has_the_label_that_side_by_side_they_share():
    wide = draw(style.WIDTH, 1, 3)
    narrow = narrow_version(wide)
    assert narrow is not None
    assert [ax.get_ylabel() for ax in wide.axes] == ["share", "", ""]
    assert [ax.get_ylabel() for ax in narrow.axes] == ["share"] * 3


def test_columns_of_panels_stay_together():
    with style.narrow_page():
        figure, axes = panels(style.WIDTH, 4.0, 2, 3, height_ratios=[3, 1])
    column = axes[:, 1]
    order = [figure.axes.index(ax) for ax in column]
    assert order == [2, 3]
    high, low = (ax.get_position().height for ax in column)
    assert high == pytest.approx(3 * low)


def test_panels_are_stacked_row_by_row_where_they_are_read_so():
    with style.narrow_page():
        figure, axes = panels(style.WIDTH, 4.0, 2, 3, by_row=True)
    assert [figure.axes.index(ax) for ax in axes.flat] == list(range(6))


def test_a_figure_that_is_narrow_enough_is_not_drawn_again():
    assert narrow_version(draw(3.0, 1, 1)) is None


def test_a_figure_that_cannot_be_narrower_is_not_drawn_again():
    @style.styled
    def draw_wide() -> Figure:
        return style.figure(9.0, 2.0)

    assert narrow_version(draw_wide()) is None
    assert narrow_version(Figure(figsize=(9, 2))) is None


def test_the_page_is_wide_again_after_a_narrow_figure():
    assert narrow_version(draw(style.WIDTH, 1, 2)) is not None
    assert style.page_width() == style.WIDTH
    assert entries_in_row(4) == 4
    with style.narrow_page():
        assert entries_in_row(4) == 1
        assert entries_in_row(4, most=2) == 2
    assert entries_in_row(4) == 4


def test_dollar_signs_stay_plain_text_on_a_narrow_screen():
    @style.styled
    def draw_costs() -> Figure:
        figure, ((left, right),) = panels(style.WIDTH, 3.0, 1, 2)
        left.set_xticks([0], ["$_{100%}$"])
        right.set_title("$x^2$")
        return figure

    narrow = narrow_version(draw_costs())
    assert narrow is not None
    assert problems(narrow) == []
    assert not any(text.get_parse_math() for text in narrow.findobj(Text))
