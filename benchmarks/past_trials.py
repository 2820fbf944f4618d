"""Finished trials in a search's database on PostgreSQL, written in a few statements however many there are."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from benchmarks.untrained import curve
from study.config import RATES, SearchConfig, TrainConfig
from study.search.search import open_search
from study.search.space import search_space

TEMPLATES = 50
"""Number of trials that Optuna writes, and that are then copied with other numbers and hyperparameters."""
PRUNED = 0.4
"""Share of the trials that were pruned."""
COPIED = {
    "trial_params": ("param_name, distribution_json", "param_value", "param_value * (0.5 + 1.5 * random())"),
    "trial_values": ("objective, value", "value_type", "value_type"),
    "trial_intermediate_values": ("step, intermediate_value", "intermediate_value_type", "intermediate_value_type"),
    "trial_user_attributes": (
        "key",
        "value_json",
        "CASE key WHEN 'draw' THEN (value_json::int + {shift})::text ELSE value_json END",
    ),
}
"""The tables of a trial: the columns that are copied, the one that is changed, and to what."""


def fill(storage: str, config: SearchConfig, count: int, *, digest: str) -> None:
    """Starts the search `config` in an empty storage on PostgreSQL, with `count` finished trials."""
    search = open_search(config, storage, digest=digest)
    draws = np.random.default_rng(0)
    search.add_trials(_trial(config, number, draws) for number in range(min(count, TEMPLATES)))
    engine = sqlalchemy.create_engine(storage, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for shift in range(TEMPLATES, count, TEMPLATES):
            _copy(connection, shift, min(TEMPLATES, count - shift))
        connection.exec_driver_sql("SELECT setval('trials_trial_id_seq', (SELECT max(trial_id) FROM trials))")
        connection.exec_driver_sql("ANALYZE")


def _trial(config: SearchConfig, number: int, draws: np.random.Generator) -> FrozenTrial:
    space = search_space(config)
    params: dict[str, Any] = {}
    for name in RATES:
        bounds = getattr(config, name)
        # Copies have between half and twice the value.
        params[name] = math.exp(draws.uniform(math.log(2 * bounds.low), math.log(bounds.high / 2)))
    accuracies = curve(TrainConfig(epochs=config.epochs, seed=number, **params)).tolist()
    is_pruned = draws.random() < PRUNED
    if is_pruned:
        accuracies = accuracies[: int(draws.integers(1, config.epochs))]
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.PRUNED if is_pruned else TrialState.COMPLETE,
        value=accuracies[-1] if is_pruned else max(accuracies),
        values=None,
        datetime_start=datetime.now(),
        datetime_complete=datetime.now(),
        params=params,
        distributions={name: space[name] for name in RATES},
        intermediate_values=dict(enumerate(accuracies, 1)),
        user_attrs={
            "worker": "elsewhere 1 elsewhere 1",
            "draw": number,
            "mlflow_run": f"{number:032x}",
            "parameters": 94_666,
            "status_reason": "pruned" if is_pruned else "complete",
        },
        system_attrs={},
    )


def _copy(connection: sqlalchemy.Connection, shift: int, count: int) -> None:
    """Copies the first `count` trials, with numbers that are higher by `shift`."""
    first = f"WHERE trial_id IN (SELECT trial_id FROM trials WHERE number < {count})"
    same = "study_id, state, datetime_start, datetime_complete"
    connection.exec_driver_sql(
        f"INSERT INTO trials (trial_id, number, {same}) "
        f"SELECT trial_id + {shift}, number + {shift}, {same} FROM trials {first}"
    )
    for table, (same, column, change) in COPIED.items():
        connection.exec_driver_sql(
            f"INSERT INTO {table} (trial_id, {same}, {column}) "
            f"SELECT trial_id + {shift}, {same}, {change.format(shift=shift)} FROM {table} {first}"
        )
