import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from study.probes.convolution import EDGES, convolve, highest_variance_patch, rectify_and_pool

GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.randint(0, 256, (3, 12, 12), generator=GENERATOR, dtype=torch.uint8)
KERNEL = torch.randn(3, 5, 5, generator=GENERATOR)


@pytest.mark.parametrize(
    "shape",
    [{}, {"padding": 2}, {"stride": 3}, {"dilation": 2}, {"padding": 3, "stride": 2, "dilation": 2}],
    ids=str,
)
def test_the_products_sum_to_what_torchs_layer_gives(shape: dict[str, int]):
    layer = nn.Conv2d(3, 1, 5, dtype=torch.float64, **shape)
    layer.weight.data, layer.bias.data = KERNEL.double()[None], torch.tensor([0.25], dtype=torch.float64)
    convolved = convolve(IMAGE, KERNEL, 0.25, **shape)
    np.testing.assert_array_equal(convolved.map, layer(IMAGE.double()[None])[0, 0].detach())
    np.testing.assert_allclose(convolved.products.sum(axis=(2, 3, 4)) + 0.25, convolved.map, rtol=1e-9)
    np.testing.assert_array_equal(convolved.products, convolved.windows * KERNEL.double().numpy())


def test_windows_are_cut_from_the_padded_image_at_stride_and_dilation():
    convolved = convolve(IMAGE, KERNEL, padding=1, stride=2, dilation=2)
    np.testing.assert_array_equal(convolved.padded, np.pad(IMAGE.numpy(), ((0, 0), (1, 1), (1, 1))))
    for row, column in np.ndindex(convolved.map.shape):
        top, left = 2 * row, 2 * column
        expected = convolved.padded[:, top : top + 9 : 2, left : left + 9 : 2]
        np.testing.assert_array_equal(convolved.windows[row, column], expected)


def test_the_edge_kernel_is_positive_where_it_gets_brighter_to_the_right():
    step = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(3, 1)[None]
    np.testing.assert_array_equal(convolve(step, EDGES[None]).map, [[36, 36]])


def test_pooled_values_are_torchs_and_are_found_at_their_places():
    values = torch.randn(7, 7, generator=GENERATOR, dtype=torch.float64)
    rectified, pooled, places = rectify_and_pool(values.numpy(), 2)
    np.testing.assert_array_equal(rectified, functional.relu(values))
    np.testing.assert_array_equal(pooled, functional.max_pool2d(functional.relu(values)[None], 2)[0])
    assert pooled.shape == (3, 3)
    for place in np.ndindex(3, 3):
        assert rectified[tuple(places[place])] == pooled[place]
        assert (places[place] // 2 == place).all()


def test_the_liveliest_square_is_the_one_that_varies_most():
    channel = torch.full((10, 10), 7, dtype=torch.uint8)
    channel[6:8, 3:5] = torch.tensor([[0, 255], [255, 0]])
    assert highest_variance_patch(channel, 2) == (6, 3)
    assert highest_variance_patch(torch.zeros(10, 10), 4) == (0, 0)
