import pytest
import torch

from study.architectures import CNNConfig
from study.config import TrainConfig
from study.data import Dataset
from study.device import Machine
from study.experiments import dead_filters
from study.models import build_model
from study.training import TrainingState, fit


def test_dead_filters_crosses_rate_and_decay_and_adds_the_reports_guess():
    conditions = dead_filters(epochs=5)
    assert len({condition.label for condition in conditions}) == len(conditions) == 12
    assert len({condition.config for condition in conditions}) == 12
    assert {condition.config.epochs for condition in conditions} == {5}
    crossed = {
        (config.learning_rate, config.warmup_steps, config.optimiser, config.weight_decay)
        for config in (condition.config for condition in conditions if condition.group == "optimiser")
    }
    rates = ((1e-3, 0), (2.683e-3, 0), (2.683e-3, 100))
    decays = (("adam", 5e-4), ("adamw", 5e-4), ("adam", 0.0))
    assert crossed == {(*rate, *decay) for rate in rates for decay in decays}
    guess = [condition.config for condition in conditions if condition.group == "filters"]
    assert [config.model for config in guess] == [CNNConfig(filters=pair) for pair in ((6, 16), (16, 32), (32, 64))]
    assert {(config.learning_rate, config.weight_decay, config.optimiser) for config in guess} == {
        (2.683e-3, 5.18e-4, "adam")
    }


@pytest.mark.parametrize("warmup", [0, 5])
def test_adam_and_adamw_without_decay_are_one_condition(warmup: int, tiny: Dataset, machine: Machine):
    ended = []
    for optimiser in ("adam", "adamw"):
        config = TrainConfig(
            model=CNNConfig(filters=(4, 6)), optimiser=optimiser, epochs=3, batch_size=30, warmup_steps=warmup
        )
        state = TrainingState(build_model(config.model, classes=10, seed=0), config, machine)
        fit(state, tiny.train, config, machine, evaluate={}, on_epoch=lambda epoch: None)
        ended.append(state.weights())
    assert all(torch.equal(tensor, ended[1][name]) for name, tensor in ended[0].items())
