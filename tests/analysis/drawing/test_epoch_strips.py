import numpy as np
import pytest

from analysis.drawing.epoch_strips import common_scale, epoch_numbers, without_empty_end

PATTERN = np.arange(16.0).reshape(4, 4)
ZERO = np.zeros((4, 4))


def test_a_first_epoch_that_would_hide_the_others_is_left_out_of_the_common_scale():
    ((low, high), _), exceeds = common_scale("relu1", {0: PATTERN * 10, 2: PATTERN, 4: PATTERN / 2})
    assert (low, high, exceeds) == (0, 15, True)
    ((low, high), _), exceeds = common_scale("conv1", {0: PATTERN, 2: -PATTERN * 0.8})
    assert (low, high, exceeds) == (-15, 15, False)


def test_later_maps_that_are_flat_do_not_set_the_scale():
    for flat in (ZERO, ZERO + 1e-3):
        ((_, high), _), exceeds = common_scale("relu1", {0: PATTERN, 2: flat})
        assert (high, exceeds) == (15, False)
    ((_, high), _), exceeds = common_scale("relu1", {3: PATTERN})
    assert (high, exceeds) == (15, False)


LIMITS = (0.0, 15.0)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ([True, True, True], ([0, 2, 4], None)),
        ([True, True, False], ([0, 2, 4], None)),
        ([True, True, False, False], ([0, 2, 4], 4)),
        ([True, False, True, False], ([0, 2, 4, 6], None)),
        ([True, False, False], ([], 2)),
        ([False, False], ([], 0)),
        ([True], ([0], None)),
    ],
)
def test_of_the_epochs_at_the_end_without_anything_to_see_one_is_kept(visible: list[bool], expected: tuple):
    maps = {2 * place: PATTERN if seen else ZERO for place, seen in enumerate(visible)}
    assert without_empty_end(maps, LIMITS) == expected


def test_the_title_of_the_epoch_that_stands_for_others_names_the_last():
    assert epoch_numbers([0, 2, 4], None, 4) == ["0", "2", "4"]
    assert epoch_numbers([0, 2, 4], 4, 30) == ["0", "2", "4 to 30"]
