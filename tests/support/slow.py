"""Finds the tests that `make quick` leaves out, by the fixtures that they use and the functions that they call."""

import subprocess
import types
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

import pytest
import torch.multiprocessing

from pipelines.session.context import Context
from pipelines.trials.pool import WorkerPool
from tests.support.fork_server import ForkServer
from tests.support.process import study_here

SLOW = (subprocess, get_context, torch.multiprocessing.spawn, WorkerPool, ForkServer, Context)
"""Callables that start processes, or that only whole searches, trainings and analyses need."""
IN_FIXTURES = (*SLOW, study_here)
"""The same for fixtures, whose commands do something, where those of tests are refused at once."""
READ = ("tests", "benchmarks")
"""The packages whose functions are searched for calls, recursively."""


def is_slow(item: pytest.Function) -> bool:
    """Whether a test or one of its fixtures opens a browser, starts a process, or has a stage search or train."""
    fixtures = [fixture.func for named in item._fixtureinfo.name2fixturedefs.values() for fixture in named]
    return (
        "browser" in item.fixturenames
        or _reaches(item.function, SLOW, set())
        or any(_reaches(fixture, IN_FIXTURES, set()) for fixture in fixtures)
    )


def _reaches(function: object, slow: Sequence[object], seen: set[object]) -> bool:
    if isinstance(function, type):
        return any(_reaches(method, slow, seen) for method in vars(function).values())
    function = getattr(function, "__wrapped__", function)
    if not isinstance(function, types.FunctionType) or function in seen:
        return False
    seen.add(function)
    used = set(_used(function))
    # A fixture that is requested by name may be any.
    if "getfixturevalue" in _names(function.__code__) or not used.isdisjoint(slow):
        return True
    read = (value for value in used if (getattr(value, "__module__", None) or "").startswith(READ))
    return any(_reaches(value, slow, seen) for value in read)


def _used(function: types.FunctionType) -> Iterator[object]:
    """The functions, classes and modules that a function refers to, directly or as attributes of modules."""
    names = set(_names(function.__code__))
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        if callable(value) or isinstance(value, types.ModuleType):
            yield value
        if isinstance(value, types.ModuleType) and value.__name__.startswith(READ):
            yield from (vars(value)[attribute] for attribute in names & vars(value).keys())


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
