import json
from dataclasses import replace

import pytest

from study.architectures import CNNConfig, FFNNConfig, ModelConfig
from study.config import SearchConfig
from study.errors import StudyError
from study.home import Home
from study.ranges import Range
from study.search import search
from study.search.records import Searches
from study.search.settings import config_of
from tests.study.search.test_search import QUICK, opened
from tests.study.search.test_space import SEARCHES


@pytest.mark.parametrize("model", [CNNConfig(), FFNNConfig()], ids=lambda model: model.name)
def test_a_search_comes_back_from_its_stored_settings(model: ModelConfig):
    search = SEARCHES[model.name]
    stored = json.loads(json.dumps(search.settings()))
    assert config_of("s", stored) == search
    # A search from before there were choices.
    before = json.loads(json.dumps(SearchConfig(name="s", model=model).settings()))
    del before["choices"]
    assert config_of("s", before) == SearchConfig(name="s", model=model)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"epochs": 4}, "epochs was 3, now 4"),
        ({"sampler": "random"}, "sampler was tpe, now random"),
        ({"learning_rate": Range(low=1e-3, high=1e-2)}, "learning_rate was 1e-05:0.1, now 0.001:0.01"),
        ({"model": CNNConfig(filters=(8, 8))}, "filters was [32, 64], now [8, 8]"),
        ({"seed": 3}, "seed was 0, now 3"),
    ],
)
def test_changed_settings_are_refused_with_the_difference(changed: dict[str, object], named: str, home: Home):
    opened(home)
    with pytest.raises(StudyError, match="was started with other settings") as raised:
        opened(home, replace(QUICK, **changed))
    assert named in str(raised.value)
    assert "--search" in str(raised.value)
    opened(home, replace(QUICK, trials=100))


def test_images_of_another_size_are_refused_with_both_sizes(home: Home):
    opened(home)
    optuna_study = opened(home)
    with pytest.raises(StudyError, match="image_size was 32, now 48; dataset was"):
        search.open_search(QUICK, home.storage_url, digest="another", image_size=48)
    settings = optuna_study.user_attrs["settings"]
    del settings["image_size"]
    optuna_study.set_user_attr("settings", settings)
    opened(home)


def test_a_search_that_is_older_than_a_setting_is_continued_with_its_default(home: Home):
    optuna_study = opened(home)
    settings = optuna_study.user_attrs["settings"]
    del settings["warmup_steps"], settings["model_settings"]["dilation"]
    settings["of_a_later_version"] = settings["model_settings"]["of_a_later_version"] = 1
    optuna_study.set_user_attr("settings", settings)
    opened(home)
    [record] = Searches(home.storage_url).read()
    assert replace(record.config, trials=QUICK.trials) == QUICK
    with pytest.raises(StudyError, match="warmup_steps was 0, now 3"):
        opened(home, replace(QUICK, warmup_steps=3))


def test_a_search_with_an_unknown_model_says_so(home: Home):
    optuna_study = opened(home)
    optuna_study.set_user_attr("settings", {**optuna_study.user_attrs["settings"], "model": "resnet"})
    [record] = Searches(home.storage_url).read()
    assert record.fault == "Unknown model 'resnet': choose one of cnn, ffnn."


def test_another_data_set_is_refused(home: Home):
    opened(home)
    with pytest.raises(StudyError, match="dataset was 0123456789ab, now fedcba"):
        opened(home, digest="fedcba9876543210")
