"""A network of the user's own: it is found, built and checked, and every mistake is a sentence."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import nn

from study import custom
from study.architectures import ARCHITECTURES, MODELS, CustomConfig, FFNNConfig, model_option
from study.config import SearchConfig, TrainConfig, model_config
from study.errors import StudyError
from study.models import build_model, parameter_count, trained_model
from study.ranges import Choices
from study.search.space import in_space, search_space, training
from study.tracking.runs import as_param

SOURCE = """
import torch
from torch import nn

counter = 3

def good(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, classes))

def sized(classes, side, width=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, width), nn.ReLU(), nn.Linear(width, classes))

def searched(classes, width=5, dropout=0.1, norm=True, act="relu"):
    assert [type(value) for value in (width, dropout, norm, act)] == [int, float, bool, str]
    norms = [nn.LayerNorm(width)] if norm else []
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, width), *norms, nn.Dropout(dropout), nn.Linear(width, classes))

class Own(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(3072, classes))

def clashing(classes, epochs=3, filters=4, state="off"):
    return good(classes)

def no_classes(count):
    raise SystemExit("was called")

def needy(classes, width, depth):
    return good(classes)

def a_list(classes):
    return [classes]

def wrong_shape(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, classes + 1))

def a_tuple(classes):
    class Two(nn.Flatten):
        def forward(self, images):
            return images, images
    model = Two()
    model.unused = nn.Linear(1, 1)
    return model

def no_parameters(classes):
    return nn.Flatten()

def too_small(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 33), nn.Flatten(), nn.Linear(4, classes))

def broken(classes):
    return 1 / 0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of networks."""
    (tmp_path / "my_networks.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    # Compiled files are told from changed ones by size and second alone, and the tests change a digit at once.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("function", ["good", "sized", "Own"])
def test_a_function_or_a_class_builds_a_network(function: str):
    before = list(sys.path)
    config = custom.network_settings(f"my_networks:{function}")
    model = build_model(config, classes=7, seed=3)
    assert config.name == function
    assert model.training
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    again = build_model(config, classes=7, seed=3)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), again.parameters(), strict=True))
    assert sys.path == before


@pytest.mark.usefixtures("folder")
def test_a_function_is_given_the_side_of_the_images_if_it_takes_it():
    model = build_model(custom.network_settings("my_networks:sized"), classes=3, seed=0, side=8)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 3)


@pytest.mark.usefixtures("folder")
def test_further_arguments_have_the_types_of_their_defaults_and_are_recorded():
    config = custom.network_settings(
        "my_networks:searched", {"width": Choices.parse("6,7", ""), "dropout": 0, "norm": "false", "act": "gelu"}
    )
    _, first, dropout, last = build_model(config, classes=3, seed=0)
    assert (first.out_features, dropout.p, last.in_features) == (6, 0.0, 6)
    params = {name: as_param(value) for name, value in TrainConfig(model=config).params().items()}
    assert params["width"] == "6"
    assert TrainConfig.from_params(params).model == config
    assert parameter_count(config, classes=3) != parameter_count(replace(config, arguments={"width": 7}), classes=3)
    assert TrainConfig(model=config).differing().items() >= {"width": 6, "norm": "false"}.items()


@pytest.mark.usefixtures("folder")
def test_an_argument_whose_default_is_a_fraction_is_drawn_from_a_range_of_fractions():
    values = {"dropout": Choices.parse("0:0.5", "--argument dropout")}
    search = SearchConfig(name="s", model=custom.network_settings("my_networks:searched", values))
    search = in_space(search, "report", {"dropout": "0:0.5"})
    assert search_space(search)["dropout"] == FloatDistribution(0, 0.5)
    drawn = training(search, 0, {"learning_rate": 1e-3, "weight_decay": 1e-4, "dropout": 0.25})
    assert build_model(drawn.model, classes=3, seed=0)[3].p == 0.25


@pytest.mark.usefixtures("folder")
def test_an_argument_without_a_default_needs_a_value():
    needy = custom.network_settings("my_networks:needy", {"width": "3", "depth": "2"})
    assert build_model(needy, classes=2, seed=0)(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


WRONG_ARGUMENTS = {
    ("my_networks:searched", "height", "3"): ("'height'", "width, dropout, norm, act"),
    ("my_networks:searched", "width", "3,wide"): ("--argument width is 'wide'", "whole number", "5"),
    ("my_networks:searched", "width", "1.0:4"): ("--argument width is '1.0:4.0'", "a range of fractions", "5"),
    ("my_networks:searched", "dropout", "much"): ("--argument dropout is 'much'", "a number"),
    ("my_networks:searched", "norm", "perhaps"): ("--argument norm is 'perhaps'", "true or false"),
    ("my_networks:good", "width", "3"): ("has no argument 'width'", "takes no further ones"),
    ("my_networks:sized", "side", "3"): ("'side'", "width"),
    ("my_networks:clashing", "epochs", "3"): ("epochs", "another setting", "rename it"),
    ("my_networks:clashing", "state", "on"): ("state", "another setting", "rename it"),
    ("cnn", "width", "3"): ("The cnn takes no --argument width",),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("option", "name", "values"), WRONG_ARGUMENTS)
def test_a_wrong_argument_is_a_sentence_that_names_the_choices(option: str, name: str, values: str):
    with pytest.raises(StudyError) as raised:
        custom.network_settings(option, {name: Choices.parse(values, "")})
    assert all(words in str(raised.value) for words in WRONG_ARGUMENTS[option, name, values]), raised.value


MISTAKES = {
    "nowhere:build": ("no module 'nowhere'", "current folder"),
    "my_networks.py:good": ("write my_networks:good, without .py",),
    "networks/deep.py:good": ("write deep:good in its folder",),
    "my_networks:bad": ("no function 'bad'", "good, sized, searched, Own"),
    "my_networks:counter": ("is a int, not a function",),
    "my_networks:no_classes": ("has no parameter classes",),
    "my_networks:needy": ("needs width, depth",),
    "my_networks:a_list": ("returned a list", "nn.Module"),
    "my_networks:wrong_shape": ("(2, 11) for images (2, 3, 32, 32)", "(2, 10)"),
    "my_networks:a_tuple": ("returns a tuple", "(2, 10)"),
    "my_networks:no_parameters": ("has no parameters",),
    "my_networks:too_small": ("fails on images (2, 3, 32, 32)", "RuntimeError"),
    "my_networks:broken": ("failed: ZeroDivisionError: division by zero",),
    "os:system": ("has no parameter classes",),
    "resnet": ("'resnet'", "cnn", "ffnn", *ARCHITECTURES, "package.module:function"),
    "a-b:build": ("'a-b:build'", "package.module:function"),
    "my_networks:": ("'my_networks:'",),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("option", MISTAKES)
def test_a_mistake_is_a_sentence_that_names_it(option: str):
    with pytest.raises(StudyError) as raised:
        build_model(custom.network_settings(option), classes=10, seed=0)
    text = str(raised.value)
    assert all(words in text for words in MISTAKES[option]), text
    assert "\n" not in text
    assert text.endswith(".")


def test_an_error_in_the_module_is_told_from_a_missing_module(folder: Path):
    for name, text, words in (
        ("bad_syntax", "def build(:", "SyntaxError"),
        ("bad_import", "import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
    ):
        (folder / f"{name}.py").write_text(text)
        with pytest.raises(StudyError, match=rf"^The module {name} cannot be imported: .*{words}"):
            custom.network_settings(f"{name}:build")


@pytest.mark.parametrize("path", ["mine:cnn", "mine:ffnn", "mine:resnet18"])
def test_the_name_of_another_network_is_refused(path: str):
    with pytest.raises(StudyError, match="another network's name: rename"):
        model_config(path)


@pytest.mark.parametrize(("path", "name"), [("a.b:wide", "wide"), ("a.narrow:build", "narrow")])
def test_a_network_is_called_by_its_function_or_its_module(path: str, name: str):
    config = model_config(path)
    assert config.name == name
    assert model_option(config) == path


@pytest.mark.parametrize("name", [*MODELS, *ARCHITECTURES])
def test_a_network_of_this_package_is_called_by_its_entry_and_builds(name: str):
    config = custom.network_settings(name)
    assert (config.name, model_option(config)) == (name, name)
    assert isinstance(build_model(config, classes=10, seed=0), nn.Module)
    assert getattr(config, "model_source", "") == ""


def test_a_run_records_enough_to_build_the_network_again(folder: Path):
    config = TrainConfig(model=custom.network_settings("my_networks:good"), epochs=3)
    params = {name: as_param(value) for name, value in config.params().items()}
    assert TrainConfig.from_params(params) == config
    assert params["model"] == "good"
    assert params["model_source"] == custom.source_hash(config.model) != ""  # type: ignore[arg-type]
    assert custom.change_warning(config.model) == ""
    (folder / "my_networks.py").write_text(SOURCE.replace("3, 4, 3", "3, 5, 3").replace("4 * 30", "5 * 30"))
    assert "my_networks:good has changed" in custom.change_warning(config.model)
    assert custom.change_warning(FFNNConfig()) == ""


def test_weights_of_another_network_are_refused_with_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch):
    config = custom.network_settings("my_networks:good")
    weights = build_model(config, classes=10, seed=0).state_dict()
    loaded = trained_model(config, weights, classes=10)
    assert not loaded.training
    assert torch.equal(loaded.state_dict()["0.weight"], weights["0.weight"])
    (folder / "my_networks.py").write_text(SOURCE.replace("3, 4, 3", "3, 5, 3").replace("4 * 30", "5 * 30"))
    monkeypatch.delitem(sys.modules, "my_networks")
    with pytest.raises(StudyError, match=r"do not fit the network that my_networks:good builds now\. The file of"):
        trained_model(config, weights, classes=10)


def test_the_config_of_a_function_is_no_other_network():
    with pytest.raises(StudyError, match="no function"):
        CustomConfig(model_path="../evil:build")
