from itertools import product
from math import comb, isclose

import pytest
import torch
from torch import nn

from study.architectures import CNNConfig, FFNNConfig
from study.models import build_model
from study.probes import attributions
from study.probes.attributions import METHODS
from study.probes.margins import margins, pair_of
from study.probes.twin import twin

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
BACKGROUND = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
PAIR = pair_of(1, 3, 2)


def network(config=None, side=32):
    model = build_model(config or CNNConfig(filters=(8, 6), kernel=5), classes=4, seed=0, side=side)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2  # margins as large as a trained network's
    return twin(model)


CNN, FFNN = network(), network(FFNNConfig(hidden=16))


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(attributions, "SAMPLES", dict.fromkeys(attributions.SAMPLES, 130))


@pytest.mark.parametrize("model", [CNN, FFNN], ids=["cnn", "ffnn"])
@pytest.mark.parametrize("name", METHODS)
def test_each_map_has_its_sign_and_its_sum_and_leaves_the_network_as_it_was(model, name):
    method = METHODS[name]
    if not method.applies(model):
        assert model is FFNN
        return
    state = torch.random.get_rng_state()

    maps = method.maps(model, IMAGES, PAIR, BACKGROUND)

    assert maps.shape == (2, 32, 32)
    assert maps.isfinite().all()
    assert (maps < 0).any() == method.signed
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    if method.reference:
        explained = margins(model, IMAGES, PAIR) - method.reference(model, IMAGES, PAIR, BACKGROUND)
        difference = (maps.sum(dim=(1, 2)) - explained).abs().max()
        assert difference < (1e-4 if method.exact else 0.1 * explained.abs().max() + 0.2)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_images_give_the_same_maps_alone_or_with_others(name):
    maps = METHODS[name].maps(CNN, IMAGES, PAIR, BACKGROUND)

    alone = METHODS[name].maps(CNN, IMAGES[1:], pair_of(1, 3), BACKGROUND)

    assert torch.allclose(maps[1:], alone, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.signed and name != "lime"])
def test_shares_for_a_against_b_are_minus_those_for_b_against_a(name):
    maps = METHODS[name].maps(CNN, IMAGES, PAIR, BACKGROUND)

    reversed_maps = METHODS[name].maps(CNN, IMAGES, pair_of(3, 1, 2), BACKGROUND)

    if name == "guided_backprop":  # it cuts what is negative, and so is not antisymmetric
        assert not torch.allclose(maps, -reversed_maps, atol=1e-3)
    else:
        assert torch.allclose(maps, -reversed_maps, atol=1e-5)


def test_deep_shap_is_not_gradient_times_distance_which_does_not_add_up():
    """Captum's DeepLift silently becomes that where it finds no modules to hook into."""
    explained = margins(CNN, IMAGES, PAIR) - METHODS["deep_shap"].reference(CNN, IMAGES, PAIR, BACKGROUND)
    images = IMAGES.clone().requires_grad_()
    logits = CNN(images)
    gradient = torch.autograd.grad((logits[:, 1] - logits[:, 3]).sum(), images)[0]
    naive = (gradient * (IMAGES - BACKGROUND.mean(dim=0))).sum(dim=1)

    maps = METHODS["deep_shap"].maps(CNN, IMAGES, PAIR, BACKGROUND)

    assert torch.allclose(maps.sum(dim=(1, 2)), explained, atol=1e-4)
    assert (naive.sum(dim=(1, 2)) - explained).abs().min() > 0.02
    assert not torch.allclose(maps, naive, atol=1e-3)


def test_integrated_gradients_add_up_to_one_percent():
    explained = margins(CNN, IMAGES, PAIR) - margins(CNN, torch.zeros_like(IMAGES), PAIR)

    sums = METHODS["integrated_gradients"].maps(CNN, IMAGES, PAIR, BACKGROUND).sum(dim=(1, 2))

    assert ((sums - explained).abs() < 0.01 * explained.abs()).all()


def test_saliency_is_the_magnitude_of_autograds_gradient():
    images = IMAGES.clone().requires_grad_()
    logits = CNN(images)
    gradient = torch.autograd.grad((logits[:, 1] - logits[:, 3]).sum(), images)[0]

    maps = METHODS["saliency"].maps(CNN, IMAGES, PAIR, BACKGROUND)

    assert torch.allclose(maps, gradient.abs().sum(dim=1), atol=1e-6)


def test_occlusion_of_the_whole_image_is_the_margin_less_that_of_a_grey_image():
    maps = attributions.occlusion(CNN, IMAGES, PAIR, BACKGROUND, window=32)

    lost = margins(CNN, IMAGES, PAIR) - margins(CNN, torch.zeros_like(IMAGES), PAIR)
    assert torch.allclose(maps, lost[:, None, None].expand_as(maps), atol=1e-5)


@pytest.mark.parametrize("side", [20, 64])
def test_cells_are_eight_by_eight_whatever_the_size(side):
    cells = attributions.cells(side)
    assert cells.shape == (side, side)
    sizes = cells.flatten().bincount()
    assert len(sizes) == 64
    assert sizes.max() - sizes.min() <= (0 if side % 8 == 0 else 5)
    assert (cells[1:] >= cells[:-1]).all()
    assert (cells[:, 1:] >= cells[:, :-1]).all()


@pytest.mark.parametrize("name", METHODS)
def test_images_of_another_size_have_maps_of_theirs_that_add_up_too(name):
    generator = torch.Generator().manual_seed(4)
    images, background = (torch.rand(count, 3, 48, 48, generator=generator) * 2 - 1 for count in (1, 5))
    model, method, pair = network(side=48), METHODS[name], pair_of(1, 3)

    maps = method.maps(model, images, pair, background)

    assert maps.shape == (1, 48, 48)
    if method.reference:
        explained = margins(model, images, pair) - method.reference(model, images, pair, background)
        difference = (maps.sum(dim=(1, 2)) - explained).abs().max()
        assert difference < (1e-4 if method.exact else 0.1 * explained.abs().max() + 0.2)


def test_occlusion_scales_its_square_with_the_images():
    images = IMAGES.repeat_interleave(2, 2).repeat_interleave(2, 3)
    model = network(side=64)

    scaled = attributions.occlusion(model, images, PAIR, BACKGROUND)

    assert torch.equal(scaled, attributions.occlusion(model, images, PAIR, BACKGROUND, window=12, stride=4))


class TinyNetwork(nn.Module):
    """Two strips of four cells each, whose brightnesses interact."""

    def forward(self, images):
        cells = images.mean(dim=1).unflatten(1, (2, 16)).unflatten(3, (4, 8)).mean(dim=(2, 4)).flatten(1)
        products = cells[:, 0] * cells[:, 5] * 3 + torch.relu(cells[:, 1] + cells[:, 2] - cells[:, 7])
        return torch.stack([products + cells.sum(dim=1), cells[:, 3] * cells[:, 4]], dim=1)


@pytest.mark.slow
def test_kernel_shap_of_eight_cells_equals_shapley_values_over_all_256_coalitions(monkeypatch):
    rows = torch.arange(32)
    mask = (rows // 16)[:, None] * 4 + (rows // 8)[None]
    monkeypatch.setattr(attributions, "cells", lambda side: mask)
    monkeypatch.setitem(attributions.SAMPLES, "kernel_shap", 20_000)
    last = nn.Linear(2, 2)
    with torch.no_grad():
        last.weight.copy_(torch.eye(2))
        last.bias.zero_()
    model = nn.Sequential(TinyNetwork(), last)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)) + 0.2

    def worth(coalition):
        kept = torch.tensor(coalition)[mask].float()
        return float(margins(model, image * kept, pair_of(0, 1)))

    worths = {coalition: worth(coalition) for coalition in product((False, True), repeat=8)}
    shapley = torch.zeros(8)
    for coalition, value in worths.items():
        size = sum(coalition)
        for cell in range(8):
            with_it = (*coalition[:cell], True, *coalition[cell + 1 :])
            if not coalition[cell]:
                shapley[cell] += (worths[with_it] - value) / (8 * comb(7, size))

    maps = METHODS["kernel_shap"].maps(model, image, pair_of(0, 1), BACKGROUND)[0]

    values = torch.zeros(8).index_add(0, mask.flatten(), maps.flatten())
    assert isclose(float(shapley.sum()), worths[(True,) * 8] - worths[(False,) * 8], abs_tol=1e-4)
    assert torch.allclose(values, shapley, atol=0.03 * float(shapley.abs().max()))
