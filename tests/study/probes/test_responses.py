import numpy as np
import pytest
import torch
from torch import Tensor

from study.architectures import CNNConfig
from study.data import normalise
from study.geometry import feature_sizes, receptive_fields
from study.models import CNN, build_model
from study.probes.responses import filter_responses
from study.training import EVALUATION_BATCH

CONFIGS = [
    CNNConfig(filters=(4, 6)),
    CNNConfig(filters=(4, 6), kernel=3, padding=1, stride=2, pool=3),
    CNNConfig(filters=(4, 6), kernel=4, padding=0, pool=3),
    CNNConfig(filters=(4, 6), kernel=3, padding=2, dilation=2),
    CNNConfig(filters=(4, 6), pooling="average", pool=3),
]
EVERY_SHAPE = pytest.mark.parametrize("config", CONFIGS, ids=str)


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def network(config: CNNConfig) -> CNN:
    model = build_model(config, classes=4, seed=1)
    assert isinstance(model, CNN)
    return model


@EVERY_SHAPE
def test_mean_and_peak_are_those_of_the_maps(config: CNNConfig):
    model, shown = network(config), images(EVALUATION_BATCH["cpu"] + 20)
    maps = {name: values.detach().numpy() for name, values in model.activations(normalise(shown)).items()}
    response = filter_responses(model, config, shown)
    for number in (1, 2):
        layer = response[f"conv{number}"]
        np.testing.assert_allclose(layer.mean, maps[f"pool{number}"].mean((2, 3)), atol=1e-6)
        if config.pooling == "max":
            assert (layer.peak <= maps[f"pool{number}"].max((2, 3)) + 1e-6).all()
    covered = feature_sizes(config)["pool2"] * config.pool
    highest = maps["relu2"][..., :covered, :covered].max((2, 3))
    np.testing.assert_allclose(response["conv2"].peak, highest, atol=1e-6)


@EVERY_SHAPE
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_patch_alone_gives_the_peak_wherever_it_lies(config: CNNConfig, layer: str):
    """Everything outside the told square may be anything: the unit's value depends on the square alone."""
    model, shown = network(config), images(12)
    response, field = filter_responses(model, config, shown)[layer], receptive_fields(config)[layer]
    noise = images(13)[0]
    for image, filter in ((0, 0), (3, 1), (7, 2), (11, 3)):
        top, left = int(response.top[image, filter]), int(response.left[image, filter])
        rows, columns = (slice(max(start, 0), start + response.side) for start in (top, left))
        changed = noise.clone()
        changed[:, rows, columns] = shown[image][:, rows, columns]
        values = model.activations(normalise(changed[None]))[f"relu{layer[-1]}"][0, filter]
        unit = values[(top - field.start) // field.step, (left - field.start) // field.step]
        assert unit.item() == pytest.approx(response.peak[image, filter], abs=1e-6)


def test_first_layer_patches_lie_within_the_image_and_second_layer_ones_may_not():
    response = filter_responses(network(CONFIGS[0]), CONFIGS[0], images(60))
    first, second = response["conv1"], response["conv2"]
    assert (first.side, second.side) == (5, 14)
    for corner in (first.top, first.left):
        assert corner.min() >= 0
        assert corner.max() + 5 <= 32
    assert second.top.min() < 0


def test_a_white_image_is_not_all_border_to_the_first_layer():
    """Zero padding beside white is an edge that a filter of edges would answer to more than to anything inside."""
    config = CNNConfig(filters=(1, 1))
    model, white = network(config), torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    with torch.no_grad():
        model.conv1.weight.fill_(-1)
        model.conv1.weight[..., 2:] = 1
        model.conv1.bias.zero_()
        border = model.activations(normalise(white))["relu1"].max()
    response = filter_responses(model, config, white)["conv1"]
    assert response.peak[0, 0] == pytest.approx(15.0)
    assert border > 40


def test_units_that_pooling_leaves_out_do_not_count():
    config = CNNConfig(filters=(2, 2), kernel=1, padding=0, pool=5)
    assert feature_sizes(config)["pool1"] * 5 == 30
    shown = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    shown[:, :, 31, 31] = 255
    model = network(config)
    with torch.no_grad():
        model.conv1.weight.fill_(1)
        model.conv1.bias.fill_(3.5)
    response = filter_responses(model, config, shown)["conv1"]
    assert response.peak == pytest.approx(np.full((1, 2), 0.5))


def test_where_every_first_layer_unit_sees_padding_all_count():
    config = CNNConfig(filters=(2, 2), kernel=5, padding=18, dilation=9, pool=2)
    response = filter_responses(network(config), config, images(3))["conv1"]
    assert response.side == 37
    assert np.isfinite(response.peak).all()
