"""Runs the command as a process, and makes one finished study that several test files read."""

import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import sysconfig
import threading
import venv
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from pipelines.cli import app
from tests.support.fork_server import STUDY, Forked, fork_piped, fork_server

ROOT = Path(__file__).parents[2]
TIMEOUT = 400
"""Seconds after which a process is killed: generous, since nothing here is timed."""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """Environment of a process that keeps everything in `home`, without this process's own settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("STUDY_", "MLFLOW_", "OPTUNA_"))}
    return {**clean, "STUDY_HOME": str(home), "PYTHONUNBUFFERED": "1", **more}


def start(*arguments: str, home: Path, **variables: str) -> Forked:
    return fork_piped(arguments, environment(home, **variables))


def start_logged(*arguments: str, home: Path, log: Path, **variables: str) -> Forked:
    """Starts the command in the folder of `log`, to which its output goes."""
    with log.open("w") as file, Path(os.devnull).open() as nothing, contextlib.chdir(log.parent):
        streams = nothing.fileno(), file.fileno(), file.fileno()
        return fork_server().start(arguments, environment(home, **variables), streams)


def end(process: Forked, output: str = "") -> Ended:
    """Waits for `process`; `output` is the part of its stdout that was read before."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    return Ended(process.wait(), output + out, err)


def study(*arguments: str, home: Path, **variables: str) -> Ended:
    return end(start(*arguments, home=home, **variables))


def python(code: str, home: Path, **variables: str) -> Ended:
    """Runs Python code as `python -c` does."""
    return study("-c", code, home=home, **variables)


def study_cold(*arguments: str, home: Path, command: str | Path = STUDY, **variables: str) -> Ended:
    """Runs the command in a new interpreter, as a user starts it."""
    cold = subprocess.run(
        [command, *arguments],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Ended(cold.returncode, cold.stdout, cold.stderr)


def study_here(*arguments: str, home: Path, **variables: str) -> Ended:
    """Runs the command in this process, which saves the seconds of starting another."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        # Variables that study.tracking.store set for this process stay.
        for name in [name for name in os.environ if name.startswith("STUDY_") or name == "MLFLOW_TRACKING_URI"]:
            patch.delenv(name)
        # Variables that the command sets are restored afterwards.
        own = dict.fromkeys(("PYTHONSAFEPATH", "MPLBACKEND", "MATPLOTLIBRC"), "")
        for name, value in {**own, "STUDY_HOME": str(home), **variables}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["study", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            app.main()
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def read_until(process: Forked, text: str) -> str:
    """The output of `process` up to and including the line with `text`."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            return output
    raise AssertionError(f"{text!r} was never printed, only:\n{output}\n{end(process).err}")


def on_a_terminal(*arguments: str, home: Path, **variables: str) -> tuple[int, str]:
    """Runs the command on a terminal; its exit code and all that it wrote."""
    ours, theirs = pty.openpty()
    settings = environment(home, **{"TERM": "xterm", "COLUMNS": "120", **variables})
    process = fork_server().start(arguments, settings, (theirs,) * 3)
    os.close(theirs)
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    screen = b""
    with contextlib.suppress(OSError):  # raised when the other side has closed the terminal
        while chunk := os.read(ours, 65536):
            screen += chunk
    os.close(ours)
    code = process.wait()
    watchdog.cancel()
    return code, screen.decode()


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """The workers of a search: the children of multiprocessing's fork server, a child of `parent`; no other has any."""
    return [worker for child in parent.children() for worker in child.children()]


REPRODUCE = ("reproduce", "--dataset", "digits", "--trials", "3", "--epochs", "2", "--retrain-epochs", "2")


@dataclass(frozen=True)
class Reproduced:
    home: Path
    ended: Ended
    command: Path
    """The command of the wheel that made it."""


def wheel_command(folder: Path) -> Path:
    """The command `study` of a wheel of these packages, in an environment with the libraries of this one."""
    source, wheels, place = folder / "source", folder / "wheels", folder / "environment"
    # A copy: a build leaves files in the folder, and takes up those of earlier ones.
    for package in ("study", "pipelines", "analysis", "benchmarks"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source)
    subprocess.run([sys.executable, *pip, *build], check=True)
    # Without its own pip, whose installation takes longer than that of the wheel.
    venv.create(place)
    into = ("--python", place / "bin" / "python", "install", "--no-deps")
    subprocess.run([sys.executable, *pip, *into, *wheels.iterdir()], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    # Of this environment only the libraries: .pth files in it, as of an editable installation, are not read.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return place / "bin" / "study"


def reproduced(factory: pytest.TempPathFactory) -> Reproduced:
    """The whole study on the digits, by an installed wheel; made once, also where several processes run the tests.

    Read-only, except that a test file may analyse it again meanwhile.
    """
    base = factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home, record = folder / "reproduced", folder / "reproduced.json"
    with FileLock(folder / "reproduced.lock"):
        if not record.exists():
            # Left by a process that was stopped before it was done.
            for left in (home, folder / "wheel"):
                shutil.rmtree(left, ignore_errors=True)
                left.mkdir()
            command = wheel_command(folder / "wheel")
            ended = study_cold(*REPRODUCE, home=home, command=command)
            record.write_text(json.dumps({"command": str(command), "ended": asdict(ended)}))
    recorded = json.loads(record.read_text())
    return Reproduced(home, Ended(**recorded["ended"]), Path(recorded["command"]))


def only_page(home: Path) -> Path:
    """Path of the page of the only report in `home`."""
    (page,) = (home / "reports").glob("*/index.html")
    return page
