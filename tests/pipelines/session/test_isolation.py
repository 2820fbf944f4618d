"""What lies around where a command is typed, and where its output goes, changes nothing of what it does."""

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import mlflow.environment_variables
import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.session.isolation import MLFLOW_READ, SPINS, isolate
from study.home import Home
from study.tracking.store import Store
from tests.support.fork_server import fork_server
from tests.support.process import STUDY, TIMEOUT, Ended, environment, read_until, start, study

TUNE = ("tune", "--model", "ffnn", "--dataset", "digits", "--trials", "2", "--epochs", "1", "--no-retrain")


def run(*arguments: str, home: Home, cwd: Path, **variables: str) -> Ended:
    """Runs the command in a new interpreter."""
    done = subprocess.run(
        [STUDY, *arguments],
        env=environment(home.root, **variables),
        cwd=cwd,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(variables.get("PYTHONIOENCODING", "utf-8")), done.stderr.decode())


def run_into(output: int, *arguments: str, home: Home) -> tuple[int, str]:
    """Runs the command with this file descriptor as its stdout; returns its exit code and stderr."""
    with tempfile.TemporaryFile("w+") as errors, Path(os.devnull).open() as nothing:
        streams = nothing.fileno(), output, errors.fileno()
        code = fork_server().start(arguments, environment(home.root), streams).wait(TIMEOUT)
        errors.seek(0)
        return code, errors.read()


def statuses(home: Home) -> list[str]:
    return [run.status for run in Store(home).runs()]


def test_a_search_needs_no_backend_no_settings_and_no_modules_of_the_users(home: Home, tmp_path: Path):
    # As in a notebook's kernel; beside it, settings that matplotlib cannot read, and modules with the names of others.
    for name in ("random", "mlflow", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__file__} was imported')")
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfetext.usetex: True\n")
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    ended = run(*TUNE, "--workers", "2", home=home, cwd=tmp_path, **backend)
    assert ended.code == 0, ended.err
    assert statuses(home) == ["FINISHED"] * 3


def closed_pipe() -> int:
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


def test_a_search_goes_on_when_its_reader_leaves(home: Home):
    output = closed_pipe()
    assert run_into(output, *TUNE, home=home) == (0, "")
    os.close(output)
    assert statuses(home) == ["FINISHED"] * 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full_is_told_as_what_it_is(home: Home):
    with Path("/dev/full").open("wb") as full:
        ended = run_into(full.fileno(), "data", "--dataset", "digits", home=home)
    assert ended == (2, "study: The output could not be written: No space left on device.\n")


@pytest.mark.parametrize(
    ("command", "closed"), [("--help", ">&-"), ("--help", "2>&-"), ("data --dataset digits", "<&- >&- 2>&-")]
)
def test_a_command_works_with_standard_streams_that_are_closed(command: str, closed: str, home: Home):
    shell = ["sh", "-c", f'exec "$0" {command} {closed}', STUDY]
    done = subprocess.run(shell, env=environment(home.root), capture_output=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_what_an_output_cannot_encode_is_replaced(encoding: str, home: Home, tmp_path: Path):
    ended = run("--help", home=home, cwd=tmp_path, PYTHONIOENCODING=encoding, LC_ALL="C", COLUMNS="200")
    assert ended.code == 0, ended.err
    assert "?Tracing the Convolutions of a CNN?" in ended.out


def test_a_terminal_that_closes_ends_a_search_in_order(home: Home):
    process = start(*TUNE[:-5], "--trials", "500", "--epochs", "2", "--no-retrain", home=home.root)
    read_until(process, "trial 1 ")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGHUP
    assert "KILLED" in statuses(home)
    assert "RUNNING" not in statuses(home)


def test_a_listing_ends_without_a_word_when_its_reader_leaves(home: Home):
    Store(home).start("digits", "a search", tags={"stage": "search"}, params={})
    output = closed_pipe()
    assert run_into(output, "runs", home=home) == (0, "")
    os.close(output)


RELIABILITY = Path(__file__).parents[3] / "docs" / "reliability.md"
MLFLOW_VARIABLES = sorted(
    variable.name
    for variable in vars(mlflow.environment_variables).values()
    if isinstance(variable, mlflow.environment_variables._EnvironmentVariable)
)
HOSTILE = {
    "MLFLOW_LOGGING_LEVEL": "loud",
    "MLFLOW_RUN_ID": "0" * 32,
    "MLFLOW_EXPERIMENT_ID": "17",
    "MLFLOW_EXPERIMENT_NAME": "another",
    "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
    "MLFLOW_TRUNCATE_LONG_VALUES": "false",
    "MLFLOW_SQLALCHEMYSTORE_ECHO": "true",
    "MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH": "1",
    "OPTUNA_STORAGE": "sqlite:////nonexistent/optuna.db",
    "MPLCONFIGDIR": "/nonexistent",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "7",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNODEBUGRANGES": "1",
    "OMP_DYNAMIC": "true",
    "OMP_PROC_BIND": "true",
    "OMP_SCHEDULE": "dynamic,1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "LC_ALL": "C",
    "LC_NUMERIC": "de_DE.UTF-8",
    "HOME": "/nonexistent",
}
"""Variables that docs/reliability.md says do nothing, at values that would."""


@pytest.fixture
def documented() -> str:
    """The part of docs/reliability.md about environment variables."""
    text = RELIABILITY.read_text(encoding="utf-8")
    return text.partition("## Environment variables")[2].partition("\n## ")[0]


def test_every_variable_of_mlflow_is_read_on_purpose_or_removed(monkeypatch: pytest.MonkeyPatch, documented: str):
    for name in MLFLOW_VARIABLES:
        monkeypatch.setenv(name, "anything")
    # What `isolate` sets or removes is given back at the end.
    monkeypatch.setattr(os, "environ", os.environ.copy())
    isolate()
    kept = {name for name in MLFLOW_VARIABLES if name in os.environ}
    assert "MLFLOW_RUN_ID" not in kept
    assert "MLFLOW_TRACKING_URI" in kept
    assert len(kept) < 60 < 200 < len(MLFLOW_VARIABLES)
    for beginning in MLFLOW_READ:
        assert any(name.startswith(beginning) for name in MLFLOW_VARIABLES), beginning
        assert re.search(f"`{beginning}", documented), beginning


@pytest.mark.parametrize(
    ("command", "given", "expected"),
    [
        ("tune", {}, {"GOMP_SPINCOUNT": str(SPINS)}),
        ("analyse", {}, {"GOMP_SPINCOUNT": "0"}),
        ("tune", {"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ("analyse", {"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_waiting_threads_spin_for_a_limited_time_unless_the_user_has_said_how_they_wait(
    command: str, given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    monkeypatch.setattr(os, "environ", {name: os.environ[name] for name in os.environ if name not in names} | given)
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    assert {name: os.environ[name] for name in names if name in os.environ} == expected


@pytest.mark.parametrize("name", ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"])
def test_a_variable_of_mlflow_with_an_invalid_value_is_named(name: str, home: Home):
    ended = study("runs", home=home.root, **{name: "abc"})
    assert ended.code == 2
    assert ended.err.startswith(f"study: {name} cannot be used: ")
    assert ended.err.count("\n") == 1


def test_hostile_variables_are_in_the_table(documented: str):
    for name in HOSTILE:
        family = f"{name.partition('_')[0]}_*" if name.startswith(("LC_", "OPTUNA_")) else name
        assert any(f"`{known}`" in documented for known in (name, family)) or (
            name.startswith("MLFLOW_") and not name.startswith(MLFLOW_READ)
        ), name


def recorded(home: Home) -> list[object]:
    runs = sorted(Store(home).runs(), key=lambda run: (run.tags["stage"], run.name))
    measured = [{name: value for name, value in run.metrics.items() if not name.startswith("system/")} for run in runs]
    return [[(run.tags["stage"], run.status, run.params) for run in runs], measured]


def test_a_hostile_environment_changes_nothing_of_what_is_recorded(home: Home, other_home: Home, tmp_path: Path):
    command = (*TUNE[:-1], "--threads", "1", "--retrain-epochs", "1")
    ended = study(*command, home=home.root)
    assert ended.code == 0, ended.err
    ended = run(*command, home=other_home, cwd=tmp_path, **HOSTILE)
    assert (ended.code, ended.err) == (0, "")
    assert recorded(other_home) == recorded(home)


def test_a_server_on_this_machine_is_not_asked_for_through_a_proxy(server: str, home: Home):
    variables = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "example.org", "STUDY_STORE_TIMEOUT": "0"}
    ended = study("runs", "--tracking-uri", server, home=home.root, **variables)
    assert "There are no such runs" in ended.err
