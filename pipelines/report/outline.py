"""What the report shows, in the order in which it is read; the names are those that `study analyse --only` takes."""

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from pipelines.report import figures
from study.errors import StudyError, unknown

T = TypeVar("T")


def names() -> list[str]:
    """The names of all figures."""
    return [figure.name for figure in figures.FIGURES]


def parts() -> dict[str, list[str]]:
    """The parts of the page, each with the names of its figures."""
    found: dict[str, list[str]] = {}
    for figure in figures.FIGURES:
        found.setdefault(figure.part, []).append(figure.name)
    return found


def names_of(files: Collection[str]) -> tuple[str, ...]:
    """The names of what makes these figures or tables, which may also be called as their files are.

    Raises:
        StudyError: for one that is never made.
    """
    known = {name: figure.name for figure in figures.FIGURES for name in (figure.name, *figure.files)}
    found = {file: known.get(re.sub(r"_filter\d+$", "", file)) for file in files}
    for file, name in found.items():
        if name is None:
            raise unknown("figure", file, names())
    return tuple(dict.fromkeys(name for name in found.values() if name))


def by_part(steps: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """The steps in the order of the page, below its parts; parts without any are left out."""
    within = {part: {name: steps[name] for name in names if name in steps} for part, names in parts().items()}
    return {part: found for part, found in within.items() if found}


def chosen(steps: Mapping[str, T], only: Collection[str]) -> dict[str, T]:
    """The steps that `only` names; all where it names none.

    Raises:
        StudyError: for one that this run does not have.
    """
    for name in only:
        if name not in steps:
            choices = ", ".join(name for name in names() if name in steps)
            raise StudyError(f"This run has no {name}: choose one of {choices}.")
    return {name: step for name, step in steps.items() if not only or name in only}
