"""The order of the tests, and their fixtures, which are in `tests.support.studies`."""

import gc
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
LONGEST = (
    "whole/test_end_to_end.py",
    "whole/test_team.py",
    "pipelines/test_analyse.py",
    "whole/test_documented.py",
    "pipelines/session/test_cluster.py",
    "whole/test_server_faults.py",
    "pipelines/trials/test_recovery.py",
    "pipelines/session/test_isolation.py",
    "pipelines/upkeep/test_export.py",
    "faults/test_faults.py",
    "pipelines/trials/test_pool.py",
    "pipelines/upkeep/test_doctor.py",
    "pipelines/upkeep/test_gaps.py",
    "test_benchmarks.py",
    "pipelines/test_retrain.py",
    "study/test_data.py",
)
"""The slowest files of tests, started first so that no process is left with a long one at the end."""
SHARED = "tests.support.studies"
# Before a conftest of a folder imports it: it would be too late when it becomes a plugin.
pytest.register_assert_rewrite(SHARED)
pytest_plugins = ()


def pytest_configure(config: pytest.Config) -> None:
    # As pytest-xdist decides it; each of its workers runs all tests that it is given itself.
    is_distributed = config.getoption("dist", "no") != "no" and config.getoption("tx", ())
    # The process that only hands out the tests needs no fixtures, whose imports would take it four seconds.
    if config.option.collectonly or not is_distributed:
        config.pluginmanager.import_plugin(SHARED)


def __getattr__(name: str) -> Any:
    """The functions and classes of the fixtures' module, as `from tests.conftest import surroundings` asks for them."""
    if name.startswith(("_", "pytest")):
        raise AttributeError(name)
    return getattr(importlib.import_module(SHARED), name)


def pytest_collection_finish() -> None:
    # The libraries' million objects stay: looking through them took as long as a tenth of the tests.
    gc.freeze()


def pytest_sessionfinish() -> None:
    # Libraries complain of frozen objects when the interpreter ends.
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Not in the process that only hands out the tests.
    from tests.support.slow import is_slow

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(TESTS).as_posix()
        # Those that run the product as a process are longer than others, and would come last.
        return LONGEST.index(path) if path in LONGEST else len(LONGEST) + (not path.startswith("whole/"))

    items.sort(key=place)
    for item in items:
        if isinstance(item, pytest.Function) and is_slow(item):
            item.add_marker("slow")
        # A trace function, which coverage takes before Python 3.12, makes them take a third longer.
        if item.get_closest_marker("slow") and not hasattr(sys, "monitoring"):
            item.add_marker("no_cover")
