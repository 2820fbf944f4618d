"""The convolutions of any network are found in the order in which they run, with what belongs to each."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from study.architectures import CNNConfig, FFNNConfig
from study.config import model_config
from study.convolutions import Convolutions, layered, maps_of
from study.models import build_model

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """Its convolutions run in another order than they are named, and one never; one runs twice."""

    def __init__(self, after: Callable[[Tensor], Tensor]):
        super().__init__()
        self.unused = nn.Conv2d(3, 5, 3)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(3, 4, 3)
        self.after = after
        self.fc = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.after(self.first(images))
        maps = self.second(self.second(maps))
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    "after",
    [
        functional.relu,
        torch.relu,
        Tensor.relu,
        Tensor.relu_,
        nn.ReLU(),
        nn.ReLU(inplace=True),
        lambda maps: functional.relu(maps, inplace=True),
        nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(inplace=True)),
    ],
)
def test_the_relu_of_a_convolution_is_found_however_it_is_called(after: Callable[[Tensor], Tensor]):
    model = Plain(after)
    network = Convolutions(model)
    assert network.layers == ("conv1", "relu1", "conv2")
    assert network.names == {"conv1": "first", "conv2": "second"}
    assert network.weights == {"conv1": "first.weight", "conv2": "second.weight"}
    assert maps_of(network.layers) == {"conv1": ("conv1", "relu1"), "conv2": ("conv2",)}
    maps = network.activations(IMAGES)
    # A ReLU in place must not have changed what is given as the output of the convolution.
    assert torch.equal(maps["conv1"], model.first(IMAGES))
    assert maps["conv1"].min() < 0 <= maps["relu1"].min()
    assert torch.equal(maps["conv2"], model.second(maps["relu1"]))


def test_other_activations_count_as_no_relu():
    assert Convolutions(Plain(functional.gelu)).layers == ("conv1", "conv2")


def test_pooling_is_found_before_and_after_the_relu():
    def pooled_first(maps: Tensor) -> Tensor:
        return functional.relu(functional.max_pool2d(maps, 2))

    def pooled_last(maps: Tensor) -> Tensor:
        return functional.max_pool2d(functional.relu(maps), 2)

    first, last = (Convolutions(Plain(after)) for after in (pooled_first, pooled_last))
    assert maps_of(first.layers)["conv1"] == ("conv1", "relu1")
    assert first.activations(IMAGES)["relu1"].shape == (2, 4, 15, 15)
    assert maps_of(last.layers)["conv1"] == ("conv1", "relu1", "pool1")
    assert last.activations(IMAGES)["pool1"].shape == (2, 4, 15, 15)


def test_a_relu_after_the_sum_of_a_residual_block_belongs_to_no_convolution():
    network = Convolutions(build_model(model_config("resnet18"), classes=10, seed=0))
    assert len(network.weights) == 20
    assert network.weights["conv20"] == "layer4.1.conv2.weight"
    rectified = {layer for layer, maps in maps_of(network.layers).items() if len(maps) > 1}
    # The first one, and the first of each of the eight blocks.
    firsts = {layer for layer, name in network.names.items() if name.endswith(".conv1")}
    assert rectified == {"conv1", *firsts}
    assert len(rectified) == 9


def test_a_network_without_convolutions_has_no_layers():
    network = Convolutions(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)))
    assert (network.layers, maps_of(network.layers), network.activations(IMAGES)) == ((), {}, {})


def test_weights_that_are_computed_from_others_are_left_out():
    model = Plain(functional.relu)
    model.second = nn.utils.parametrizations.weight_norm(model.second)  # type: ignore[assignment]
    network = Convolutions(model)
    assert network.weights == {"conv1": "first.weight"}
    assert network.layers == ("conv1", "relu1")


def test_the_hooks_are_gone_afterwards():
    model = Plain(functional.relu)
    Convolutions(model).activations(IMAGES)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("config", [CNNConfig(filters=(4, 6)), FFNNConfig(hidden=8)], ids=lambda config: config.name)
def test_the_reports_networks_name_their_own_layers(config: CNNConfig | FFNNConfig):
    model = build_model(config, classes=10, seed=0)
    network = layered(model)
    assert network is model  # type: ignore[comparison-overlap]
    parameters = dict(model.named_parameters())
    assert set(network.weights.values()) == {name for name in parameters if name.endswith(".weight")}
    assert set(network.activations(IMAGES)) == set(network.layers)


def test_the_reports_network_has_the_same_convolutions_by_hooks_as_by_name():
    model = build_model(CNNConfig(filters=(4, 6)), classes=10, seed=0)
    named, found = layered(model), Convolutions(model)
    assert found.weights == {layer: name for layer, name in named.weights.items() if layer.startswith("conv")}
    maps = named.activations(IMAGES)
    for layer, output in found.activations(IMAGES).items():
        # The network pools before ReLU, which commutes.
        expected = maps["pool1" if layer == "relu1" else "pool2" if layer == "relu2" else layer]
        assert torch.allclose(output, expected, atol=1e-6), layer
