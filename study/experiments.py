"""The conditions that the named experiments compare, each trained with several seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from study.config import CNNConfig, TrainConfig

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
