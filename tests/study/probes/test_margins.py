import pytest
import torch
from torch import Tensor, nn

from study.architectures import CNNConfig
from study.models import build_model
from study.probes.margins import background_margin, bias_margin, blurred, grey_margin, last_layer, margins, pair_of
from study.probes.twin import twin


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return twin(build_model(CNNConfig(filters=(3, 4)), classes=5, seed=0).eval())


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_margin_is_the_difference_of_two_logits_or_one_logit(network: nn.Sequential, images: Tensor):
    with torch.no_grad():
        logits = network(images)
    torch.testing.assert_close(margins(network, images, pair_of(3, 1, 4)), logits[:, 3] - logits[:, 1])
    torch.testing.assert_close(margins(network, images, pair_of(3, None, 4)), logits[:, 3])


def test_the_background_has_the_mean_margin_of_the_pair_of_each_image(network: nn.Sequential, images: Tensor):
    pair = (torch.tensor([0, 4]), torch.tensor([1, 2]))
    expected = [margins(network, images, pair_of(a, b, 4)).mean() for a, b in ((0, 1), (4, 2))]
    torch.testing.assert_close(background_margin(network, images[:2], pair, images), torch.stack(expected))


def test_grey_images_have_the_margin_of_zeros(network: nn.Sequential, images: Tensor):
    margin = margins(network, torch.zeros(1, 3, 32, 32), pair_of(2, 0))
    torch.testing.assert_close(grey_margin(network, images, pair_of(2, 0, 4), images), margin.expand(4))


def test_the_biases_have_the_difference_of_two_biases_or_one(network: nn.Sequential, images: Tensor):
    bias = last_layer(network).bias.detach()
    assert bias_margin(network, images[:1], pair_of(2, 0), images) == bias[2] - bias[0]
    assert bias_margin(network, images[:1], pair_of(2), images) == bias[2]


def test_blurring_keeps_the_mean_and_takes_away_what_is_small(images: Tensor):
    soft = blurred(images)
    assert soft.shape == images.shape
    assert soft.std() < 0.1 * images.std()
    assert soft.mean() == pytest.approx(float(images.mean()), abs=0.02)
