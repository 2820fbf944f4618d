import matplotlib
import numpy as np

from analysis.drawing.style import figure, picture, style, tick_epochs
from tests.support.legibility import problems


def test_figures_start_from_matplotlibs_own_settings_whatever_the_users_say():
    users = {"image.origin": "lower", "text.usetex": True, "image.cmap": "jet"}
    with matplotlib.rc_context(users):
        with style():
            drawn = figure(1, 1)
            ax = drawn.subplots()
            picture(ax, np.zeros((2, 3, 3), dtype=np.uint8))
            assert ax.images[0].origin == "upper"
            changed = {name for name in users if matplotlib.rcParams[name] != matplotlib.rcParamsDefault[name]}
            assert changed == set()
        # The caller's own are there again.
        assert matplotlib.rcParams["image.origin"] == "lower"


def test_the_last_epoch_is_ticked_and_no_other_tick_is_close_to_it():
    for last in (1, 3, 10, 17, 30, 31, 100):
        ax = figure(4, 2).subplots()
        tick_epochs(ax, range(last + 1))
        ticks = ax.get_xticks()
        assert (ticks[0], ticks[-1]) == (0, last)
        assert np.diff(ticks).min() >= 0.1 * last
        assert (ticks == ticks.round()).all()


def test_texts_that_overlap_or_are_cut_off_are_found():
    drawn = figure(4, 2)
    drawn.set_layout_engine("none")
    drawn.text(0.1, 0.5, "a text that is read")
    assert problems(drawn) == []
    drawn.text(0.15, 0.5, "another")
    drawn.text(0.9, 0.9, "beyond the edge")
    assert problems(drawn) == ["'beyond the edge' is cut off", "'a text that is read' overlaps 'another'"]
