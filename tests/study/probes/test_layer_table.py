import pytest
import torch

from study.architectures import CNNConfig, FFNNConfig, ModelConfig
from study.config import model_config
from study.errors import StudyError
from study.models import build_model
from study.probes.layer_table import COLUMNS, architecture

CONFIGS = [
    CNNConfig(),
    CNNConfig(filters=(3, 5), kernel=3, padding=1, stride=2, pool=3),
    CNNConfig(filters=(3, 5), kernel=3, padding=0, dilation=2),
    CNNConfig(filters=(3, 5), pooling="average"),
    FFNNConfig(),
    FFNNConfig(hidden=7),
]


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_sizes_and_parameters_are_those_of_the_built_network(config: ModelConfig, side: int):
    table = architecture(config, classes=4, side=side).set_index("layer")
    model = build_model(config, classes=4, seed=0, side=side)
    maps = model.activations(torch.zeros(1, 3, side, side))
    assert list(table.index) == ["input", *maps]
    for layer, values in maps.items():
        assert table.loc[layer, "output"] == " × ".join(map(str, values.shape[1:]))
        owned = [tensor.numel() for name, tensor in model.named_parameters() if name.startswith(f"{layer}.")]
        assert table.loc[layer, "parameters"] == sum(owned)


def test_the_reports_networks_have_its_numbers():
    cnn, ffnn = architecture(CNNConfig(), classes=10), architecture(FFNNConfig(), classes=10)
    assert list(cnn) == COLUMNS
    assert cnn["parameters"].sum() == 94_666
    assert ffnn["parameters"].sum() == 308_310
    assert cnn["output"].iloc[-2] == "64 × 8 × 8"
    assert cnn["equation_2"].iloc[1] == "(32 − 5 + 2·2) / 1 + 1 = 32"
    assert not ffnn["equation_2"].any()


@pytest.mark.parametrize("config", CONFIGS[:3], ids=str)
def test_equation_2_is_written_as_it_reckons(config: CNNConfig):
    for equation in filter(None, architecture(config, classes=10)["equation_2"]):
        formula, result = equation.replace("−", "-").replace("·", "*").replace("/", "//").split(" = ")
        assert eval(formula.strip("⌊").replace("⌋", "")) == int(result)
        assert ("⌊" in equation) == (eval(formula.strip("⌊").replace("⌋", "").replace("//", "/")) != int(result))


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_kind_of_pooling_is_named(pooling: str):
    table = architecture(CNNConfig(pooling=pooling), classes=10).set_index("layer")
    assert table.loc["pool2", "what"] == f"{pooling} pooling 2 × 2, stride 2"


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(StudyError, match="do not fit"):
        architecture(CNNConfig(pool=6), classes=10)


def test_the_layers_of_another_network_are_its_modules_as_they_run():
    table = architecture(model_config("resnet18"), classes=10).set_index("layer")
    assert table["parameters"].sum() == 11_173_962
    assert list(table.index[:4]) == ["input", "conv1", "bn1", "relu"]
    assert table.index[-1] == "fc"
    assert [layer for layer in table.index if layer.startswith("conv")] == [f"conv{place}" for place in range(1, 21)]
    row = table.loc["conv6"]
    assert row["what"] == "layer2.0.conv1: 128 kernels 64 × 3 × 3, padding 1, stride 2"
    assert (row["output"], row["equation_2"]) == ("128 × 16 × 16", "⌊(32 − 3 + 2·1) / 2⌋ + 1 = 16")
