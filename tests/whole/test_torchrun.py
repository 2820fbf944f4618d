"""`torchrun … study retrain`: several processes share a retraining, and the first one records it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from study.home import Home
from study.tracking.artifacts import weights_path
from study.tracking.runs import Run
from study.tracking.store import Store
from tests.conftest import copy_of
from tests.study.test_distributed import free_port
from tests.support.fork_server import STUDY, Forked
from tests.support.process import TIMEOUT, end, environment, start, study_here

EPOCHS = 3
RETRAIN = ("retrain", "--epochs", str(EPOCHS), "--device", "cpu", "--precision", "float32", "--threads", "1")


@pytest.fixture
def home(migrated: Home, tmp_path: Path) -> Path:
    """A home with one trial of a small network."""
    home = copy_of(migrated, tmp_path / "home").root
    settings = ("--model", "cnn", "--filters", "4/6", "--dataset", "digits", "--trials", "1", "--epochs", "1")
    tuned = study_here("tune", *settings, "--no-retrain", "--threads", "1", home=home)
    assert tuned.code == 0, tuned.err
    return home


def weights(run: Run, home: Path) -> dict[str, torch.Tensor]:
    return Store(Home(root=home)).load_tensors(run.id, weights_path(EPOCHS))[0]


def retrained(home: Path) -> list[Run]:
    """The retrained runs, the latest first."""
    return Store(Home(root=home)).runs(stage="retrain")


def assert_equal_up_to_rounding(home: Path) -> None:
    """The latest retraining has the weights of one by a single process, which is run now."""
    assert study_here(*RETRAIN, "--again", home=home).code == 0
    alone, shared = retrained(home)
    assert (alone.params["world_size"], shared.params["world_size"]) == ("1", "2")
    theirs, ours = weights(alone, home), weights(shared, home)
    assert theirs.keys() == ours.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-3, atol=1e-4)
    assert shared.metrics["final_test_accuracy"] == pytest.approx(alone.metrics["final_test_accuracy"], abs=0.01)


def test_two_processes_retrain_to_the_weights_of_one_and_record_one_run(home: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port")
    ended = subprocess.run(
        [*launcher, str(free_port()), STUDY, *RETRAIN],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Retrained trial 0") == 1
    assert "2 processes" in ended.stdout
    [run] = retrained(home)
    history = Store(Home(root=home)).client.get_metric_history(run.id, "train_loss")
    assert [point.step for point in history] == list(range(1, EPOCHS + 1))
    assert_equal_up_to_rounding(home)


def started(home: Path) -> tuple[Forked, Forked]:
    """Both processes as `torchrun` starts them."""
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first, second = (
        start(*RETRAIN, "--model", "cnn", home=home, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in (0, 1)
    )
    return first, second


def test_a_killed_process_ends_the_others_with_a_sentence_and_the_same_command_continues(home: Path) -> None:
    first, second = started(home)
    assert first.stdout
    output = ""
    while "epoch 1/" not in output:
        line = first.stdout.readline()
        assert line, end(first, output).err
        output += line
    os.kill(second.pid, signal.SIGKILL)
    end(second)
    ended = end(first, output)
    assert ended.code == 2
    assert "Another process of this training has ended, or cannot be reached" in ended.err
    first, second = started(home)
    leader, follower = end(first), end(second)
    assert (leader.code, follower.code) == (0, 0), leader.err + follower.err
    assert "Continuing run" in leader.out
    assert_equal_up_to_rounding(home)


def test_torchrun_is_refused_for_other_commands(home: Path) -> None:
    ended = study_here("analyse", home=home, WORLD_SIZE="2", RANK="0")
    assert (ended.code, ended.err) == (
        2,
        "study: torchrun has started 2 processes of study analyse: it is for study retrain.\n",
    )
