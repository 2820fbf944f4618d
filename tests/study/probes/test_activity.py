import numpy as np
import pytest
import torch
from torch import nn

from study.architectures import CNNConfig, FFNNConfig, ModelConfig
from study.config import model_config
from study.convolutions import Convolutions
from study.data import Dataset, normalise
from study.models import CNN, Model, build_model
from study.probes.activity import (
    activity,
    convolution_activity,
    filter_counts,
    outweighed,
    parameters_without,
    rectified,
    silent_filters,
    stratified_rows,
    without,
)
from study.training import predict

CONFIGS = [
    CNNConfig(filters=(4, 6)),
    CNNConfig(filters=(4, 6), kernel=3, padding=1, pool=3),
    FFNNConfig(hidden=8),
    CNNConfig(filters=(4, 6), pooling="average"),
]
NAMES = ["cnn", "cnn with a border that pooling drops", "ffnn", "cnn with average pooling"]
EACH = pytest.mark.parametrize("config", CONFIGS, ids=NAMES)


def network(config: ModelConfig) -> Model:
    """A network whose last filters, in each rectified layer, get ever lower biases: some fire rarely, some never."""
    model = build_model(config, classes=10, seed=1)
    for layer in rectified(model):
        bias = model.get_parameter(f"{layer}.bias")
        with torch.no_grad():
            bias[2:] -= torch.linspace(0, 1.5, len(bias) - 2)
    return model


def positive(model: Model, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What plain inference says: (N, filters, positions), bool, by layer."""
    with torch.no_grad():
        maps = model.activations(normalise(images))
    return {
        layer: maps[layer.replace("conv", "relu").replace("fc", "relu")].reshape(
            len(images), -1, maps[layer][0, 0].numel()
        )
        > 0
        for layer in rectified(model)
    }


def test_the_rectified_layers_are_those_with_a_relu():
    assert rectified(build_model(CONFIGS[0], classes=10, seed=0)) == ["conv1", "conv2"]
    assert rectified(build_model(CONFIGS[2], classes=10, seed=0)) == ["fc1"]


@EACH
def test_silence_and_shares_are_those_of_plain_inference(config: ModelConfig, tiny: Dataset):
    model, images = network(config), tiny.train.images
    rows = torch.arange(0, len(images), 7)
    measured = activity(model, images, rows)
    for layer, fires in positive(model, images).items():
        assert measured[layer].silent.tolist() == (~fires.any(2).any(0)).tolist()
        sampled = fires[rows]
        assert measured[layer].active_images == pytest.approx(sampled.any(2).double().mean(0).numpy())
        assert measured[layer].active_positions == pytest.approx(sampled.double().mean((0, 2)).numpy(), abs=1e-7)
    silent = np.concatenate([layer.silent for layer in measured.values()])
    assert silent.any()
    assert not silent.all()


@EACH
def test_a_filter_that_fires_on_one_image_outside_the_sample_is_not_silent(config: ModelConfig, tiny: Dataset):
    model, images = build_model(config, classes=10, seed=1), tiny.train.images
    layer = rectified(model)[-1]
    heights: list[torch.Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, given, output: heights.append(output))
    predict(model, images)
    hook.remove()
    of_images = torch.cat(heights)[:, 3].reshape(len(images), -1).amax(1)
    (second, _), (last, brightest) = of_images.sort().values[-2:], of_images.max(0)
    rows = torch.tensor([row for row in range(len(images)) if row != int(brightest)])
    bias = model.get_parameter(f"{layer}.bias")
    with torch.no_grad():
        bias[3] -= (second + last) / 2
    measured = activity(model, images, rows)[layer]
    assert measured.active_images[3] == 0
    assert not measured.silent[3]
    assert activity(model, images[rows], rows[:5])[layer].silent[3]


@EACH
def test_a_network_of_zeros_is_silent_and_takes_no_image_to_know(config: ModelConfig, tiny: Dataset):
    model = build_model(config, classes=10, seed=1)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert all(layer.all() for layer in outweighed(model).values())
    measured = activity(model, tiny.test.images, torch.arange(3))
    assert all(layer.silent.all() and not layer.active_positions.any() for layer in measured.values())


@EACH
def test_only_what_is_silent_on_any_image_is_outweighed(config: ModelConfig):
    model = build_model(config, classes=10, seed=1)
    with torch.no_grad():
        for layer in rectified(model):
            model.get_parameter(f"{layer}.bias")[:3] = torch.tensor([-1e4, 0.0, 1.0])
            model.get_parameter(f"{layer}.weight")[1:3] = 0
    for layer in outweighed(model).values():
        assert layer[:3].tolist() == [True, True, False]
        assert not layer[3:].any()
    extremes = torch.randint(0, 2, (200, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for layer, fires in positive(model, extremes * 255).items():
        assert not fires[:, outweighed(model)[layer]].any()


def test_negative_weights_raise_a_filter_that_reads_the_image_but_none_that_reads_a_map_after_relu():
    model = build_model(CNNConfig(filters=(4, 6)), classes=10, seed=1)
    with torch.no_grad():
        for layer in ("conv1", "conv2"):
            model.get_parameter(f"{layer}.weight")[0] = -0.5
            model.get_parameter(f"{layer}.bias")[0] = -0.1
    assert {layer: silent[0].item() for layer, silent in outweighed(model).items()} == {"conv1": False, "conv2": True}
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert {layer: fires[0, 0].any().item() for layer, fires in positive(model, black).items()} == {
        "conv1": True,
        "conv2": False,
    }


def test_the_sample_has_the_classes_shares_and_no_row_twice():
    labels = torch.tensor([0] * 50 + [2] * 30 + [1] * 20)[
        torch.randperm(100, generator=torch.Generator().manual_seed(0))
    ]
    rows = stratified_rows(labels, 10)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert torch.bincount(labels[rows]).tolist() == [5, 2, 3]
    assert stratified_rows(labels, 1000).tolist() == list(range(100))


@EACH
def test_without_a_filter_its_map_is_zero_and_the_model_itself_unchanged(config: ModelConfig, tiny: Dataset):
    model, images = build_model(config, classes=10, seed=1), tiny.test.images
    layer = rectified(model)[-1]
    before = predict(model, images)

    def remove(module: nn.Module, given: object, output: torch.Tensor) -> torch.Tensor:
        output[:, [1, 3]] = 0
        return output

    cut = without(model, {layer: np.array([1, 3])})
    assert torch.equal(predict(model, images), before)
    hook = model.get_submodule(layer).register_forward_hook(remove)
    assert torch.allclose(predict(cut, images), predict(model, images), atol=1e-6)
    hook.remove()
    assert not torch.allclose(predict(cut, images), before, atol=1e-3)


@EACH
def test_without_silent_filters_the_logits_stay_the_same(config: ModelConfig, tiny: Dataset):
    model, images = network(config), tiny.test.images
    measured = activity(model, images, torch.arange(5))
    silent = {layer: np.nonzero(of.silent)[0] for layer, of in measured.items()}
    assert sum(map(len, silent.values()))
    assert torch.allclose(predict(without(model, silent), images), predict(model, images), atol=1e-6)


def test_with_every_filter_removed_the_output_bias_is_left(tiny: Dataset):
    model = build_model(CONFIGS[0], classes=10, seed=1)
    cut = without(model, {"conv1": np.arange(4), "conv2": np.arange(6)})
    assert torch.equal(predict(cut, tiny.test.images[:2]), model.get_parameter("fc.bias").expand(2, 10))


def test_the_parameters_left_are_those_of_a_smaller_network():
    def size(config: ModelConfig) -> int:
        return sum(parameter.numel() for parameter in build_model(config, classes=10, seed=0).parameters())

    model = build_model(CNNConfig(), classes=10, seed=0)
    assert parameters_without(model, {}) == size(CNNConfig())
    dead = {"conv1": np.arange(3), "conv2": np.arange(40)}
    assert parameters_without(model, dead) == size(CNNConfig(filters=(29, 24)))
    ffnn = build_model(FFNNConfig(), classes=10, seed=0)
    assert parameters_without(ffnn, {"fc1": np.array([5])}) == size(FFNNConfig(hidden=99))
    assert parameters_without(model, {"conv1": np.arange(32), "conv2": np.arange(64)}) == 10


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
    assert filter_counts(model, tiny.train.images) == expected


def test_filters_are_silent_where_the_relu_of_their_maps_is_zero_on_all_images(model: CNN, tiny: Dataset):
    silence(model, "conv1", 2)
    silence(model, "conv2", 0, 5)
    images = tiny.train.images.repeat(5, 1, 1, 1)  # more than one batch
    with torch.no_grad():
        maps = model.activations(normalise(images))
    for layer, is_silent in silent_filters(model, images).items():
        assert torch.equal(is_silent, (maps[layer.replace("conv", "relu")] == 0).all(3).all(2).all(0))
    counts = filter_counts(model, images)
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
    counts = filter_counts(model, tiny.train.images)
    assert (counts["silent_conv1"], counts["silent_conv2"]) == (4, 6)


def test_filters_have_collapsed_once_no_weight_reaches_a_thousandth(model: CNN, tiny: Dataset):
    with torch.no_grad():
        model.conv2.weight[1] *= 1e-8
        model.conv2.weight[3] *= 1e-8
        model.conv2.weight[3, 0, 0, 0], model.conv2.bias[3] = -0.001, 1.0  # one that does
        model.conv1.weight[0], model.conv1.bias[0] = 0.0, 1.0
    silence(model, "conv2", 0, 1)
    counts = filter_counts(model, tiny.train.images)
    assert (counts["silent_conv1"], counts["collapsed_conv1"], counts["silent_collapsed_conv1"]) == (0, 1, 0)
    assert (counts["silent_conv2"], counts["collapsed_conv2"], counts["silent_collapsed_conv2"]) == (2, 1, 1)


def test_counting_changes_neither_the_weights_nor_torchs_random_numbers(model: CNN, tiny: Dataset):
    before, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    filter_counts(model, tiny.train.images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_the_activity_of_another_networks_convolutions_is_that_of_plain_inference(tiny: Dataset):
    model = build_model(model_config("three_layers"), classes=10, seed=1)
    model.norms[1].bias[3] = -100  # type: ignore[index,union-attr,operator]
    measured = convolution_activity(Convolutions(model), tiny.test.images, ["conv2", "conv3"])
    assert list(measured) == ["conv2", "conv3"]
    maps = Convolutions(model).activations(normalise(tiny.test.images))
    for layer, item in measured.items():
        fires = maps[layer.replace("conv", "relu")].flatten(2) > 0
        assert np.array_equal(item.active_images, fires.any(2).double().mean(0).numpy())
        assert np.allclose(item.active_positions, fires.double().mean((0, 2)).numpy(), atol=1e-6)
        assert np.array_equal(item.silent, ~fires.any(2).any(0).numpy())
    assert measured["conv2"].silent[3]
    assert not measured["conv2"].silent.all()


def test_a_convolution_without_a_relu_of_its_own_has_no_activity(tiny: Dataset):
    model = build_model(model_config("resnet18"), classes=10, seed=0)
    measured = convolution_activity(Convolutions(model), tiny.test.images[:2], ["conv2", "conv3"])
    assert list(measured) == ["conv2"]
