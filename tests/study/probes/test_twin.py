import pytest
import torch

from study.architectures import CNNConfig, FFNNConfig
from study.models import build_model
from study.probes.twin import Margins, margin_index, twin, with_margins

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(),
        CNNConfig(filters=(4, 6), pool=3, padding=0),
        CNNConfig(filters=(4, 6), pooling="average"),
        FFNNConfig(hidden=8),
    ],
    ids=str,
)
def test_twin_has_the_models_logits_bit_for_bit_and_shares_its_parameters(config):
    model = build_model(config, classes=7, seed=0)

    network = twin(model)

    assert torch.equal(network(IMAGES), model(IMAGES))
    assert {id(parameter) for parameter in network.parameters()} == {id(parameter) for parameter in model.parameters()}
    assert set(model.layers) <= set(dict(network.named_children()))


def test_each_output_is_the_margin_that_its_index_says():
    logits = torch.tensor([[1.0, 5.0, -2.0], [0.5, 0.0, 8.0]])
    a, b = torch.tensor([1, 2]), torch.tensor([2, 0])

    margins = Margins()(logits)

    assert margins[[0, 1], margin_index(a, b, 3)].tolist() == [7.0, 7.5]
    assert margins[[0, 1], margin_index(a, None, 3)].tolist() == [5.0, 8.0]


def test_margins_of_the_twin_are_differences_of_the_models_logits():
    model = build_model(CNNConfig(filters=(4, 6)), classes=3, seed=0)
    logits = model(IMAGES)

    margin = with_margins(twin(model))(IMAGES)[:, margin_index(torch.tensor([2]), torch.tensor([0]), 3)]

    assert torch.allclose(margin[:, 0], logits[:, 2] - logits[:, 0], atol=1e-6)
