"""The examples of other networks have the sizes that they say."""

import inspect
import re

import pytest
import torch

from study import examples
from study.architectures import ARCHITECTURES
from study.config import model_config
from study.models import build_model


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_173_962), ("three_layers", 24_346)])
def test_an_example_has_as_many_parameters_as_it_says(name: str, parameters: int):
    model = build_model(model_config(name), classes=10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    said = re.search(r"([\d.,]+)( million)? parameters", inspect.getdoc(getattr(examples, name)) or "")
    assert said
    assert said[1] in (f"{parameters:,}", f"{parameters / 1e6:.1f}")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_entry_is_called_like_its_function(name: str):
    assert ARCHITECTURES[name].partition(":")[2] == name


def test_the_resnet_keeps_the_size_of_the_image_at_first():
    model = build_model(model_config("resnet18"), classes=10, seed=0)
    assert model.layer1(torch.relu(model.conv1(torch.zeros(1, 3, 32, 32)))).shape == (1, 64, 32, 32)  # type: ignore[operator]
