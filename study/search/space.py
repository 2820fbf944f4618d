"""What a search draws from, how it draws, and what ends a trial early; like `study.search` it speaks Optuna."""

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
"""What a trial draws, by its names in both stores."""


def search_space(config: SearchConfig) -> dict[str, FloatDistribution]:
    """What is drawn, and from where: the only place that says so."""
    on_grid = Range(low=GRID[0], high=GRID[-1])
    ranges = {name: on_grid if config.sampler == "grid" else getattr(config, name) for name in SEARCHED}
    return {name: FloatDistribution(found.low, found.high, log=True) for name, found in ranges.items()}


def train_config(trial: optuna.Trial, config: SearchConfig) -> TrainConfig:
    """The training that `trial` stands for."""
    drawn = {
        name: trial.suggest_float(name, found.low, found.high, log=found.log)
        for name, found in search_space(config).items()
    }
    return training(config, draw_of(trial), drawn)


def training(config: SearchConfig, draw: int, drawn: Mapping[str, float]) -> TrainConfig:
    """What is trained with the hyperparameters of draw number `draw`, by every attempt at them."""
    return TrainConfig(
        model=config.model,
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimiser=config.optimiser,
        warmup_steps=config.warmup_steps,
        seed=config.seed + draw,
        **drawn,
    )


def config_of(name: str, settings: Mapping[str, Any]) -> SearchConfig:
    """The settings of a search as the storage keeps them, but for the total.

    A field that is newer than the search takes its default, with which the search was made.

    Raises:
        StudyError: for an unknown model, or a value that cannot work.
        LookupError, TypeError, AttributeError: where they are those of no search.
    """
    kind = model_kind(settings["model"])
    # JSON, as the storage keeps them, has made lists of tuples.
    recorded = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings["model_settings"].items()
    }
    model: dict[str, Any] = {item.name: recorded[item.name] for item in fields(kind) if item.name in recorded}
    ranges: dict[str, Any] = {key: Range(**settings[key]) for key in SEARCHED}
    others = {item.name for item in fields(SearchConfig)} - {"name", "trials", "model", *SEARCHED}
    own = {key: settings[key] for key in others & settings.keys()}
    return SearchConfig(name=name, model=kind(**model), **ranges, **own)


def draw_of(trial: optuna.Trial | FrozenTrial) -> int:
    """Which draw of the search a trial is an attempt at: all its seeds follow from that.

    In a search that was never interrupted it is the trial's number; the seeds of old trials, which do not say it,
    came from that.

    Raises:
        ValueError: where what is recorded of it cannot be.
    """
    return _recorded_number(trial, "draw", most=trial.number)


def first_attempt(trial: optuna.Trial | FrozenTrial) -> int:
    """The number of the trial that first tried these hyperparameters: its own, unless it is a retry.

    Raises:
        ValueError: where what is recorded of it cannot be.
    """
    return _recorded_number(trial, "retry_of", most=trial.number - 1)


def _recorded_number(trial: optuna.Trial | FrozenTrial, name: str, most: int) -> int:
    """The attribute `name` of a trial; without one its own number."""
    noted = trial.user_attrs.get(name)
    if noted is None:
        return trial.number
    if type(noted) is not int or not 0 <= noted <= most:
        raise ValueError(f"its {name} is {noted!r}, and its number {trial.number}")
    return noted


def parameters_of(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial tries: what it was lined up with, or drew; nothing where it ended before it had drawn all."""
    found = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    return found if found.keys() >= set(SEARCHED) else {}


def _next_draw(trial: FrozenTrial, before: Sequence[FrozenTrial]) -> int:
    """The draw of a trial that begins: its first attempt's, or the one after those of the trials `before` it."""
    if (first := first_attempt(trial)) != trial.number:
        return draw_of(before[first])
    return max((draw_of(one) for one in before if _has_drawn(one)), default=-1) + 1


def _has_drawn(trial: FrozenTrial) -> bool:
    """Whether a trial has, or is about to have, a draw of its own; the next takes that of one that ended before it."""
    ended_before = trial.state == TrialState.FAIL and not parameters_of(trial)
    return "retry_of" not in trial.user_attrs and not ended_before


def pruner_of(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner called `name`, one of `PRUNERS`, for trials of at most `epochs`.

    The settings of the first two lost least of the best accuracy, for few epochs, when recorded learning curves of
    both networks were replayed to each (`benchmarks/pruning.py`); the median's are Optuna's own.
    """
    if name == "percentile":
        return optuna.pruners.PercentilePruner(60, n_startup_trials=5)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=min(2, epochs), max_resource=epochs, reduction_factor=4)
    return optuna.pruners.MedianPruner() if name == "median" else optuna.pruners.NopPruner()


class Sampler(optuna.samplers.BaseSampler):
    """Draws each trial with a seed of its own, from the search's and the number of its draw.

    With one seed for a process two workers, or a resumed one, would replay the same points. A number is given twice
    only to attempts at the same draw, so that an interrupted search goes on as if it had not been interrupted.
    """

    def __init__(self, config: SearchConfig):
        # What the grid's trials are to be is in line already.
        self.kind = optuna.samplers.TPESampler if config.sampler == "tpe" else optuna.samplers.RandomSampler
        self.seed = config.seed
        self.space = search_space(config) if config.sampler == "tpe" else {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Notes whose the trial is and which draw, and draws it with its own seed."""
        # Before anything that takes time: a trial that nobody owns could not be told from one that runs.
        set_user_attr(study, trial, "worker", this_process())
        draw = _next_draw(trial, stored_trials(study)[: trial.number])
        set_user_attr(study, trial, "draw", draw)
        # A copy of what is stored, that whoever asked for the trial goes on with.
        trial.set_user_attr("draw", draw)
        seed = int(np.random.SeedSequence([self.seed, draw]).generate_state(1)[0])
        self.drawing = self.kind(seed=seed)
        self.drawing.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """What is drawn together: all of it, for TPE."""
        # Known, where a sampler reads it off all earlier trials, which takes longer with each.
        return dict(self.space)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """The parameters that are drawn together."""
        return self.drawing.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """A parameter that is drawn by itself."""
        return self.drawing.sample_independent(study, trial, param_name, param_distribution)
