import numpy as np
import pytest
import torch
from torch.nn import functional

from analysis.explorer.quantise import FINEST, patches, quantise

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(6, 4, 3, 3)).astype(np.float32)
INPUTS = np.maximum(RNG.normal(size=(2, 4, 9, 9)), 0).astype(np.float32)
SEEN = patches(INPUTS, 3, stride=1, padding=1, dilation=1)
LOOSE = np.full(6, np.inf)


def maps(weights: np.ndarray) -> np.ndarray:
    """By filter: (filters, places)."""
    maps = functional.conv2d(torch.from_numpy(INPUTS).double(), torch.from_numpy(weights).double(), padding=1)
    return maps.transpose(0, 1).flatten(1).numpy()


def values(levels: np.ndarray, steps: np.ndarray) -> np.ndarray:
    return levels * steps[:, None, None, None].astype(np.float64)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (1, 2, 1), (2, 1, 1), (3, 2, 2)])
def test_patches_are_those_of_torch(stride: int, padding: int, dilation: int):
    windows = functional.unfold(torch.from_numpy(INPUTS), 3, dilation=dilation, padding=padding, stride=stride)
    expected = windows.transpose(1, 2).flatten(0, 1).numpy()
    np.testing.assert_array_equal(patches(INPUTS, 3, stride=stride, padding=padding, dilation=dilation), expected)


@pytest.mark.parametrize("error", [1.0, 1e-2, 1e-4])
def test_maps_and_weights_stay_within_their_errors(error: float):
    allowed = error * np.linspace(0.5, 2, 6)
    levels, steps = quantise(WEIGHTS, SEEN, weight_error=3 * allowed, map_error=allowed)
    assert levels.dtype == np.int32
    off = np.abs(maps(values(levels, steps)) - maps(WEIGHTS)).max(axis=1)
    assert (off <= allowed).all()
    assert (np.abs(values(levels, steps) - WEIGHTS).max(axis=(1, 2, 3)) <= 3 * allowed + 1e-12).all()


def test_steps_are_no_finer_than_they_need_to_be():
    allowed = np.full(6, 1e-2)
    _, steps = quantise(WEIGHTS, SEEN, weight_error=LOOSE, map_error=allowed)
    coarse = np.round(WEIGHTS / (4 * steps[:, None, None, None])) * 4 * steps[:, None, None, None]
    assert (np.abs(maps(coarse) - maps(WEIGHTS)).max(axis=1) > allowed).all()


def test_weights_alone_bound_the_step_where_nothing_is_seen():
    levels, steps = quantise(WEIGHTS, np.zeros_like(SEEN), weight_error=np.full(6, 0.01), map_error=np.full(6, 0.01))
    np.testing.assert_allclose(steps, 0.02, rtol=1e-6)
    assert np.abs(values(levels, steps) - WEIGHTS).max() <= 0.0101


def test_collapsed_filters_become_zero():
    weights = WEIGHTS.copy()
    weights[0], weights[1] = 0, 1e-40
    levels, steps = quantise(weights, SEEN, weight_error=np.full(6, 0.1), map_error=np.full(6, 0.1))
    assert not levels[:2].any()
    assert np.isfinite(steps).all()
    assert levels[2:].any()


def test_an_error_that_float32_does_not_allow_gives_the_finest_step():
    levels, steps = quantise(WEIGHTS, SEEN, weight_error=LOOSE, map_error=np.full(6, 1e-15))
    np.testing.assert_allclose(steps, np.abs(WEIGHTS).max(axis=(1, 2, 3)) * FINEST, rtol=1e-6)
    np.testing.assert_allclose(values(levels, steps), WEIGHTS, atol=1e-6)
