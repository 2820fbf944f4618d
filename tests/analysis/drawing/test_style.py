import matplotlib
import numpy as np

from analysis.drawing.style import figure, picture, style


def test_figures_start_from_matplotlibs_own_settings_whatever_the_users_say():
    users = {"image.origin": "lower", "text.usetex": True, "image.cmap": "jet"}
    with matplotlib.rc_context(users):
        with style():
            made = figure(1, 1)
            ax = made.subplots()
            picture(ax, np.zeros((2, 3, 3), dtype=np.uint8))
            assert ax.images[0].origin == "upper"
            changed = {name for name in users if matplotlib.rcParams[name] != matplotlib.rcParamsDefault[name]}
            assert changed == set()
        # The caller's own are there again.
        assert matplotlib.rcParams["image.origin"] == "lower"
