import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from study.architectures import MODELS, CNNConfig, FFNNConfig
from study.config import AFTER_DATASET, DataConfig, SearchConfig, TrainConfig, fixed_search, model_config
from study.errors import StudyError
from study.names import LONGEST_FOLDER_NAME
from study.ranges import Range

BAD = [
    (DataConfig, {"validation_fraction": 0.0}, "0.0"),
    (DataConfig, {"validation_fraction": 1.0}, "1.0"),
    (DataConfig, {"validation_fraction": -0.25}, "-0.25"),
    (DataConfig, {"validation_fraction": float("nan")}, "nan"),
    (DataConfig, {"image_size": 15}, "image size is 15: it must be from 16 to 256"),
    (DataConfig, {"image_size": 257}, "image size is 257"),
    (TrainConfig, {"learning_rate": -0.5}, "-0.5"),
    (TrainConfig, {"learning_rate": float("inf")}, "inf"),
    (TrainConfig, {"learning_rate": float("nan")}, "nan"),
    (TrainConfig, {"weight_decay": -1e-9}, "-1e-09"),
    (TrainConfig, {"epochs": 0}, "epochs is 0"),
    (TrainConfig, {"batch_size": -3}, "batch size is -3"),
    (TrainConfig, {"warmup_steps": -1}, "-1"),
    (TrainConfig, {"optimiser": "sgd"}, "'sgd'"),
    (TrainConfig, {"schedule": "step"}, "'step'"),
    (Range, {"low": 0.0, "high": 1.0}, "0:1"),
    (Range, {"low": 0.5, "high": 0.4}, "0.5:0.4"),
    (Range, {"low": 2.0, "high": 1.0}, "2:1"),
    (Range, {"low": 1.0, "high": float("inf")}, "1:inf"),
    (Range, {"low": float("nan"), "high": 1.0}, "nan:1"),
    (SearchConfig, {"name": " "}, "empty name"),
    (SearchConfig, {"name": "ä" * 81}, "162 bytes"),
    (SearchConfig, {"name": "s", "trials": 0}, "trials is 0"),
    (SearchConfig, {"name": "s", "epochs": 0}, "epochs is 0"),
    (SearchConfig, {"name": "s", "batch_size": 0}, "batch size is 0"),
    (SearchConfig, {"name": "s", "sampler": "cma"}, "'cma'"),
    (SearchConfig, {"name": "s", "pruner": "asha"}, "'asha'"),
    (SearchConfig, {"name": "s", "optimiser": "lion"}, "'lion'"),
    (SearchConfig, {"name": "s", "schedule": "linear"}, "'linear'"),
    (SearchConfig, {"name": "s", "warmup_steps": -5}, "-5"),
]


@pytest.mark.parametrize(("kind", "values", "named"), BAD, ids=lambda value: str(getattr(value, "__name__", value)))
def test_a_value_that_cannot_work_is_named_in_one_sentence(
    kind: Callable[..., Any], values: dict[str, Any], named: str
):
    with pytest.raises(StudyError) as raised:
        kind(**values)
    text = str(raised.value)
    assert named in text
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("kind", "values", "choices"),
    [
        (TrainConfig, {"optimiser": "sgd"}, ("adam", "adamw")),
        (TrainConfig, {"schedule": "step"}, ("constant", "cosine")),
        (SearchConfig, {"name": "s", "sampler": "cma"}, ("tpe", "random", "grid")),
        (SearchConfig, {"name": "s", "pruner": "asha"}, ("percentile", "hyperband", "median", "none")),
        (model_config, {"name": "resnet"}, ("cnn", "ffnn")),
    ],
)
def test_an_unknown_name_is_answered_with_the_choices(kind: Callable[..., Any], values: dict[str, Any], choices):
    with pytest.raises(StudyError) as raised:
        kind(**values)
    assert all(choice in str(raised.value) for choice in choices)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(
            model=CNNConfig(filters=(4, 6), kernel=3, padding=0, stride=2, dilation=2, pool=3, pooling="average"),
            learning_rate=0.1 + 0.2,
            weight_decay=1e-300,
            epochs=2,
            batch_size=7,
            optimiser="adamw",
            warmup_steps=11,
            schedule="cosine",
            seed=5,
        ),
        TrainConfig(model=FFNNConfig(hidden=3), learning_rate=2.682695795279727e-3),
    ],
)
def test_settings_come_back_exactly_from_what_a_run_records(config: TrainConfig):
    def as_recorded(value: object) -> str:
        return str(list(value)) if isinstance(value, tuple) else str(value)

    recorded = {name: as_recorded(value) for name, value in config.params().items()}
    assert TrainConfig.from_params(recorded) == config


def test_every_setting_is_recorded_under_its_own_name():
    params = TrainConfig(model=CNNConfig(filters=(4, 6))).params()
    assert params["model"] == "cnn"
    assert {"filters", "kernel", "padding", "stride", "dilation", "pool", "pooling"} <= set(params)
    assert {"learning_rate", "weight_decay", "epochs", "batch_size", "seed"} <= set(params)
    assert {"optimiser", "warmup_steps", "schedule"} <= set(params)
    assert "filters" not in TrainConfig(model=FFNNConfig()).params()


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(),
        DataConfig(dataset="/photos", validation_fraction=0.3, split_seed=4, skip_unreadable=True, image_size=48),
    ],
)
def test_data_settings_come_back_from_what_a_run_records(config: DataConfig):
    assert DataConfig.from_params({name: str(value) for name, value in vars(config).items()}) == config


LATEST = TrainConfig(learning_rate=0.5, weight_decay=0.25, epochs=7, seed=3)
AS_RECORDED = {name: json.dumps(value) if name == "filters" else str(value) for name, value in LATEST.params().items()}


@pytest.mark.parametrize(
    "name", ["kernel", "filters", "pooling", "optimiser", "warmup_steps", "schedule", "batch_size"]
)
def test_a_setting_that_is_newer_than_a_run_takes_its_default(name: str):
    old = {key: value for key, value in AS_RECORDED.items() if key != name}
    assert TrainConfig.from_params(old) == LATEST
    assert TrainConfig.from_params({**old, "of_a_later_version": "1"}) == LATEST


@pytest.mark.parametrize("name", ["model", "learning_rate", "weight_decay", "epochs", "seed"])
def test_settings_that_every_run_records_have_no_default(name: str):
    with pytest.raises(StudyError, match=f"^The param {name} is missing.$"):
        TrainConfig.from_params({key: value for key, value in AS_RECORDED.items() if key != name})


def test_a_recorded_model_must_be_known():
    with pytest.raises(StudyError, match="Unknown model 'resnet': choose one of cnn, ffnn"):
        TrainConfig.from_params({**AS_RECORDED, "model": "resnet"})


def test_a_range_is_two_numbers_with_a_colon_between():
    assert Range.parse("1e-5:0.1", "--lr") == Range(low=1e-5, high=0.1)
    assert Range.parse(" 1 : 2 ", "--lr") == Range(low=1, high=2)


def test_one_number_is_a_range_of_one_value():
    assert Range.parse("1e-3", "--lr") == Range.parse("1e-3:1e-3", "--lr") == Range(low=1e-3, high=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_a_fixed_search_on_the_longest_folder_name_has_a_name_that_is_allowed(model: str):
    config = fixed_search(model, "1.2345678912e-05", "1.2345678912e-06")
    key = "x" * LONGEST_FOLDER_NAME + "-0123abcd"
    name = config.name.replace(AFTER_DATASET, f"{key}-{model}")
    assert replace(config, name=name).name.endswith("-lr-1.234567891e-05-decay-1.234567891e-06")


@pytest.mark.parametrize("text", ["", "1:", ":1", "a:b", "1:2:3", "2:1", "0:1", "-1:1", "1e-3-1e-1"])
def test_a_text_that_is_no_range_is_named(text: str):
    with pytest.raises(StudyError, match="LOW:HIGH") as raised:
        Range.parse(text, "--lr")
    assert repr(text) in str(raised.value) or text in str(raised.value)


def test_the_name_and_the_total_are_no_settings_of_a_search():
    first = SearchConfig(name="a", trials=4)
    assert first.settings() == SearchConfig(name="b", trials=9).settings()
    for other in (
        SearchConfig(name="a", epochs=3),
        SearchConfig(name="a", seed=1),
        SearchConfig(name="a", model=FFNNConfig()),
        SearchConfig(name="a", model=CNNConfig(kernel=3)),
        SearchConfig(name="a", learning_rate=Range(low=1e-3, high=1e-2)),
    ):
        assert other.settings() != first.settings()


def test_the_default_settings_are_the_reports():
    assert model_config("cnn") == CNNConfig(filters=(32, 64), kernel=5, padding=2, stride=1, dilation=1, pool=2)
    assert model_config("ffnn") == FFNNConfig(hidden=100)
    assert (TrainConfig().epochs, TrainConfig().batch_size, TrainConfig().optimiser) == (30, 200, "adam")
