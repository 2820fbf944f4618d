from study.architectures import CNNConfig, FFNNConfig
from study.config import SearchConfig, TrainConfig
from study.experiments import Condition
from study.tracking.runs import LOG_RATES, STAGE_TAGS, Run
from study.tracking.tags import (
    analysis_tags,
    experiment_tags,
    log_rates,
    replicate_tags,
    retrain_tags,
    search_tags,
    trial_reference,
    trial_tags,
)

CONFIG = SearchConfig(name="digits-ffnn", model=FFNNConfig(), seed=7)


def run(tags: dict[str, str]) -> Run:
    return Run("0123", "a run", "FINISHED", "1", 0, tags, {}, {})


def test_the_tags_of_each_stage_are_those_that_its_runs_must_have():
    # `Store.start` adds the data set's.
    trial = run({**trial_tags(CONFIG, 3, 1), "dataset": "digits"})
    retrained = run(retrain_tags(trial, 5))
    condition = Condition("lr 0.1", TrainConfig(model=CNNConfig()), tags=trial_reference(trial))
    tags = {
        "search": search_tags(CONFIG),
        "trial": trial_tags(CONFIG, 0, None),
        "retrain": retrained.tags,
        "analysis": analysis_tags(retrained),
        "experiment": experiment_tags("winner", "ffnn", "digits-ffnn"),
        "replicate": replicate_tags("winner", condition),
    }
    for stage, names in STAGE_TAGS.items():
        assert tags[stage]["stage"] == stage
        assert set(names) <= {*tags[stage], "dataset"}
        assert all(tags[stage].values())
    assert (retrained.trial_run, retrained.trial_number, retrained.seed) == (trial.id, 3, 5)


def test_rates_have_logarithms_as_far_as_they_are_positive():
    assert log_rates({"learning_rate": 0.01, "weight_decay": "1e-5"}) == dict(zip(LOG_RATES, (-2, -5), strict=True))
    assert log_rates({"learning_rate": 2e-3, "weight_decay": 0.0}) == {"log10_learning_rate": -2.699}
    assert log_rates({}) == {}
