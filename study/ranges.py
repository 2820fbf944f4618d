"""Texts of options: what a search draws a hyperparameter from, and which of its trials is preferred."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise

from study.errors import StudyError, require


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
    """Listed words or whole numbers; or all whole numbers of a range, drawn log-uniformly."""

    values: tuple[int, ...] | tuple[str, ...]
    """The listed values, whole numbers in ascending order; of a range its two ends, both included."""
    is_range: bool = False

    def __str__(self) -> str:
        """Text that `parse` reads back."""
        return (":" if self.is_range else ",").join(map(str, self.values))

    @property
    def is_fixed(self) -> bool:
        """Whether there is one value alone."""
        return len(set(self.values)) == 1

    @property
    def step(self) -> int | None:
        """The difference of neighbouring numbers, if it is always the same; None for words and uneven lists."""
        numbers = [value for value in self.values if isinstance(value, int)]
        if self.is_range or len(numbers) < len(self.values):
            return None
        steps = {high - low for low, high in pairwise(numbers)} or {1}
        return steps.pop() if len(steps) == 1 else None

    @classmethod
    def parse(cls, text: str, option: str) -> "Choices":
        """Reads ``"3,5,7"``, ``"max,average"``, ``"8:64"`` or one value; `option` is named in errors.

        Raises:
            StudyError: for an empty list or range.
        """
        low, colon, high = (part.strip() for part in text.partition(":"))
        try:
            if colon:
                ends = int(low), int(high)
                require(0 < ends[0] <= ends[1], "")
                return cls(values=ends, is_range=True)
            words = [word.strip() for word in text.split(",")]
            require(all(words), "")
        except (ValueError, StudyError):
            raise StudyError(
                f"{option} is {text!r}: write one value, several (3,5,7), or a range of whole numbers from 1 on (8:64)."
            ) from None
        if all(re.fullmatch(r"-?\d+", word) for word in words):
            return cls(values=tuple(sorted({int(word) for word in words})))
        return cls(values=tuple(dict.fromkeys(words)))


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
