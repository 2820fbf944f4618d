import matplotlib
import numpy as np
import pytest

from analysis.drawing.style import figure, picture, plain_logarithms, style, tick_epochs
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


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((7e-5, 0.2), ["0.0001", "0.001", "0.01", "0.1"]),
        ((7e-6, 2), ["1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1e0"]),
        ((1.1e-5, 4e-5), ["2e-5", "3e-5", "4e-5"]),
    ],
)
def test_a_logarithmic_axis_has_labels_of_one_kind(limits: tuple[float, float], labels: list[str]):
    ax = figure(4, 2).add_subplot(xscale="log", xlim=limits)
    plain_logarithms(ax.xaxis)
    ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    assert [text.get_text() for tick, text in ticks if limits[0] <= tick <= limits[1]] == labels
