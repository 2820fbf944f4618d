"""Reads the params of a run, which are text, back as the fields of a dataclass."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any

from study.errors import StudyError, require

BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
"""Accepted spellings of a boolean setting, case-insensitive."""
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
"""The types of settings that a search can draw, in words."""


def as_kind(value: Any, kind: type[Any]) -> Any:
    """A number or a word as one of `KINDS`; ValueError or KeyError where it is none."""
    return BOOLEANS[str(value).lower()] if kind is bool else kind(value)


def recorded(config: type[Any], params: Mapping[str, str], required: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of the dataclass `config` that `params` holds, by name.

    Raises:
        StudyError: for a param that is malformed, or one of `required` that is missing.
    """
    for name in required:
        require(name in params, f"The param {name} is missing.")
    return {item.name: _read(item.name, item.type, params[item.name]) for item in fields(config) if item.name in params}


def _read(name: str, kind: Any, text: str) -> Any:
    if kind is bool:
        require(
            text.lower() in BOOLEANS,
            f"The param {name} is {text!r}, which is neither true nor false: it must be one of true, false, 1, 0.",
        )
        return BOOLEANS[text.lower()]
    try:
        if kind == tuple[int, int]:
            return tuple(map(int, json.loads(text)))
        if kind == Mapping[str, Any]:
            return dict(json.loads(text))
        # A field of several kinds is the model, which is recorded by its name.
        return text if isinstance(kind, UnionType) else kind(text)
    except (ValueError, TypeError):
        raise StudyError(f"The param {name} is {text!r}, which is no value of it.") from None
