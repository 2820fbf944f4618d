from typing import Any

import pytest

from pipelines.config import MOST_EXPLORER_IMAGES, AnalysisConfig, ExperimentConfig
from study.errors import StudyError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs_every": 0}, "epochs every is 0: it must be at least 1."),
        ({"filter": -1}, "filter is -1: it must be at least 0."),
        ({"ablation": "half"}, "Unknown ablation 'half': choose one of mean, zero."),
        ({"explorer_images": 0}, f"explorer images is 0: it must be from 1 to {MOST_EXPLORER_IMAGES}."),
        ({"explorer_images": 51}, f"explorer images is 51: it must be from 1 to {MOST_EXPLORER_IMAGES}."),
    ],
)
def test_a_bad_setting_of_an_analysis_is_named_in_one_sentence(values: dict[str, Any], message: str):
    with pytest.raises(StudyError) as raised:
        AnalysisConfig(**values)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "seeds"}, "Unknown experiment 'seeds': choose one of dead-filters, winner, recipe."),
        ({"name": "winner", "seeds": 0}, "seeds is 0: it must be at least 1."),
        ({"name": "winner", "epochs": 0}, "epochs is 0: it must be at least 1."),
        ({"name": "winner", "top": 1}, "top is 1: it must be at least 2."),
        ({"name": "recipe", "top": 2}, "recipe compares no trials: leave out --top."),
        ({"name": "dead-filters", "top": 3}, "dead-filters compares no trials: leave out --top."),
        (
            {"name": "dead-filters", "model": "ffnn"},
            "dead-filters trains the cnn, not ffnn: leave out --model, or choose cnn.",
        ),
    ],
)
def test_a_bad_setting_of_an_experiment_is_named_in_one_sentence(values: dict[str, Any], message: str):
    with pytest.raises(StudyError) as raised:
        ExperimentConfig(**values)
    assert str(raised.value) == message


def test_what_is_not_given_is_no_error():
    assert (ExperimentConfig(name="winner").epochs, AnalysisConfig().filter) == (None, None)
