import json
from dataclasses import replace

import pytest

from study.architectures import CustomConfig, FFNNConfig
from study.config import DataConfig, SearchConfig, TrainConfig, model_config
from study.errors import StudyError
from study.tracking.runs import DATA_PARAMS, WORKER, Run, as_param, differing_params
from study.tracking.tags import search_tags, trial_tags

CONFIG = SearchConfig(name="digits-ffnn", model=FFNNConfig(), seed=7)
TRAINING = TrainConfig(model=FFNNConfig(hidden=3), learning_rate=0.1 + 0.2, epochs=2, seed=9)
DATA = DataConfig(dataset="/photos", split_seed=4, skip_unreadable=True)


def run(tags: dict[str, str], params: dict[str, str] | None = None) -> Run:
    return Run("0123", "trial 3", "FINISHED", "1", 0, {**tags, "dataset": "photos-01234567"}, params or {}, {})


def texts(values: dict[str, object]) -> dict[str, str]:
    return {name: json.dumps(value) if isinstance(value, tuple) else str(value) for name, value in values.items()}


TRIAL = run(trial_tags(CONFIG, 3, 1), texts({**TRAINING.params(), **vars(DATA), "dataset_digest": "ab"}))


def test_tags_and_params_are_read_as_what_they_are():
    assert (TRIAL.stage, TRIAL.model, TRIAL.search) == ("trial", "ffnn", "digits-ffnn")
    assert (TRIAL.trial_number, TRIAL.base_seed, TRIAL.tags["retry_of"]) == (3, 7, "1")
    assert (TRIAL.dataset_key, TRIAL.dataset, TRIAL.dataset_digest) == ("photos-01234567", "/photos", "ab")
    assert (TRIAL.epochs, TRIAL.seed, TRIAL.stopped_epoch) == (2, 9, None)
    assert (TRIAL.train_config, TRIAL.data_config) == (TRAINING, DATA)
    assert replace(TRIAL, tags={"stopped_epoch": "2"}).stopped_epoch == 2
    compared = run({"conditions": '["a", "b"]', "seeds": "[0, 1]"})
    assert (compared.conditions, compared.seeds) == (("a", "b"), (0, 1))


def test_the_worker_is_read_also_where_an_earlier_version_recorded_it():
    assert run({WORKER: "host 1 2"}).worker == run({"worker": "host 1 2"}).worker == "host 1 2"
    assert run({WORKER: "host 1 2", "worker": "host 3 4"}).worker == "host 1 2"


def test_a_full_name_has_the_search_once():
    assert replace(TRIAL, name="trial 3").full_name == "trial 3 of digits-ffnn"
    assert replace(TRIAL, name="trial 3 of digits-ffnn").full_name == "trial 3 of digits-ffnn"
    assert replace(TRIAL, name="digits-ffnn", tags=search_tags(CONFIG)).full_name == "digits-ffnn"
    assert run({"stage": "analysis"}).full_name == "trial 3"


def test_a_run_of_another_program_has_empty_texts():
    other = Run("1", "other", "FINISHED", "1", 0, {}, {}, {})
    assert (other.stage, other.dataset_key, other.search, other.worker, other.reason, other.parent) == ("",) * 6
    assert (other.epochs, other.trials, other.conditions, other.restored) == (0, None, (), "")


@pytest.mark.parametrize(("name", "recorded"), [("trial_number", "optuna_trial"), ("base_seed", "base_seed")])
def test_a_number_that_is_missing_or_malformed_is_named_with_its_run(name: str, recorded: str):
    with pytest.raises(StudyError, match=rf"^Run trial 3 \(0123\) does not record its {recorded}: "):
        getattr(run({}), name)
    with pytest.raises(StudyError, match=rf"^Run trial 3 \(0123\) has a malformed {recorded}: 'three'\.$"):
        getattr(run({recorded: "three"}), name)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"epochs": "two"}, "the param epochs is 'two', which is no value of it."),
        ({"model": "resnet"}, "unknown model 'resnet': choose one of cnn, ffnn."),
        ({"hidden": "-1"}, "hidden units is -1: it must be at least 1."),
    ],
)
def test_settings_that_cannot_be_read_are_named_with_their_run(params: dict[str, str], reason: str):
    with pytest.raises(StudyError) as raised:
        replace(TRIAL, params=TRIAL.params | params).train_config  # noqa: B018
    assert str(raised.value) == f"The settings of run trial 3 (0123) cannot be read: {reason}"


def test_params_differ_where_both_runs_record_another_value():
    other = replace(TRIAL, params={**TRIAL.params, "epochs": "5", "pruner": "none"})
    assert differing_params(TRIAL, other, ["epochs", "seed", "pruner", *DATA_PARAMS]) == {"epochs": ("2", "5")}


def test_the_option_of_a_network_is_its_name_or_the_path_of_its_function():
    own = SearchConfig(name="s", model=CustomConfig(model_path="nets:wide"))
    for model, option in ((own.model, "nets:wide"), (model_config("resnet18"), "resnet18"), (FFNNConfig(), "ffnn")):
        config = replace(own, model=model)
        assert (
            run(
                {"model": model.name}, {name: as_param(value) for name, value in config.settings().items()}
            ).model_option
            == option
        )
        assert run({"model": model.name}, texts(TrainConfig(model=model).params())).model_option == option
    assert run({"model": "cnn"}, {"model_settings": "[broken"}).model_option == "cnn"
