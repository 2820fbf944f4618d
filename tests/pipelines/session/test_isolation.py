"""What lies around where a command is typed, and where its output goes, changes nothing of what it does."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from study.config import Home
from study.tracking.store import Store
from tests.support.process import STUDY, TIMEOUT, Ended, environment, read_until, start, study

TUNE = ("tune", "--model", "ffnn", "--dataset", "digits", "--trials", "2", "--epochs", "1", "--no-retrain")


def run(*arguments: str, home: Home, cwd: Path, stdout: int = subprocess.PIPE, **variables: str) -> Ended:
    done = subprocess.run(
        [STUDY, *arguments],
        env=environment(home.root, **variables),
        cwd=cwd,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    return Ended(
        done.returncode, (done.stdout or b"").decode(variables.get("PYTHONIOENCODING", "utf-8")), done.stderr.decode()
    )


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


def test_a_search_goes_on_when_its_reader_leaves(home: Home, tmp_path: Path):
    output = closed_pipe()
    ended = run(*TUNE, home=home, cwd=tmp_path, stdout=output)
    os.close(output)
    assert (ended.code, ended.err) == (0, "")
    assert statuses(home) == ["FINISHED"] * 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full_is_told_as_what_it_is(home: Home, tmp_path: Path):
    with Path("/dev/full").open("wb") as full:
        ended = run("data", "--dataset", "digits", home=home, cwd=tmp_path, stdout=full.fileno())
    assert ended.code == 2
    assert ended.err == "study: The output could not be written: No space left on device.\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_what_an_output_cannot_encode_is_replaced(encoding: str, home: Home, tmp_path: Path):
    ended = run("data", "--dataset", "digits", home=home, cwd=tmp_path, PYTHONIOENCODING=encoding, LC_ALL="C")
    assert ended.code == 0, ended.err
    assert "1,293" in ended.out


def test_a_terminal_that_closes_ends_a_search_in_order(home: Home):
    process = start(*TUNE[:-5], "--trials", "500", "--epochs", "2", "--no-retrain", home=home.root)
    read_until(process, "trial 1 ")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGHUP
    assert "KILLED" in statuses(home)
    assert "RUNNING" not in statuses(home)


def test_a_listing_ends_without_a_word_when_its_reader_leaves(home: Home, tmp_path: Path):
    assert study(*TUNE, home=home.root).code == 0
    output = closed_pipe()
    ended = run("runs", home=home, cwd=tmp_path, stdout=output)
    os.close(output)
    assert (ended.code, ended.err) == (0, "")
