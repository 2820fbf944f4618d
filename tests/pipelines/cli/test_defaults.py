"""The fields of `study/config.py` are the only defaults: an edit there is what every command searches with."""

import importlib
import re
from collections.abc import Iterator

import optuna
import pytest

from pipelines.cli import app, options, stages, training, training_options
from study.architectures import CNNConfig, FFNNConfig
from study.config import SearchConfig, TrainConfig
from study.home import Home
from study.ranges import Range
from study.tracking.store import Store
from tests.support.process import Ended, study_here

SEARCHED = {
    "trials": 2,
    "sampler": "random",
    "pruner": "none",
    "learning_rate": Range(low=2e-3, high=0.1 + 0.2),
    "weight_decay": Range(low=3e-5, high=4e-5),
    "epochs": 1,
    "batch_size": 300,
    "seed": 7,
}
TRAINED = {"epochs": 3}


def reload() -> None:
    """Has the command read the defaults again, as a new process does."""
    for module in (options, training_options, stages, training, app):
        importlib.reload(module)


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other defaults in two dataclasses, as if `study/config.py` were edited."""
    for config, fields in ((SearchConfig, SEARCHED), (TrainConfig, TRAINED)):
        for name, value in fields.items():
            monkeypatch.setattr(config, name, value)
            monkeypatch.setitem(config.__init__.__kwdefaults__, name, value)
    reload()
    yield
    monkeypatch.undo()
    reload()


def study_on_digits(command: str, home: Home) -> Ended:
    return study_here(command, "--dataset", "digits", "--device", "cpu", "--threads", "1", home=home.root)


def assert_searched_and_retrained(model: CNNConfig | FFNNConfig, home: Home) -> None:
    """Checks that the search on the digits was made with the edited defaults, and its best retrained with them."""
    search = optuna.load_study(study_name=f"digits-{model.name}", storage=home.storage_url)
    expected = SearchConfig(name="any", model=model, **SEARCHED).settings()
    recorded = search.user_attrs["settings"]
    assert {name: recorded[name] for name in SEARCHED if name != "trials"} == {
        name: expected[name] for name in SEARCHED if name != "trials"
    }
    assert len(search.trials) == SEARCHED["trials"]
    for trial in search.trials:
        assert 2e-3 <= trial.params["learning_rate"] <= 0.1 + 0.2
        assert 3e-5 <= trial.params["weight_decay"] <= 4e-5
        assert list(trial.intermediate_values) == [1]
    (retrained,) = Store(home).runs(stage="retrain", model=model.name)
    assert retrained.params["epochs"] == "3"


@pytest.mark.slow
@pytest.mark.usefixtures("edited")
def test_an_edited_default_is_what_tune_searches_and_reproduce_agrees(home: Home) -> None:
    ended = study_on_digits("tune", home)
    assert ended.code == 0, ended.err
    assert_searched_and_retrained(CNNConfig(), home)
    # In the way of the report, which takes a minute; what comes before it is made.
    home.reports.write_text("no folder")
    ended = study_on_digits("reproduce", home)
    assert "Search digits-cnn has 2 finished trials already" in ended.out, ended.err
    assert_searched_and_retrained(FFNNConfig(), home)


@pytest.mark.usefixtures("edited")
@pytest.mark.parametrize("command", ["tune", "reproduce"])
def test_the_help_shows_an_edited_default(command: str, home: Home) -> None:
    helped = " ".join(study_here(command, "--help", home=home.root).out.replace("│", "").split())
    assert "default 2, grid 64" in helped
    defaults = {"epochs": "1", "retrain-epochs": "3", "seed": "7"}
    if command == "tune":
        defaults |= {"lr": "0.002:0.30000000000000004", "sampler": "random"}
    for name, value in defaults.items():
        assert re.search(rf" --{name} [^[]*\[default: \(?{re.escape(value)}[\];]", helped), name


def test_a_range_is_written_as_it_is_read() -> None:
    for ends in (Range(low=1e-5, high=0.1), Range(low=1 / 3, high=2 / 3), Range(low=1e-300, high=1e300)):
        assert Range.parse(str(ends), "--lr") == ends
