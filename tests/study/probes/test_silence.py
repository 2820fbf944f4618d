import pytest
import torch

from study.config import CNNConfig
from study.data import Dataset, normalise
from study.models import CNN, build_model
from study.probes.silence import count, silent_filters


@pytest.fixture
def model() -> CNN:
    built = build_model(CNNConfig(filters=(4, 6)), classes=10, seed=0)
    assert isinstance(built, CNN)
    return built


@torch.no_grad()
def silence(model: CNN, layer: str, *filters: int) -> None:
    """Has a bias outweigh whatever the filters see."""
    getattr(model, layer).bias[list(filters)] = -1e3


def test_a_new_network_has_no_silent_and_no_collapsed_filter(model: CNN, tiny: Dataset):
    kinds = ("silent", "collapsed", "silent_collapsed")
    expected = {f"{kind}_{layer}": 0 for kind in kinds for layer in ("conv1", "conv2")}
    assert count(model, tiny.train.images) == expected


def test_filters_are_silent_where_the_relu_of_their_maps_is_zero_on_all_images(model: CNN, tiny: Dataset):
    silence(model, "conv1", 2)
    silence(model, "conv2", 0, 5)
    images = tiny.train.images.repeat(5, 1, 1, 1)  # more than one batch
    with torch.no_grad():
        maps = model.activations(normalise(images))
    for layer, found in silent_filters(model, images).items():
        assert torch.equal(found, (maps[layer.replace("conv", "relu")] == 0).all(3).all(2).all(0))
    counts = count(model, images)
    assert (counts["silent_conv1"], counts["silent_conv2"], counts["silent_collapsed_conv2"]) == (1, 2, 0)


def test_a_filter_that_answers_to_one_image_of_the_last_batch_is_not_silent(model: CNN, tiny: Dataset):
    dark, bright = torch.zeros(600, 3, 32, 32, dtype=torch.uint8), torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    with torch.no_grad():
        model.conv1.weight[1], model.conv1.bias[1] = 1.0, -60.0  # 75 weights: only an all-white patch exceeds it
    assert silent_filters(model, dark)["conv1"][1]
    assert not silent_filters(model, torch.cat([dark, bright]))["conv1"][1]


def test_a_network_of_which_every_filter_is_silent_is_counted_whole(model: CNN, tiny: Dataset):
    silence(model, "conv1", *range(4))
    silence(model, "conv2", *range(6))
    found = count(model, tiny.train.images)
    assert (found["silent_conv1"], found["silent_conv2"]) == (4, 6)


def test_filters_have_collapsed_once_no_weight_reaches_a_thousandth(model: CNN, tiny: Dataset):
    with torch.no_grad():
        model.conv2.weight[1] *= 1e-8
        model.conv2.weight[3] *= 1e-8
        model.conv2.weight[3, 0, 0, 0], model.conv2.bias[3] = -0.001, 1.0  # one that does
        model.conv1.weight[0], model.conv1.bias[0] = 0.0, 1.0
    silence(model, "conv2", 0, 1)
    found = count(model, tiny.train.images)
    assert (found["silent_conv1"], found["collapsed_conv1"], found["silent_collapsed_conv1"]) == (0, 1, 0)
    assert (found["silent_conv2"], found["collapsed_conv2"], found["silent_collapsed_conv2"]) == (2, 1, 1)


def test_counting_changes_neither_the_weights_nor_torchs_random_numbers(model: CNN, tiny: Dataset):
    before, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    count(model, tiny.train.images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
