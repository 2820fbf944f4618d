"""The tags and params of each kind of run, as they are recorded; `study.tracking.runs` reads them."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from study.config import SearchConfig
from study.experiments import Condition
from study.tracking.runs import DATA_PARAMS, LOG_RATES, PARENT, Run


def search_tags(config: SearchConfig) -> dict[str, str]:
    """The tags of the run of a search; `Store.start` adds those that all runs have."""
    return {"stage": "search", "model": config.model.name, "search": config.name}


def trial_tags(config: SearchConfig, number: int, retry_of: int | None) -> dict[str, str]:
    """The tags of the run of trial `number` of a search, which may retry an earlier one."""
    retried = {} if retry_of is None else {"retry_of": str(retry_of)}
    numbers = {"optuna_trial": str(number), "base_seed": str(config.seed), **retried}
    return {**search_tags(config), "stage": "trial", **numbers}


def below(parent: Run) -> dict[str, str]:
    """The tags that make a run a child of `parent`."""
    return {PARENT: parent.id, "dataset": parent.dataset_key}


def restored() -> dict[str, str]:
    """The tag of a run restored from Optuna's record, with the current time."""
    return {"restored": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}


def trial_reference(trial: Run) -> dict[str, str]:
    """The tags that link a run to `trial`, whose settings it trains again."""
    return {"search": trial.search, "optuna_trial": str(trial.trial_number), "trial_run": trial.id}


def retrain_tags(trial: Run, seed: int) -> dict[str, str]:
    """The tags of the run of a retraining of `trial`."""
    return {"stage": "retrain", "model": trial.model, **trial_reference(trial), "seed": str(seed)}


def analysis_tags(retrained: Run) -> dict[str, str]:
    """The tags of the run of an analysis of the run `retrained`."""
    return {"stage": "analysis", "model": retrained.model, "retrain_run": retrained.id}


def experiment_tags(experiment: str, model: str, search: str = "") -> dict[str, str]:
    """The tags of the run of an experiment, which may be about a search."""
    return {"stage": "experiment", "experiment": experiment, "model": model, **({"search": search} if search else {})}


def replicate_tags(experiment: str, condition: Condition) -> dict[str, str]:
    """The tags of the run of one training of an experiment."""
    group = {"group": condition.group} if condition.group else {}
    named = {"experiment": experiment, "condition": condition.label, "model": condition.config.model.name}
    return {"stage": "replicate", **named, **group, **condition.tags}


def log_rates(params: Mapping[str, Any]) -> dict[str, float]:
    """The params `LOG_RATES` of a trial with these `params`, as far as it has positive rates."""
    rates = {name: float(params.get(name.removeprefix("log10_"), 0)) for name in LOG_RATES}
    return {name: round(math.log10(rate), 4) for name, rate in rates.items() if rate > 0}


def seed_param(run: Run) -> dict[str, str]:
    """The param `seed` that a retraining must have, from its tag `seed`."""
    return {"seed": run.tags.get("seed", "")}


def data_params(run: Run) -> dict[str, str]:
    """The params of `run` that describe its data set."""
    return {name: run.params[name] for name in DATA_PARAMS if name in run.params}
