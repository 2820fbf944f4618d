import numpy as np
import pytest

from analysis.drawing import style
from analysis.drawing.maps import drawn, faint_label

LIMITS = (-2.0, 2.0)


@pytest.mark.parametrize(
    ("values", "label"),
    [
        (np.zeros((4, 4)), "all 0"),
        (np.full((4, 4), 1e-9), "≈ 0"),
        (np.full((4, 4), -0.5), "constant\n−0.5"),
        (np.eye(4), ""),
        (np.full((4, 4), np.nan), "not\nfinite"),
    ],
)
def test_a_map_without_anything_to_see_is_labelled(values: np.ndarray, label: str):
    shown, written, _ = drawn(values, LIMITS, style.DIVERGING)
    assert written == label
    assert np.ma.getmaskarray(shown).all() == (label == "not\nfinite")


def test_a_faint_map_is_labelled_with_a_bound_and_true_minus_signs():
    faint = np.zeros((4, 4))
    faint[1, 2] = 1.2e-5
    assert faint_label(faint, LIMITS) == "±2e−5"
    assert faint_label(faint, (0.0, 2.0)) == "≤2e−5"
    assert faint_label(faint * 1e5, LIMITS) == ""
