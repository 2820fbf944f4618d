"""The search spaces: all that they propose can be built, and nothing that was searched before changes."""

import itertools
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.architectures import CNNConfig, CustomConfig, FFNNConfig
from study.config import SearchConfig, TrainConfig, model_config
from study.errors import StudyError
from study.models import build_model, parameter_count
from study.ranges import Choices
from study.search.sampling import Sampler
from study.search.space import (
    ARCHITECTURE,
    GEOMETRY,
    TRAINING,
    costliest,
    distribution,
    in_space,
    largest_feature_maps,
    possible,
    search_space,
    train_config,
    training,
)

SEARCHES = {
    model.name: in_space(SearchConfig(name="s", model=model), "architecture", {})
    for model in (CNNConfig(), FFNNConfig())
}
OWN = {
    "kernel": st.sampled_from(["3", "1,2,3", "3,9,15", "5,7,9,11,13", "30,31"]),
    "dilation": st.sampled_from(["1", "1,2,3", "2,5,8"]),
    "stride": st.sampled_from(["1", "1,2,3", "3,4"]),
    "pool": st.sampled_from(["1,2", "2", "2,3,4", "4,6"]),
    "padding": st.sampled_from(["0", "0,1,2,3", "0,10,20", "2,4"]),
}


class Proposed:
    """A trial whose values hypothesis chooses among those that it is offered."""

    number = 0

    def __init__(self, draw: Callable[[Any], Any]):
        self.draw, self.params, self.user_attrs = draw, {}, {}

    def suggest_float(self, name: str, low: float, high: float, log: bool) -> float:
        return self._kept(name, st.floats(low, high))

    def suggest_int(self, name: str, low: int, high: int, step: int = 1, log: bool = False) -> int:
        return self._kept(name, st.sampled_from(range(low, high + 1, step)))

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        return self._kept(name, st.sampled_from(choices))

    def _kept(self, name: str, values: Any) -> Any:
        self.params[name] = self.draw(values)
        return self.params[name]


def assert_works(config: TrainConfig, side: int = 32) -> None:
    """Checks that the network can be built and takes an image of this side, in pixels."""
    model = build_model(config.model, classes=10, seed=0, side=side)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 10)
    assert parameter_count(config.model, classes=10, side=side) == sum(
        weights.numel() for weights in model.parameters()
    )


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["cnn", "ffnn"]))
def test_every_point_that_the_space_proposes_builds_and_takes_an_image(data: st.DataObject, model: str):
    trial = Proposed(data.draw)
    config = train_config(trial, SEARCHES[model])  # type: ignore[arg-type]
    assert_works(config)
    # What is recorded gives the same settings again.
    assert training(SEARCHES[model], 0, trial.params) == config


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data(), st.fixed_dictionaries({}, optional=OWN), st.sampled_from([16, 32, 64]))
def test_so_does_every_point_of_a_space_of_ones_own(data: st.DataObject, given: dict[str, str], side: int):
    try:
        search = in_space(SearchConfig(name="s", image_size=side), "architecture", {**given, "filters": "2,3"})
    except StudyError as error:
        if "The layers do not fit" not in str(error):
            raise
        # With none of the choices.
        space = {name: Choices.parse(text, name) for name, text in (ARCHITECTURE["cnn"] | given).items()}
        assert not any(
            _fits(CNNConfig(filters=(1, 1), **dict(zip(GEOMETRY, point, strict=True))), side)  # type: ignore[arg-type]
            for point in itertools.product(*(space[name].values for name in GEOMETRY))
        )
        return
    assert_works(train_config(Proposed(data.draw), search), side)  # type: ignore[arg-type]


def _fits(model: CNNConfig, side: int = 32) -> bool:
    try:
        build_model(model, classes=2, seed=0, side=side)
    except StudyError:
        return False
    return True


def every_geometry(search: SearchConfig, drawn: dict[str, int], names: tuple[str, ...] = GEOMETRY) -> list[tuple[int]]:
    """All combinations that the space can propose."""
    if not names:
        return [tuple(drawn.values())]  # type: ignore[list-item]
    choices = possible(search, names[0], drawn)
    assert choices
    return [
        point
        for value in choices.values
        for point in every_geometry(search, {**drawn, names[0]: value}, names[1:])  # type: ignore[dict-item]
    ]


def test_the_space_leaves_out_no_combination_that_fits():
    proposed = every_geometry(SEARCHES["cnn"], {})
    values = [list(map(int, ARCHITECTURE["cnn"][name].split(","))) for name in GEOMETRY]
    fitting = []
    for kernel in values[0]:
        for dilation in values[1]:
            for stride in values[2]:
                for pool in values[3]:
                    for padding in values[4]:
                        point = dict(zip(GEOMETRY, (kernel, dilation, stride, pool, padding), strict=True))
                        if _fits(CNNConfig(filters=(1, 1), **point)):
                            fitting.append(tuple(point.values()))
    assert sorted(proposed) == sorted(fitting)
    # Else the conditions would not matter.
    assert 0.5 < len(fitting) / 144 < 0.9


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_draw_only_what_fits_and_vary_all(sampler: str):
    search = in_space(SearchConfig(name="s", sampler=sampler), "architecture", {"pool": "1,2,3,4"})
    study = optuna.create_study(direction="maximize", sampler=Sampler(search))
    for number in range(40):
        trial = study.ask()
        config = train_config(trial, search)
        assert_works(config)
        assert ("pooling" in trial.params) == (config.model.pool > 1)  # type: ignore[union-attr]
        study.tell(trial, 1 / (1 + number % 7))
    for name in search_space(search):
        assert len({trial.params.get(name) for trial in study.trials}) > 1, name


@pytest.mark.parametrize(("without", "conditional"), [({"pool": "1,2"}, "pooling"), ({"kernel": "1,3,5"}, "dilation")])
def test_what_some_trials_do_not_draw_is_not_drawn_jointly(without: dict[str, str], conditional: str):
    # Else the joint distribution would leave out the trials that did not draw it.
    given = {"kernel": "3,5", "dilation": "1,2", "pool": "2", "pooling": "max,average", **without}
    search = in_space(SearchConfig(name="s"), "report", given)
    assert search_space(search).keys() - Sampler(search).space.keys() == {conditional}


def test_the_reports_space_draws_what_it_always_drew():
    search = in_space(SearchConfig(name="s"), "report", {})
    assert search == SearchConfig(name="s")
    assert list(search_space(search)) == ["learning_rate", "weight_decay"]


def test_one_value_is_fixed_and_several_are_drawn():
    given = {"kernel": "3", "filters": "8:64/5", "optimiser": "adamw", "epochs": "3:7"}
    search = in_space(SearchConfig(name="s"), "report", given)
    assert search.model == CNNConfig(filters=(32, 5), kernel=3)
    assert (search.optimiser, search.epochs) == ("adamw", 7)
    assert {name: str(choices) for name, choices in search.choices.items()} == {"filters1": "8:64", "epochs": "3:7"}
    architecture = in_space(SearchConfig(name="s"), "architecture", given)
    assert list(architecture.choices) == [
        name for name in (*ARCHITECTURE["cnn"], *TRAINING) if name not in ("kernel", "filters2", "optimiser")
    ]


@pytest.mark.parametrize(
    "drawn",
    [{"kernel": 0}, {"hidden": 3}, {"seed": 3}, {"model": "cnn"}, {"pooling": "median"}, {"filters1": -1}],
    ids=str,
)
def test_a_point_that_no_space_has_is_refused(drawn: dict[str, Any]):
    with pytest.raises((StudyError, TypeError)):
        training(SEARCHES["cnn"], 0, {"learning_rate": 1e-3, "weight_decay": 1e-4, **drawn})


def test_the_costliest_network_is_the_largest_that_fits():
    assert costliest(SEARCHES["cnn"]) == CNNConfig(filters=(64, 128), kernel=7, padding=3)
    assert costliest(SEARCHES["ffnn"]) == FFNNConfig(hidden=512)
    assert costliest(SearchConfig(name="s")) == CNNConfig()
    other = CustomConfig(model_path="study.examples:resnet18")
    assert costliest(SearchConfig(name="s", model=other)) == other
    only_small = in_space(SearchConfig(name="s"), "report", {"kernel": "3,41", "padding": "0"})
    assert costliest(only_small) == CNNConfig(kernel=3, padding=0)


def test_a_space_may_hold_no_network_with_the_default_values():
    search = in_space(SearchConfig(name="s"), "architecture", {"stride": "2", "pool": "4", "filters": "2"})
    assert not _fits(search.model)  # type: ignore[arg-type]
    assert every_geometry(search, {}, ("kernel", "dilation", "padding")) == [(3, 1, 3)]
    assert (
        largest_feature_maps(search)
        == costliest(search)
        == CNNConfig(filters=(2, 2), kernel=3, padding=3, stride=2, pool=4)
    )


def test_what_has_no_effect_is_not_drawn():
    without = in_space(SearchConfig(name="s"), "architecture", {"pool": "1", "kernel": "1"})
    assert without.choices.keys().isdisjoint({"pooling", "dilation"})
    some = in_space(SearchConfig(name="s"), "architecture", {"pool": "1,2", "kernel": "1,3"})
    drawn = {"kernel": 1, "pool": 1}
    assert [possible(some, name, drawn) for name in ("pooling", "dilation")] == [None, None]
    drawn = {"kernel": 3, "pool": 2}
    assert None not in [possible(some, name, drawn) for name in ("pooling", "dilation")]


TWO = ("accuracy", "parameters")
WRONG = {
    ("cnn", "kernel", "3,abc"): "--kernel is '3,abc': 'abc' is not a whole number.",
    ("cnn", "kernel", "-3"): "--kernel is -3: it must be at least 1.",
    ("cnn", "padding", "-1,1"): "--padding is -1: it must be at least 0.",
    ("cnn", "pooling", "max,median"): "--pooling is 'median': choose one of max, average.",
    ("cnn", "filters", "0"): "--filters is 0: it must be at least 1.",
    ("cnn", "filters", "8/"): "--filters is '8/': write counts for both layers (8:64), or FIRST/SECOND (8:32/16:64).",
    ("cnn", "filters", "8/16/32"): "--filters is '8/16/32': write counts",
    ("cnn", "filters", "99999999999999999999"): "--filters is 99999999999999999999: it must be at most 1000000.",
    ("cnn", "kernel", "1.5:3"): "--kernel is '1.5:3': write one value, several (3,5,7), or a range of whole numbers",
    ("cnn", "pooling", "max:average"): "--pooling is 'max:average': choose one of max, average.",
    ("cnn", "warmup_steps", "-5"): "--warmup is -5: it must be at least 0.",
    ("cnn", "warmup_steps", "0,0.5"): "--warmup is '0,0.5': '0.5' is not a whole number.",
    ("cnn", "epochs", "9999999"): "--epochs is 9999999: it must be at most 1000000.",
    ("cnn", "hidden", "8"): "The model cnn has no --hidden: leave it out.",
    ("ffnn", "hidden", "9999999"): "--hidden is 9999999: it must be at most 1000000.",
}


@pytest.mark.parametrize(("model", "name", "text"), WRONG)
def test_a_wrong_value_is_named_with_its_option(model: str, name: str, text: str):
    with pytest.raises(StudyError) as raised:
        in_space(SearchConfig(name="s", model=model_config(model)), "report", {name: text})
    assert WRONG[model, name, text] in str(raised.value)


@pytest.mark.parametrize("given", [{}, {"pooling": "max,average"}, {"optimiser": "adam,adamw"}])
def test_networks_of_one_size_have_no_second_objective(given: dict[str, str]):
    with pytest.raises(
        StudyError,
        match=r"--objective is accuracy,parameters, but all .* e\.g\. --filters 8:64 or --space architecture\.",
    ):
        in_space(SearchConfig(name="s", objectives=TWO, pruner="none"), "report", given)
    assert in_space(SearchConfig(name="s", objectives=TWO, pruner="none"), "report", {**given, "kernel": "3,5"}).choices


def test_ranges_are_logarithmic_steps_are_kept_and_the_rest_is_categorical():
    assert distribution(Choices.parse("8:64", "--filters")) == IntDistribution(8, 64, log=True)
    assert distribution(Choices.parse("3,5,7", "--kernel"), is_geometry=True) == IntDistribution(3, 7, step=2)
    assert distribution(Choices.parse("0,100,500", "--warmup")) == CategoricalDistribution((0, 100, 500))
    assert distribution(Choices.parse("0,0.1", "--smoothing", float)) == CategoricalDistribution((0.0, 0.1))
    assert distribution(Choices.parse("0:0.2", "--smoothing", float)) == FloatDistribution(0, 0.2)
    assert distribution(Choices.parse("1e-8:1", "--epsilon", float)) == FloatDistribution(1e-8, 1, log=True)
