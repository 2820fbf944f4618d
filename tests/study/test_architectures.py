import re
from typing import Any

import pytest

from study.architectures import CNNConfig, CustomConfig, FFNNConfig, ModelConfig, default_model, model_option
from study.errors import StudyError


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (CNNConfig, {"filters": (32,)}, "(32,)"),
        (CNNConfig, {"filters": (32, 64, 128)}, "(32, 64, 128)"),
        (CNNConfig, {"filters": (0, 64)}, "first filter count is 0"),
        (CNNConfig, {"filters": (32, -1)}, "second filter count is -1"),
        (CNNConfig, {"kernel": 0}, "kernel is 0"),
        (CNNConfig, {"stride": 0}, "stride is 0"),
        (CNNConfig, {"dilation": -2}, "dilation is -2"),
        (CNNConfig, {"pool": 0}, "pool is 0"),
        (CNNConfig, {"padding": -1}, "padding is -1"),
        (CNNConfig, {"pooling": "mean"}, "'mean'"),
        (FFNNConfig, {"hidden": 0}, "hidden units is 0"),
    ],
)
def test_a_size_that_cannot_work_is_named(kind: type[ModelConfig], values: dict[str, Any], named: str):
    with pytest.raises(StudyError, match=rf"{re.escape(named)}.*\.$"):
        kind(**values)


@pytest.mark.parametrize("config", [CNNConfig(kernel=3), FFNNConfig(hidden=3)])
def test_the_default_of_a_network_of_the_report_is_the_reports(config: ModelConfig):
    assert default_model(config) == type(config)()
    assert model_option(config) == config.name


def test_the_default_of_another_network_is_the_same_function_without_arguments():
    config = CustomConfig(model_path="nets:build", arguments={"width": 8})
    assert default_model(config) == CustomConfig(model_path="nets:build")
    assert (config.name, model_option(config)) == ("nets", "nets:build")
