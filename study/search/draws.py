"""Which draw of the search space a trial attempts, and of which earlier trial it is a retry; imports optuna."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.config import RATES


def draw_of(trial: optuna.Trial | FrozenTrial) -> int:
    """Number of the draw that a trial attempts; all its seeds derive from it.

    In a search that was never interrupted, it is the trial's number, as for old trials, which do not record it.

    Raises:
        ValueError: where the recorded number is impossible.
    """
    return _recorded_number(trial, "draw", most=trial.number)


def first_attempt(trial: optuna.Trial | FrozenTrial) -> int:
    """The number of the trial that first tried these hyperparameters: its own, unless it is a retry.

    Raises:
        ValueError: where the recorded number is impossible.
    """
    return _recorded_number(trial, "retry_of", most=trial.number - 1)


def _recorded_number(trial: optuna.Trial | FrozenTrial, name: str, most: int) -> int:
    """The attribute `name` of a trial; its own number where there is none."""
    recorded = trial.user_attrs.get(name)
    if recorded is None:
        return trial.number
    if type(recorded) is not int or not 0 <= recorded <= most:
        raise ValueError(f"its {name} is {recorded!r}, and its number {trial.number}")
    return recorded


def parameters_of(trial: FrozenTrial) -> dict[str, Any]:
    """Parameters of a trial, enqueued or drawn; empty where it ended before all were drawn."""
    parameters = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    return parameters if parameters.keys() >= set(RATES) else {}


def next_draw(trial: FrozenTrial, before: Sequence[FrozenTrial]) -> int:
    """Draw number of a new trial: that of its first attempt, or the next one after the trials `before` it."""
    if (first := first_attempt(trial)) != trial.number:
        return draw_of(before[first])
    # Draws increase with the numbers of the trials that have one.
    return next((draw_of(earlier) for earlier in reversed(before) if _has_drawn(earlier)), -1) + 1


def _has_drawn(trial: FrozenTrial) -> bool:
    """Whether a trial has its own draw, or is about to; one that ended before drawing leaves its number to the next."""
    ended_before = trial.state == TrialState.FAIL and not parameters_of(trial)
    return "retry_of" not in trial.user_attrs and not ended_before
