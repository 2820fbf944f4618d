import matplotlib
import numpy as np

from analysis.drawing.style import class_fills, class_lines, figure, picture, style


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


def test_no_two_classes_of_a_hundred_look_the_same():
    names = [str(number) for number in range(100)]
    for looks in (class_lines(names), class_fills(names)):
        assert list(looks) == names
        assert len({repr(look) for look in looks.values()}) == 100


def test_the_lines_of_ten_classes_differ_in_more_than_colour():
    looks = class_lines([str(number) for number in range(10)])
    assert {look["linestyle"] for look in list(looks.values())[:5]}.isdisjoint(
        look["linestyle"] for look in list(looks.values())[5:]
    )
