"""Which convolutions of a network a report shows."""

import pytest

from pipelines.config import AnalysisConfig
from pipelines.report.layers import choose
from study.architectures import CNNConfig, FFNNConfig
from study.config import model_config
from study.errors import StudyError


def test_of_the_reports_cnn_both_convolutions_are_shown_and_of_the_ffnn_none():
    shown = choose(AnalysisConfig(), CNNConfig(filters=(4, 20)), 1)
    assert shown.filters == {"conv1": 3, "conv2": 12}
    assert shown.maps["conv2"] == ("conv2", "relu2", "pool2")
    assert choose(AnalysisConfig(), FFNNConfig(), 1).filters == {}


def test_of_another_network_the_first_and_the_last_with_a_relu_are_shown():
    assert choose(AnalysisConfig(), model_config("resnet18"), 10).filters == {"conv1": 12, "conv19": 12}
    assert choose(AnalysisConfig(), model_config("three_layers"), 10).filters == {"conv1": 12, "conv3": 12}


def test_layers_are_chosen_by_number_or_by_the_name_of_their_module():
    config = AnalysisConfig(layer="conv2, layer4.1.conv2", filter=40)
    shown = choose(config, model_config("resnet18"), 10)
    assert shown.filters == {"conv2": 40, "conv20": 40}
    assert shown.maps == {"conv2": ("conv2", "relu2"), "conv20": ("conv20",)}


@pytest.mark.parametrize(
    ("config", "model", "words"),
    [
        (AnalysisConfig(layer="conv9"), "cnn", ("'conv9'", "conv1, conv2")),
        (AnalysisConfig(layer="conv4"), "three_layers", ("'conv4'", "convolutions.0", "conv3")),
        (AnalysisConfig(layer="conv1", filter=16), "three_layers", ("conv1 has no filter 16", "0 to 15")),
        (AnalysisConfig(filter=1), "ffnn", ("no convolutions",)),
    ],
)
def test_what_the_network_does_not_have_is_refused_with_the_choices(
    config: AnalysisConfig, model: str, words: tuple[str, ...]
):
    with pytest.raises(StudyError) as raised:
        choose(config, model_config(model), 10)
    assert all(word in str(raised.value) for word in words)
