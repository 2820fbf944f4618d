import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from study.architectures import CNNConfig, FFNNConfig, ModelConfig
from study.errors import StudyError
from study.geometry import feature_sizes, output_size, receptive_fields
from study.models import CNN, FFNN, build_model

BOTH = pytest.mark.parametrize("config", [CNNConfig(), FFNNConfig()], ids=lambda config: config.name)


SIDES = pytest.mark.parametrize("side", [32, 29, 48])


def images(count: int = 4, seed: int = 0, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("config", "parameters"), [(CNNConfig(), 94_666), (FFNNConfig(), 308_310)])
def test_the_networks_have_as_many_parameters_as_the_reports(config: ModelConfig, parameters: int):
    model = build_model(config, classes=10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("pooling", [False, True])
def test_equation_2_gives_the_sizes_that_torch_makes(pooling: bool):
    checked = 0
    for size, kernel, padding, stride, dilation in itertools.product(
        (7, 8, 31, 32), (1, 2, 3, 5), (0, 1, 2), (1, 2, 3), (1, 2)
    ):
        expected = output_size(size, kernel, padding=padding, stride=stride, dilation=dilation)
        if expected < 1 or (pooling and padding > kernel // 2):
            continue
        shape = {"padding": padding, "stride": stride, "dilation": dilation}
        layer = nn.MaxPool2d(kernel, **shape) if pooling else nn.Conv2d(1, 1, kernel, **shape)
        assert layer(torch.zeros(1, 1, size, size)).shape == (1, 1, expected, expected)
        checked += 1
    assert checked > 100


@SIDES
@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(filters=(3, 5)),
        CNNConfig(filters=(3, 5), kernel=3, padding=1, stride=2, pool=3),
        CNNConfig(filters=(3, 5), kernel=3, padding=0, dilation=2),
    ],
)
def test_maps_have_the_sizes_that_are_told(config: CNNConfig, side: int):
    maps = build_model(config, classes=4, seed=0, side=side).activations(images(side=side))
    for layer, expected in feature_sizes(config, side).items():
        assert maps[layer].shape[2:] == (expected, expected)
    assert maps["fc"].shape == (4, 4)


def test_the_flattened_image_is_as_long_as_its_side_says():
    model = build_model(FFNNConfig(hidden=7), classes=4, seed=0, side=48)
    assert (model.side, model.fc1.in_features) == (48, 3 * 48 * 48)
    assert model(images(side=48)).shape == (4, 4)


def seen(model: CNN, layer: str, unit: int) -> list[int]:
    """The first and the last row and column of pixels that the unit on the diagonal depends on in any of many images.

    By gradient: each image tells of the paths that were open in it.
    """
    shown = images(200, seed=unit, side=model.side).requires_grad_()
    model.activations(shown)[layer][:, :, unit, unit].sum().backward()
    assert shown.grad is not None
    places = torch.nonzero(shown.grad.abs().sum((0, 1)))
    return [*places.amin(0).tolist(), *places.amax(0).tolist()]


@SIDES
@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(filters=(3, 5)),
        CNNConfig(filters=(3, 5), kernel=3, padding=1, stride=2, pool=3),
        CNNConfig(filters=(3, 5), kernel=3, padding=0, dilation=2),
        CNNConfig(filters=(3, 5), kernel=3, padding=1, pool=3, pooling="average"),
    ],
    ids=str,
)
def test_receptive_fields_are_what_gradients_reach(config: CNNConfig, side: int):
    model = build_model(config, classes=4, seed=0, side=side)
    sizes, fields = feature_sizes(config, side), receptive_fields(config, side)
    assert isinstance(model, CNN)
    last = fields["pool1"].start + (sizes["pool1"] - 1) * fields["pool1"].step + fields["pool1"].side
    for layer, field in fields.items():
        # What the first pooling leaves over is not there for the second layer.
        end = min(side, last) if layer.endswith("2") else side
        for unit in {0, sizes[layer] // 2, sizes[layer] - 1}:
            first = field.start + unit * field.step
            low, high = max(first, 0), min(first + field.side, end) - 1
            assert seen(model, layer, unit) == [low, low, high, high]
            assert field.inside(unit) == (first >= 0 and first + field.side <= side)


def test_a_second_layer_unit_sees_14_pixels_and_a_pooled_one_at_most_as_much_of_its_16():
    fields = receptive_fields(CNNConfig())
    assert {layer: field.side for layer, field in fields.items()} == {"conv1": 5, "pool1": 6, "conv2": 14, "pool2": 16}
    model = build_model(CNNConfig(), classes=10, seed=0)
    shown = images(50).requires_grad_()
    model.activations(shown)["pool2"][:, 7, 4, 4].sum().backward()
    reached = (shown.grad.abs().sum(1) > 0).nonzero()
    for number in reached[:, 0].unique():
        places = reached[reached[:, 0] == number, 1:]
        assert (places.amax(0) - places.amin(0) + 1).max() <= 14


@BOTH
def test_activations_end_in_exactly_what_the_network_answers(config: ModelConfig):
    model = build_model(config, classes=10, seed=3)
    maps = model.activations(images())
    assert tuple(maps) == type(model).layers
    assert torch.equal(maps[type(model).layers[-1]], model(images()))


def test_layers_are_named_as_they_are_shown():
    assert CNN.layers == ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc")
    assert FFNN.layers == ("fc1", "relu1", "fc2")


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_training_gives_the_gradients_of_relu_before_pooling(pooling: str):
    model = build_model(CNNConfig(filters=(6, 8), pooling=pooling), classes=10, seed=1)
    labels = torch.tensor([0, 3, 5, 9])

    def gradients(logits: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(functional.cross_entropy(logits, labels), list(model.parameters())))

    pool_first, relu_first = gradients(model(images())), gradients(model.activations(images())["fc"])
    assert any(gradient.abs().max() > 1e-3 for gradient in pool_first)
    for ours, textbook in zip(pool_first, relu_first, strict=True):
        assert torch.allclose(ours, textbook, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(kernel=40, padding=0),
        CNNConfig(pool=33),
        CNNConfig(pool=6),
        CNNConfig(kernel=5, padding=0, stride=3, pool=4),
        CNNConfig(kernel=5, padding=0, dilation=9),
    ],
)
def test_layers_that_do_not_fit_are_named(config: CNNConfig):
    with pytest.raises(StudyError, match=r"The layers do not fit: (conv|pool)[12] leaves nothing"):
        build_model(config, classes=10, seed=0)


def test_images_too_small_for_the_layers_are_refused_with_the_layer():
    with pytest.raises(StudyError, match="The layers do not fit: pool2 leaves nothing of a 1 × 1 input"):
        build_model(CNNConfig(), classes=10, seed=0, side=3)


@pytest.mark.parametrize(("pooling", "module"), [("max", nn.MaxPool2d(3)), ("average", nn.AvgPool2d(3))])
def test_the_layers_are_those_of_torch(pooling: str, module: nn.Module):
    model = build_model(CNNConfig(filters=(6, 8), pool=3, pooling=pooling), classes=10, seed=1)
    assert isinstance(model, CNN)
    reference = nn.Sequential(model.conv1, nn.ReLU(), module, model.conv2, nn.ReLU(), module, nn.Flatten(), model.fc)
    assert torch.allclose(model(images()), reference(images()), atol=1e-6)


@BOTH
def test_the_seed_alone_decides_the_initial_weights(config: ModelConfig):
    torch.manual_seed(11)
    first = build_model(config, classes=10, seed=5).state_dict()
    torch.manual_seed(12)
    again = build_model(config, classes=10, seed=5).state_dict()
    other = build_model(config, classes=10, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_building_a_model_leaves_the_global_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build_model(CNNConfig(), classes=10, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_initial_weights_are_pytorchs_default():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        cnn = nn.Sequential(
            nn.Conv2d(3, 32, 5, padding=2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.Linear(4096, 10),
        )
        torch.manual_seed(4)
        ffnn = nn.Sequential(nn.Linear(3072, 100), nn.Linear(100, 10))
    for config, plain in ((CNNConfig(), cnn), (FFNNConfig(), ffnn)):
        built = build_model(config, classes=10, seed=4)
        for ours, default in zip(built.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours, default)
