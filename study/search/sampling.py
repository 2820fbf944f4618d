"""Samplers and pruners of a search; imports optuna."""

from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from study.config import SearchConfig
from study.search.draws import next_draw
from study.search.private import WithoutPruned, flush, set_user_attr, stored_trials
from study.search.space import search_space
from study.system.processes import this_process


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
        # A fixed hyperparameter is not drawn, and one that only some trials have is drawn by itself: the joint
        # distribution knows only trials that have all.
        drawn = {name: space for name, space in search_space(config).items() if not space.single()}
        for name, without in (("pool", "pooling"), ("kernel", "dilation")):
            if name in config.choices and 1 in config.choices[name].values:
                drawn.pop(without, None)
        # With two objectives Optuna recommends to draw each by itself.
        self.space = drawn if config.sampler == "tpe" and len(config.objectives) == 1 else {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Records the worker and the draw number of the trial, and seeds its sampler."""
        set_user_attr(study, trial, "worker", this_process())
        draw = next_draw(trial, stored_trials(study)[: trial.number])
        set_user_attr(study, trial, "draw", draw)
        # Before what is slow: a trial without a worker cannot be told from an orphan.
        flush(study)
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
        seen: Any = study if len(study.directions) == 1 else WithoutPruned(study)
        return self.drawing.sample_independent(seen, trial, param_name, param_distribution)
