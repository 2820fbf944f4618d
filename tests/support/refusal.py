"""What holds for any bad input: one sentence, exit code 2 and unchanged stores, or the command works."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, event, settings

from tests.support.process import Ended

IS_LONG = os.environ.get("STUDY_TEST_PROFILE") == "long"
REACHED = "the stage may begin"


def cases(short: int, long: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """How many are tried; always the same ones, so that a failure is one on every machine."""
    return settings(
        max_examples=long if IS_LONG else short,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        # A case takes a second, and a smaller one says no more.
        phases=(Phase.explicit, Phase.generate),
    )


def contents(home: Path) -> dict[str, object]:
    """What both databases hold, as far as they are databases, and the files of the artifacts."""
    held: dict[str, object] = {}
    for file in (home / "mlruns" / "mlflow.db", home / "mlruns" / "optuna.db"):
        try:
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                held[file.name] = list(database.iterdump())
        except (sqlite3.Error, UnicodeError):
            held[file.name] = file.read_bytes() if file.is_file() else sorted(map(str, file.glob("*")))
    artifacts = (home / "mlruns" / "artifacts").rglob("*")
    return held | {"artifacts": {str(path): path.stat().st_mtime_ns for path in artifacts if path.is_file()}}


def assert_refused_or_done(ended: Ended, before: dict[str, object], home: Path) -> None:
    assert "Traceback" not in ended.err + ended.out, ended.err + ended.out
    assert "geheim" not in ended.err + ended.out
    assert ended.code in (0, 1, 2), ended
    event(f"exit code {ended.code}")
    if ended.code == 2:
        assert len(ended.err.splitlines()) == 1, ended
        assert ended.err.startswith("study: "), ended
        assert len(ended.err) < 12_000
        assert ended.err.isascii() or all(char.isprintable() for char in ended.err.strip())
        if REACHED not in ended.err:
            assert contents(home) == before, ended
