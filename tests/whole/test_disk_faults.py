"""A disk that is full, or may not be written: one sentence, exit code 2, and what was complete stays so."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.data import load_dataset
from study.device import Machine
from study.home import Home
from study.tracking.store import Store
from tests.conftest import DIGITS, Finished, copy_of, surroundings
from tests.pipelines.test_retrain import trial
from tests.support.process import Ended, study, study_here

EPOCHS = 8
ROOM = 500_000
"""Bytes that are left on the disk: enough for some epochs of the small network, and not for all."""
ONLY = "roc,convergence,kernels_conv1,kernels_conv2,samples"
"""Figures of more than the room in which an analysis begins."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, and a small one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def full(disk: Path, migrated: Home, machine: Machine) -> tuple[Home, str]:
    """A home on the small disk, and the trial in it that is to be retrained."""
    context = surroundings(copy_of(migrated, disk / "home"), machine)
    digits = load_dataset(DIGITS, context.home)
    return context.home, trial(context, digits, batch_size=200).id


def retrained(home: Home, trial_run: str) -> Ended:
    options = ("--run", trial_run, "--epochs", str(EPOCHS), "--device", "cpu", "--threads", "1")
    return study_here("retrain", *options, home=home.root)


def fill(home: Home, room: int) -> Path:
    """Leaves `room` bytes on the disk of `home`; what to remove so that there is more again."""
    filler = home.root.parent / "filler"
    with filler.open("wb") as file:
        file.write(bytes(shutil.disk_usage(home.root).free - room))
    return filler


def assert_one_sentence(ended: Ended, folder: Path) -> None:
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("study: ")
    assert str(folder) in ended.err


def test_a_retraining_that_finds_the_disk_full_continues_where_it_was_and_ends_the_same(
    full: tuple[Home, str], migrated: Home, machine: Machine, tmp_path: Path
):
    home, trial_run = full
    undisturbed = copy_of(migrated, tmp_path / "undisturbed")
    shutil.copytree(home.store, undisturbed.store, dirs_exist_ok=True)
    filler = fill(home, ROOM)

    ended = retrained(home, trial_run)
    assert_one_sentence(ended, home.root)
    assert "is full" in ended.err
    assert "the same command continues" in ended.err
    assert not list(home.root.rglob("*.part")), "nothing half-written is left"

    filler.unlink()
    ended = retrained(home, trial_run)
    assert ended.code == 0, ended.err
    assert "Continuing run" in ended.out
    (run,) = Store(home).runs(stage="retrain")
    assert retrained(undisturbed, trial_run).code == 0
    (other,) = Store(undisturbed).runs(stage="retrain")
    weights = Store(home).artifacts(run.id, "weights")
    assert len(weights) == EPOCHS + 1
    for path in weights:
        assert Store(home).digest(run.id, path) == Store(undisturbed).digest(other.id, path)
    history = Store(home).client.get_metric_history(run.id, "train_loss")
    assert sorted(point.step for point in history) == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("room", [4_000, 400_000])
def test_a_search_that_finds_the_disk_full_continues_to_its_total(room: int, disk: Path, migrated: Home):
    home = copy_of(migrated, disk / "home")
    # In processes of their own: this one would be taken for that which still works on what was under way.
    typed = ("tune", "--dataset", "digits", "--model", "ffnn", "--trials", "6", "--epochs", "2", "--no-retrain")
    filler = fill(home, room)
    ended = study(*typed, "--threads", "1", home=home.root)
    assert_one_sentence(ended, home.root)
    assert "is full" in ended.err
    filler.unlink()
    ended = study(*typed, "--threads", "1", home=home.root)
    assert ended.code == 0, ended.err
    finished = [run for run in Store(home).runs(stage="trial", search="digits-ffnn") if run.status == "FINISHED"]
    assert len(finished) == 6
    assert study_here("doctor", home=home.root).code == 0


@pytest.mark.parametrize("room", [4_000, 400_000])
def test_an_analysis_that_finds_the_disk_full_continues_later(
    room: int, disk: Path, finished_study: Finished, tmp_path: Path
):
    home = copy_of(finished_study.context.home, disk / "home")
    filler = fill(home, room)
    typed = ("analyse", "--only", ONLY)
    ended = study_here(*typed, home=home.root)
    assert_one_sentence(ended, home.root)
    assert "is full" in ended.err
    assert not list(home.root.rglob("*.part")), "nothing half-written is left"
    filler.unlink()
    again = study_here(*typed, home=home.root)
    assert again.code == 0, again.err
    [report] = home.root.glob("reports/*/only/index.html")
    assert {file.stem for file in report.parent.glob("*.png")} == set(ONLY.split(","))


@pytest.mark.parametrize("room", [4_000, 1_500_000, 3_000_000])
def test_an_export_that_finds_the_disk_full_names_it_and_leaves_nothing(
    room: int, disk: Path, finished_study: Finished
):
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - room))
    ended = study_here("export", str(disk / "some.zip"), home=finished_study.context.home.root)
    assert_one_sentence(ended, disk / "some.zip")
    assert f"The disk of {disk} is full" in ended.err
    assert [file.name for file in disk.iterdir()] == ["filler"]


@pytest.mark.parametrize(
    "command",
    [("retrain",), ("analyse",), ("runs",), ("tune", "--dataset", "digits", "--trials", "1", "--epochs", "1")],
    ids=lambda command: command[0],
)
def test_a_store_that_may_not_be_written_is_told_in_a_sentence(
    command: tuple[str, ...], full: tuple[Home, str], disk: Path, tmp_path: Path
):
    # The same disk at a second place, since the first one is in use.
    view = tmp_path / "view"
    view.mkdir()
    subprocess.run(["mount", "--bind", disk, view], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", view], check=True)
        assert_one_sentence(study_here(*command, home=view / "home"), view / "home")
    finally:
        subprocess.run(["umount", "--lazy", view], check=True)
