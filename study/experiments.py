"""The conditions that the named experiments compare, each trained with several seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from study.architectures import CNNConfig
from study.config import TrainConfig

LOW_RATE, HIGH_RATE = 1e-3, 2.683e-3
"""torch's default for Adam, and the best CNN's in Wik (2023)."""
WARMUP_STEPS = 100
DECAY = 5e-4
REPORT_DECAY = 5.18e-4
"""The best CNN's in Wik (2023)."""
FILTERS = ((6, 16), (16, 32), (32, 64))


@dataclass(frozen=True)
class Condition:
    """One of the compared settings."""

    label: str
    config: TrainConfig
    """Its seed is replaced by each of the experiment's."""
    group: str = ""
    """The conditions with the same one are compared with each other."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags of its runs."""


def dead_filters(epochs: int) -> tuple[Condition, ...]:
    """Conditions that may silence filters of the second layer and let their weights collapse.

    Group ``optimiser``: learning rate and warm-up × where the decay acts. Adam and AdamW without decay are the same
    algorithm, hence one condition. Group ``filters``: the guess of Wik (2023), too many filters, at its settings.
    """
    return _optimisers(epochs) + _filter_counts(epochs)


def recipe(base: TrainConfig, name: str) -> tuple[Condition, ...]:
    """Choices of training, changed one at a time from the settings `base`, which are called `name` and come first.

    With each, the other schedule, since what a decay or a number of epochs brings may depend on it.
    """
    half = max(1, base.epochs // 2)
    changes: dict[str, dict[str, Any]] = {
        "AdamW with decay 0.1": {"optimiser": "adamw", "weight_decay": 0.1},
        "AdamW with decay 1": {"optimiser": "adamw", "weight_decay": 1.0},
        "a third of the decay": {"weight_decay": base.weight_decay / 3},
        "three times the decay": {"weight_decay": 3 * base.weight_decay},
        f"{WARMUP_STEPS} warm-up steps": {"warmup_steps": WARMUP_STEPS},
        f"{half} epoch{'' if half == 1 else 's'}": {"epochs": half},
    }
    other = "constant" if base.schedule == "cosine" else "cosine"
    scheduled = {f"{other} schedule + {words}": {**change, "schedule": other} for words, change in changes.items()}
    all_changes = {f"{other} schedule": {"schedule": other}, **changes, **scheduled}
    # The name keeps apart the trainings of another winner, to which the search may change.
    conditions = {f"{name}: {words}": replace(base, **change) for words, change in all_changes.items()}
    return (Condition(name, base), *(Condition(label, config) for label, config in conditions.items()))


def _optimisers(epochs: int) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            f"lr {rate:g}{f', {warmup} warm-up steps' if warmup else ''}, {words}",
            TrainConfig(
                learning_rate=rate, warmup_steps=warmup, optimiser=optimiser, weight_decay=decay, epochs=epochs
            ),
            group="optimiser",
        )
        for rate, warmup in ((LOW_RATE, 0), (HIGH_RATE, 0), (HIGH_RATE, WARMUP_STEPS))
        for optimiser, decay, words in (
            ("adam", DECAY, f"Adam with L2 {DECAY:g}"),
            ("adamw", DECAY, f"AdamW with decay {DECAY:g}"),
            ("adam", 0.0, "Adam = AdamW without decay"),
        )
    )


def _filter_counts(epochs: int) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            f"{first}/{second} filters, lr {HIGH_RATE:g}, Adam with L2 {REPORT_DECAY:g}",
            TrainConfig(
                model=CNNConfig(filters=(first, second)),
                learning_rate=HIGH_RATE,
                weight_decay=REPORT_DECAY,
                epochs=epochs,
            ),
            group="filters",
        )
        for first, second in FILTERS
    )
