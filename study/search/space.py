"""Search space, samplers and pruners of a search; imports optuna."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from study.config import GRID_SIDE, Range, SearchConfig, TrainConfig, model_kind
from study.search.private import set_user_attr, stored_trials
from study.system.processes import this_process

GRID = tuple(float(value) for value in np.logspace(-4, 1, GRID_SIDE))
"""The report's grid, for the learning rate and for the weight decay."""


SEARCHED = ("learning_rate", "weight_decay")
"""Names of the drawn hyperparameters in both stores."""


def search_space(config: SearchConfig) -> dict[str, FloatDistribution]:
    """Distributions of the drawn hyperparameters; the only place that defines them."""
    on_grid = Range(low=GRID[0], high=GRID[-1])
    ranges = {name: on_grid if config.sampler == "grid" else getattr(config, name) for name in SEARCHED}
    return {name: FloatDistribution(bounds.low, bounds.high, log=True) for name, bounds in ranges.items()}


def train_config(trial: optuna.Trial, config: SearchConfig) -> TrainConfig:
    """Training settings of `trial`, with hyperparameters drawn from the search space."""
    drawn = {
        name: trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        for name, distribution in search_space(config).items()
    }
    return training(config, draw_of(trial), drawn)


def training(config: SearchConfig, draw: int, drawn: Mapping[str, float]) -> TrainConfig:
    """Training settings of draw number `draw`, the same for every attempt at it."""
    return TrainConfig(
        model=config.model,
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimiser=config.optimiser,
        warmup_steps=config.warmup_steps,
        schedule=config.schedule,
        seed=config.seed + draw,
        **drawn,
    )


def config_of(name: str, settings: Mapping[str, Any]) -> SearchConfig:
    """The config of a search from its stored settings, with the default total.

    A field that is newer than the search takes its default, with which the search was made.

    Raises:
        StudyError: for an unknown model, or a value that cannot work.
        LookupError, TypeError, AttributeError: where `settings` are not those of a search.
    """
    kind = model_kind(settings["model"])
    # The storage keeps JSON, which turns tuples into lists.
    recorded = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings["model_settings"].items()
    }
    model: dict[str, Any] = {item.name: recorded[item.name] for item in fields(kind) if item.name in recorded}
    ranges: dict[str, Any] = {key: Range(**settings[key]) for key in SEARCHED}
    others = {item.name for item in fields(SearchConfig)} - {"name", "trials", "model", *SEARCHED}
    own = {key: settings[key] for key in others & settings.keys()}
    return SearchConfig(name=name, model=kind(**model), **ranges, **own)


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
    return parameters if parameters.keys() >= set(SEARCHED) else {}


def _next_draw(trial: FrozenTrial, before: Sequence[FrozenTrial]) -> int:
    """Draw number of a new trial: that of its first attempt, or the next one after the trials `before` it."""
    if (first := first_attempt(trial)) != trial.number:
        return draw_of(before[first])
    return max((draw_of(earlier) for earlier in before if _has_drawn(earlier)), default=-1) + 1


def _has_drawn(trial: FrozenTrial) -> bool:
    """Whether a trial has its own draw, or is about to; one that ended before drawing leaves its number to the next."""
    ended_before = trial.state == TrialState.FAIL and not parameters_of(trial)
    return "retry_of" not in trial.user_attrs and not ended_before


def pruner_of(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner called `name`, one of `PRUNERS`, for trials of at most `epochs`.

    In replays of recorded learning curves of both networks (`benchmarks/pruning.py`), the settings of the first two
    lost least of the best accuracy for the epochs that they saved; those of the median are Optuna's defaults.
    """
    if name == "percentile":
        return optuna.pruners.PercentilePruner(60, n_startup_trials=5)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=min(2, epochs), max_resource=epochs, reduction_factor=4)
    return optuna.pruners.MedianPruner() if name == "median" else optuna.pruners.NopPruner()


class Sampler(optuna.samplers.BaseSampler):
    """Draws each trial with its own seed, derived from the search's seed and the number of the draw.

    With one seed per process, two workers, or a resumed one, would repeat the same points. Only attempts at the same
    draw share a number, so that an interrupted search continues as if it had not been interrupted.
    """

    def __init__(self, config: SearchConfig):
        # The points of the grid are enqueued already.
        self.kind = optuna.samplers.TPESampler if config.sampler == "tpe" else optuna.samplers.RandomSampler
        self.seed = config.seed
        # A fixed hyperparameter is not drawn.
        drawn = {name: space for name, space in search_space(config).items() if not space.single()}
        self.space = drawn if config.sampler == "tpe" else {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Records the worker and the draw number of the trial, and seeds its sampler."""
        # First, before anything slow: a trial without a worker cannot be told from a running one.
        set_user_attr(study, trial, "worker", this_process())
        draw = _next_draw(trial, stored_trials(study)[: trial.number])
        set_user_attr(study, trial, "draw", draw)
        # Also in this copy of the stored trial, which the caller continues with.
        trial.set_user_attr("draw", draw)
        seed = int(np.random.SeedSequence([self.seed, draw]).generate_state(1)[0])
        self.drawing = self.kind(seed=seed)
        self.drawing.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """The parameters that are drawn jointly: all of them for TPE, else none."""
        # Known here; Optuna would infer it from all earlier trials, which takes longer with each.
        return dict(self.space)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """Draws the joint parameters."""
        return self.drawing.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Draws one parameter independently."""
        return self.drawing.sample_independent(study, trial, param_name, param_distribution)
