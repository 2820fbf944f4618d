"""Colour-blind readers can tell the colours of the figures apart; by simulation, see `tests.support.colour_vision`."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pytest

from analysis.drawing import style
from analysis.explanations import circuit_picture, confusions, faithfulness, influence, over_epochs, sensitivity
from analysis.filters import health_picture, image_ablation
from analysis.images import distance
from analysis.layers import operations
from analysis.searches import dead_filters
from tests.support.colour_vision import VISIONS, seen, smallest_difference

APART = 15
"""Smallest distance in CIE Lab between two lines or fills that nothing but the colour tells apart."""
PALETTES = {
    "models": tuple(style.MODEL_COLOURS.values()),
    "classes, solid": style.CLASS_COLOURS[:5],
    "classes, dashed": style.CLASS_COLOURS[5:],
    "states of filters": tuple(health_picture.STATES.values()),
    "channels": tuple(distance.CHANNEL_COLOURS.values()),
    "directions": tuple(colour for colour, _ in distance.DIRECTION_LOOKS),
    "places of a kernel": operations.MARKS,
    "for and against": (image_ablation.FOR, image_ablation.AGAINST),
    "shares of a circuit": (circuit_picture.FOR, circuit_picture.AGAINST),
    "groups of images": confusions.COLOURS,
    "same and other class": (influence.SAME, influence.OTHER),
    "what settles": tuple(colour for _, colour in over_epochs.LINES.values()),
    "maps that move": sensitivity.MAP_COLOURS,
    "infills": tuple(colour for _, colour, _ in faithfulness.INFILLS.values()),
    "decays": tuple(colour for _, colour in dead_filters.DECAYS.values()),
    "numbers of filters": dead_filters.FILTER_COLOURS,
}
blind = pytest.mark.parametrize("vision", VISIONS)


def lightness(name: str, vision: str) -> np.ndarray:
    return seen(matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3], vision)[:, 0]


def test_greys_look_the_same_to_everybody() -> None:
    greys = np.linspace(0, 1, 11)[:, None] * np.ones(3)
    for vision in VISIONS:
        np.testing.assert_allclose(seen(greys, vision), seen(greys, "ordinary"), atol=0.1)


def test_red_and_green_are_confused_without_the_cones_for_one_of_them() -> None:
    pair = ["#c1272d", "#2e8b3d"]
    assert smallest_difference(pair, "ordinary") > 100
    assert smallest_difference(pair, "deuteranopia") < APART


@blind
@pytest.mark.parametrize("palette", PALETTES)
def test_colours_that_stand_for_different_things_differ(palette: str, vision: str) -> None:
    assert smallest_difference(PALETTES[palette], vision) >= APART


@blind
def test_the_ten_colours_of_classes_differ_where_dashes_and_names_help(vision: str) -> None:
    assert smallest_difference(style.CLASS_COLOURS, vision) >= 10


@blind
@pytest.mark.parametrize("name", [style.SEQUENTIAL, style.SHARES])
def test_a_sequential_map_goes_one_way_from_dark_to_light(name: str, vision: str) -> None:
    steps = np.diff(lightness(name, vision))
    assert (steps > 0).all() or (steps < 0).all()
    assert np.abs(steps.sum()) > 60


@blind
def test_a_diverging_map_is_lightest_at_zero_and_its_ends_differ(vision: str) -> None:
    light = lightness(style.DIVERGING, vision)
    assert (np.diff(light[:128]) > 0).all()
    assert (np.diff(light[128:]) < 0).all()
    for share in (0.25, 0.1, 0.0):
        assert smallest_difference(ends(style.DIVERGING, share), vision) > 2 * APART


def ends(name: str, share: float) -> Sequence[str]:
    """The colours of a map as far from its middle as `share` is, on both sides."""
    return [matplotlib.colors.to_hex(matplotlib.colormaps[name](place)) for place in (share, 1 - share)]
