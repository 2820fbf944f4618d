"""The command as a process of its own, and one finished study that several files of tests read."""

import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from pipelines.cli import app
from tests.support.fork_server import STUDY, Forked, fork_piped, fork_server

TIMEOUT = 240
"""Seconds that any one process may take: generous, since nothing here is timed."""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """The surroundings of a process that keeps everything in `home`, whatever this one was given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("STUDY_", "MLFLOW_", "OPTUNA_"))}
    return {**clean, "STUDY_HOME": str(home), "PYTHONUNBUFFERED": "1", **more}


def start(*arguments: str, home: Path, **variables: str) -> Forked:
    return fork_piped(arguments, environment(home, **variables))


def end(process: Forked, said: str = "") -> Ended:
    """Waits for `process`; `said` is what was read of its output before."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    return Ended(process.wait(), said + out, err)


def study(*arguments: str, home: Path, **variables: str) -> Ended:
    return end(start(*arguments, home=home, **variables))


def study_cold(*arguments: str, home: Path, **variables: str) -> Ended:
    """The command as a user starts it."""
    cold = subprocess.run(
        [STUDY, *arguments],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Ended(cold.returncode, cold.stdout, cold.stderr)


def study_here(*arguments: str, home: Path, **variables: str) -> Ended:
    """The command in this process, which spares the seconds of starting one."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        # What study.tracking.store set for this process stays.
        for name in [name for name in os.environ if name.startswith("STUDY_") or name == "MLFLOW_TRACKING_URI"]:
            patch.delenv(name)
        # What the command sets for itself and its children goes when it ends.
        own = dict.fromkeys(("PYTHONSAFEPATH", "MPLBACKEND", "MATPLOTLIBRC"), "")
        for name, value in {**own, "STUDY_HOME": str(home), **variables}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["study", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            app.main()
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def read_until(process: Forked, text: str) -> str:
    """The output of `process` up to the line that holds `text`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text!r} was never said, only:\n{said}\n{end(process).err}")


def on_a_terminal(*arguments: str, home: Path) -> tuple[int, str]:
    """The exit code of the command, and all that it wrote to its terminal."""
    ours, theirs = pty.openpty()
    process = fork_server().start(arguments, environment(home, TERM="xterm", COLUMNS="120"), (theirs,) * 3)
    os.close(theirs)
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    screen = b""
    with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
        while some := os.read(ours, 65536):
            screen += some
    os.close(ours)
    code = process.wait()
    watchdog.cancel()
    return code, screen.decode()


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """The workers of a search: what the fork server of `parent` has forked."""
    return [
        worker
        for child in parent.children()
        if "multiprocessing.forkserver" in " ".join(child.cmdline())
        for worker in child.children()
    ]


REPRODUCE = ("reproduce", "--dataset", "digits", "--trials", "3", "--epochs", "2", "--retrain-epochs", "2")


@dataclass(frozen=True)
class Reproduced:
    home: Path
    ended: Ended


def reproduced(factory: pytest.TempPathFactory) -> Reproduced:
    """The whole study on the digits; made once for all files of tests, also where several processes run these.

    To be read, while another file may have it analysed again.
    """
    base = factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home, told = folder / "reproduced", folder / "reproduced.json"
    with FileLock(folder / "reproduced.lock"):
        if not told.exists():
            # What a process that was stopped on the way had made.
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            told.write_text(json.dumps(asdict(study(*REPRODUCE, home=home))))
    return Reproduced(home, Ended(**json.loads(told.read_text())))


def only_page(home: Path) -> Path:
    """The page of the one report in `home`."""
    (page,) = (home / "reports").glob("*/index.html")
    return page
