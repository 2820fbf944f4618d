import pytest
import torch
from torch import Tensor, nn

from study.architectures import CNNConfig
from study.data import normalise
from study.errors import StudyError
from study.models import CNN, build_model
from study.probes.ablation import Ablation, ablate, replacement_maps
from study.probes.activity import outweighed
from study.training import EVALUATION_BATCH, predict

CONFIGS = [
    CNNConfig(filters=(5, 7)),
    CNNConfig(filters=(5, 7), kernel=3, padding=1, stride=2, pool=3),
    CNNConfig(filters=(5, 7), kernel=4, padding=0, stride=1, pool=3),
    CNNConfig(filters=(5, 7), kernel=3, padding=2, dilation=2),
    CNNConfig(filters=(5, 7), pooling="average"),
]
EVERY_SHAPE = pytest.mark.parametrize("config", CONFIGS, ids=str)


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def network(config: CNNConfig) -> CNN:
    model = build_model(config, classes=4, seed=1)
    assert isinstance(model, CNN)
    with torch.no_grad():
        model.fc.weight.mul_(20)  # so that a wrong map would show
    return model.eval()


class Pooled(nn.Module):
    """The network in the textbook's order, with a module for each pooled map that a hook can be put on."""

    def __init__(self, model: CNN):
        super().__init__()
        pool = (nn.AvgPool2d if model.pooling == "average" else nn.MaxPool2d)(model.pool)
        self.block1 = nn.Sequential(model.conv1, nn.ReLU(), pool)
        self.block2 = nn.Sequential(model.conv2, nn.ReLU(), pool)
        self.fc = model.fc

    def forward(self, batch: Tensor) -> Tensor:
        return self.fc(self.block2(self.block1(batch)).flatten(1))


@torch.no_grad()
def hooked(model: CNN, batch: Tensor, layer: str, filter: int, map: Tensor) -> Tensor:
    """The logits with a forward hook that puts `map` in the place of one filter's pooled map."""

    def replace(module: nn.Module, arguments: object, maps: Tensor) -> Tensor:
        maps = maps.clone()
        maps[:, filter] = map
        return maps

    oracle = Pooled(model)
    handle = {"conv1": oracle.block1, "conv2": oracle.block2}[layer].register_forward_hook(replace)
    logits = oracle(normalise(batch))
    handle.remove()
    return logits


@pytest.mark.slow
@EVERY_SHAPE
@pytest.mark.parametrize("by", ["mean", "zero"])
def test_every_ablation_is_what_a_forward_hook_that_replaces_the_map_gives(config: CNNConfig, by: str):
    model, shown = network(config), images(EVALUATION_BATCH["cpu"] + 30)
    pooled = model.activations(normalise(shown))
    ablated = ablate(model, shown, replacement_maps(model, shown, by))
    for layer, count in zip(("conv1", "conv2"), config.filters, strict=True):
        assert ablated.without[layer].shape == (count, len(shown), 4)
        maps = pooled[f"pool{layer[-1]}"]
        for filter in range(count):
            map = maps[:, filter].mean(0) if by == "mean" else torch.zeros(maps.shape[2:])
            expected = hooked(model, shown, layer, filter, map)
            assert torch.allclose(ablated.without[layer][filter], expected, rtol=1e-4, atol=2e-5)
        moved = (ablated.without[layer] - ablated.logits).abs().amax((1, 2))
        assert (moved > 1e-2).sum() >= count - 2  # some are silent from the start


@EVERY_SHAPE
def test_the_logits_of_the_whole_network_are_its_predictions(config: CNNConfig):
    model, shown = network(config), images(20)
    ablated = ablate(model, shown, replacement_maps(model, shown))
    assert torch.allclose(ablated.logits, predict(model, shown), rtol=1e-5, atol=1e-5)


def test_the_mean_is_of_each_position_over_all_images():
    model, shown = network(CONFIGS[0]), images(EVALUATION_BATCH["cpu"] + 1)
    means, expected = replacement_maps(model, shown), model.activations(normalise(shown))
    for layer in ("conv1", "conv2"):
        assert torch.allclose(means[layer], expected[f"pool{layer[-1]}"].mean(0), atol=1e-6)


def test_without_a_second_layer_filter_the_mean_logits_stay_with_the_mean_and_move_with_zero():
    model, shown = network(CONFIGS[0]), images(50)

    def shift(by: str) -> Tensor:
        ablated = ablate(model, shown, replacement_maps(model, shown, by))
        return (ablated.without["conv2"] - ablated.logits).mean(1)

    assert shift("mean").abs().max() < 1e-5
    assert shift("zero").abs().amax(1).min() > 1e-2


def test_an_image_outside_the_set_can_be_ablated_with_the_sets_means():
    model, shown, other = network(CONFIGS[0]), images(40), images(1)
    means = replacement_maps(model, shown)
    ablated = ablate(model, other, means)
    assert torch.allclose(
        ablated.without["conv1"][2], hooked(model, other, "conv1", 2, means["conv1"][2]), rtol=1e-4, atol=2e-5
    )


def test_the_first_layers_filters_are_ablated_exactly_where_some_of_the_second_layer_are_dead():
    model, shown = network(CONFIGS[0]), images(30)
    with torch.no_grad():
        model.conv2.bias[[1, 4]] = -1e3
    assert outweighed(model)["conv2"].nonzero().flatten().tolist() == [1, 4]
    means = replacement_maps(model, shown)
    for filter, without in enumerate(ablate(model, shown, means).without["conv1"]):
        expected = hooked(model, shown, "conv1", filter, means["conv1"][filter])
        assert torch.allclose(without, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("by", ["mean", "zero"])
def test_a_network_with_every_filter_dead_answers_the_same_without_any(by: str):
    model, shown = network(CONFIGS[0]), images(9)
    with torch.no_grad():
        for layer in (model.conv1, model.conv2):
            layer.weight.zero_()
            layer.bias.fill_(-1)
    ablated = ablate(model, shown, replacement_maps(model, shown, by))
    for changed in ablated.without.values():
        assert torch.equal(changed, ablated.logits.expand_as(changed))


def test_a_map_that_is_the_same_in_all_images_is_its_own_mean():
    model, shown = network(CONFIGS[0]), images(EVALUATION_BATCH["cpu"] + 30)
    with torch.no_grad():
        model.conv2.weight[3] = 0
        model.conv2.bias[3] = 0.1
    ablated = ablate(model, shown, replacement_maps(model, shown))
    assert torch.equal(ablated.without["conv2"][3], ablated.logits)


def test_the_network_is_left_as_it_was():
    model = network(CONFIGS[0])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ablated = ablate(model, images(3), replacement_maps(model, images(3)))
    assert isinstance(ablated, Ablation)
    assert not ablated.logits.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_an_unknown_replacement_is_named_with_the_choices():
    with pytest.raises(StudyError, match="'median': choose one of mean, zero"):
        replacement_maps(network(CONFIGS[0]), images(1), "median")
