"""Fields of a run: tags and params as typed attributes of `study.tracking.runs.Run`."""

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, Generic, TypeVar

from study.errors import StudyError

T = TypeVar("T")

TAGS, PARAMS = ("tags",), ("params",)
"""Where a run records a field."""


class RunField(Generic[T]):
    """A tag or a param as an attribute of `Run`, converted to its type.

    Args:
        read: converts the recorded text; a ValueError means that it is malformed.
        name: of the tag or param, by default that of the attribute.
        formerly: its name in runs of earlier versions.
        where: attributes of `Run` to look it up in, in this order.
        default: value where the run does not record it.

    Raises:
        StudyError: when read, if it is malformed, or missing and without a default.
    """

    def __init__(
        self,
        read: Callable[[str], T],
        name: str = "",
        *,
        formerly: str = "",
        where: Sequence[str] = TAGS,
        default: T | EllipsisType = ...,
    ):
        self.read, self.name, self.formerly, self.where, self.default = read, name, formerly, where, default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    def __get__(self, run: Any, owner: type) -> T:
        recorded = [getattr(run, where) for where in self.where]
        names = (self.name, self.formerly)
        text = next((texts[name] for name in names for texts in recorded if name in texts), None)
        if text is None:
            if not isinstance(self.default, EllipsisType):
                return self.default
            raise StudyError(f"Run {run.name} ({run.id}) does not record its {self.name}: name another run.")
        try:
            return self.read(text)
        except (ValueError, TypeError):
            raise StudyError(f"Run {run.name} ({run.id}) has a malformed {self.name}: {text!r}.") from None
