"""Assertions for any bad input: either the command works, or one sentence, exit code 2 and unchanged stores."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, currently_in_test_context, event, settings

from tests.support.process import Ended

IS_LONG = os.environ.get("STUDY_TEST_PROFILE") == "long"
REACHED = "the stage may begin"


def cases(short: int, long: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Number of examples in the short and the long profile; derandomized, so that failures are reproducible."""
    return settings(
        max_examples=long if IS_LONG else short,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        # No shrinking: an example takes a second, and a smaller one shows no more.
        phases=(Phase.explicit, Phase.generate),
    )


def contents(home: Path) -> dict[str, object]:
    """Contents of both databases (raw bytes where they are not readable), and the times of all artifacts."""
    stores: dict[str, object] = {}
    for file in (home / "mlruns" / "mlflow.db", home / "mlruns" / "optuna.db"):
        try:
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                stores[file.name] = list(database.iterdump())
        except (sqlite3.Error, UnicodeError):
            stores[file.name] = file.read_bytes() if file.is_file() else sorted(map(str, file.glob("*")))
    artifacts = (home / "mlruns" / "artifacts").rglob("*")
    return stores | {"artifacts": {str(path): path.stat().st_mtime_ns for path in artifacts if path.is_file()}}


def assert_refused_or_done(ended: Ended, before: dict[str, object], home: Path) -> None:
    assert "Traceback" not in ended.err + ended.out, ended.err + ended.out
    assert "geheim" not in ended.err + ended.out
    assert ended.code in (0, 1, 2), ended
    if currently_in_test_context():
        event(f"exit code {ended.code}")
    if ended.code == 2:
        assert len(ended.err.splitlines()) == 1, ended
        assert ended.err.startswith("study: "), ended
        assert len(ended.err) < 12_000
        assert ended.err.isascii() or all(char.isprintable() for char in ended.err.strip())
        if REACHED not in ended.err:
            assert contents(home) == before, ended
