"""Texts of options: what a search draws a hyperparameter from, and which of its trials is preferred."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from study.architectures import CustomConfig, ModelConfig
from study.errors import StudyError, require
from study.params import KINDS, as_kind

OPTIONS = {"filters1": "--filters", "filters2": "--filters", "warmup_steps": "--warmup"}
"""The options of `study tune` that are not named after their hyperparameter."""
EXAMPLES = {
    None: "several (3,5,7), or a range of whole numbers from 1 on (8:64) or of fractions (0:0.5)",
    int: "several (3,5,7), or a range of whole numbers from 1 on (8:64)",
    float: "several (0,0.1,0.2), or a range (0:0.2)",
}
"""What choices may be beside one value, by the type of the hyperparameter."""


def option_of(name: str, model: ModelConfig) -> str:
    """The option of `study tune` that sets a hyperparameter."""
    if isinstance(model, CustomConfig) and name in model.arguments:
        return f"--argument {name}"
    return OPTIONS.get(name, f"--{name.replace('_', '-')}")


@dataclass(frozen=True, kw_only=True)
class Range:
    """A log-uniform search range, both ends included; with equal ends one fixed value."""

    low: float
    high: float

    def __post_init__(self) -> None:
        require(
            0 < self.low <= self.high < math.inf,
            f"The range {self.low:g}:{self.high:g} is empty or not positive: write LOW:HIGH with 0 < LOW ≤ HIGH.",
        )

    def __str__(self) -> str:
        """Text that `parse` reads back exactly."""
        return f"{self.low}:{self.high}"

    @classmethod
    def parse(cls, text: str, option: str) -> "Range":
        """Reads the value of an option: ``"LOW:HIGH"``, e.g. ``"1e-5:1e-1"``, or one fixed value, ``"1e-3"``.

        Raises:
            StudyError: for a text that is not two numbers, or an empty range.
        """
        low, colon, high = text.partition(":")
        try:
            return cls(low=float(low), high=float(high if colon else low))
        except ValueError:
            raise StudyError(f"{option} is {text!r}: write LOW:HIGH, e.g. 1e-5:1e-1, or one value.") from None
        except StudyError as error:
            raise StudyError(f"{option} is {text!r}. {error}") from None


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Listed words or numbers; or all numbers of a range, drawn log-uniformly, from 0 on uniformly."""

    values: tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
    """The listed values, numbers in ascending order; of a range its two ends, both included."""
    is_range: bool = False

    def __str__(self) -> str:
        """Text that `parse` reads back."""
        return (":" if self.is_range else ",").join(map(str, self.values))

    @property
    def is_fixed(self) -> bool:
        """Whether there is one value alone."""
        return len(set(self.values)) == 1

    @property
    def has_fractions(self) -> bool:
        """Whether it is a range of fractions."""
        return self.is_range and isinstance(self.values[0], float)

    @property
    def step(self) -> int | None:
        """The difference of neighbouring whole numbers, if it is always the same; else None."""
        numbers = [value for value in self.values if isinstance(value, int)]
        if self.is_range or len(numbers) < len(self.values):
            return None
        steps = {high - low for low, high in pairwise(numbers)} or {1}
        return steps.pop() if len(steps) == 1 else None

    @classmethod
    def parse(cls, text: str, option: str, kind: Any = None) -> "Choices":
        """Reads ``"3,5,7"``, ``"max,average"``, ``"8:64"``, ``"0:0.2"`` or one value; `option` is named in errors.

        Args:
            text: what is read.
            option: named in errors.
            kind: the type of the values, one of `KINDS`; None: as written, where lists of fractions are words.

        Raises:
            StudyError: for an empty list or range, or a value that is not of this type.
        """
        low, colon, high = (part.strip() for part in text.partition(":"))
        words = [word.strip() for word in text.split(",")]
        try:
            if colon and kind in EXAMPLES:
                return cls(values=_ends(low, high, kind), is_range=True)
            require(all(words), "")
        except (ValueError, StudyError):
            more = EXAMPLES.get(kind, "or several (a,b)")
            raise StudyError(f"{option} is {text!r}: write one value, {more}.") from None
        kind = kind or (int if all(re.fullmatch(r"-?\d+", word) for word in words) else str)
        values = dict.fromkeys(_value(word, kind, f"{option} is {text!r}") for word in words)
        return cls(values=tuple(values if kind is str else sorted(values)))


def _ends(low: str, high: str, kind: Any) -> tuple[int, int] | tuple[float, float]:
    """Both ends of a range; ValueError or StudyError where there is none."""
    if kind is int or (kind is None and low.isdecimal() and high.isdecimal()):
        counts = int(low), int(high)
        require(0 < counts[0] <= counts[1], "")
        return counts
    ends = float(low), float(high)
    require(0 <= ends[0] <= ends[1] < math.inf, "")
    return ends


def _value(word: str, kind: type[Any], given: str) -> Any:
    try:
        value = as_kind(word, kind)
    except (ValueError, KeyError):
        raise StudyError(f"{given}: {word!r} is not {KINDS[kind]}.") from None
    require(kind is not float or math.isfinite(value), f"{given}: {word} is not finite.")
    return value


def least_accuracy(prefer: str) -> float | None:
    """The validation accuracy that a preference asks for; None for the highest, ``"accuracy"`` or an empty text.

    Raises:
        StudyError: for a preference that is malformed.
    """
    kind, _, value = prefer.partition(":")
    if prefer in ("", "accuracy"):
        return None
    try:
        least = float(value) if kind == "parameters" else -1.0
    except ValueError:
        least = -1.0
    require(
        0 <= least <= 1,
        f"The preference is {prefer!r}: choose accuracy, or parameters:0.70 for the smallest network with at least "
        "this validation accuracy.",
    )
    return least
