"""What the documentation marks as runnable runs as it stands: commands on the digits, and Python.

The README's commands on CIFAR-10 run on a few images in its place, with fewer trials.
"""

import contextlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.process import python, study, study_here

ROOT = Path(__file__).parents[2]
RUNNABLE = re.compile(r"^<!-- runnable -->\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
THREADS = {"STUDY_THREADS": "1", "OMP_NUM_THREADS": "1"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of a page that is marked as runnable."""
    return RUNNABLE.findall(page.read_text())


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MARKED = [page for page in PAGES if blocks(page)]


def run(page: Path, home: Path) -> None:
    """Runs the blocks of a page in order, in the folder `home`, where everything is recorded too."""
    for language, text in blocks(page):
        if language == "python":
            if module := re.match(r"# (\w+\.py)\n", text):
                (home / module[1]).write_text(text)
            with contextlib.chdir(home):
                ended = python(text, home, **THREADS)
            assert ended.code == 0, (text, ended)
            continue
        commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
        assert language == "console"
        assert commands
        for command in commands:
            program, *arguments = shlex.split(command)
            assert program == "study", command
            with contextlib.chdir(home):
                ended = study(*arguments, home=home, **THREADS)
            assert ended.code == 0, (command, ended)


@pytest.fixture(scope="module")
def after_tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who has followed the tutorial, which the other pages presuppose."""
    home = tmp_path_factory.mktemp("reader")
    run(TUTORIAL, home)
    return home


def test_the_tutorial_leaves_two_retrained_networks_and_a_report(after_tutorial: Path) -> None:
    assert '"stage": "retrain"' in study("runs", "--json", home=after_tutorial).out
    [table] = after_tutorial.glob("reports/digits-cnn-*/only/table2.csv")
    assert table.read_text()


@pytest.mark.parametrize("page", [page for page in MARKED if page != TUTORIAL], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, after_tutorial: Path) -> None:
    run(page, after_tutorial)


def test_every_mark_is_followed_by_a_block() -> None:
    for page in PAGES:
        assert len(re.findall("^<!-- runnable -->", page.read_text(), re.MULTILINE)) == len(blocks(page)), page


SMALL = {
    "STUDY_EPOCHS": "1",
    "STUDY_RETRAIN_EPOCHS": "1",
    "STUDY_EXPERIMENT_EPOCHS": "1",
    "STUDY_SEEDS": "1",
    "STUDY_ONLY": "table2",
}
"""Settings with which the README's commands on CIFAR-10 take seconds."""


def two_classes(folder: Path) -> str:
    """A folder of images of two of CIFAR-10's classes, one darker than the other."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("bird", "cat")):
        (folder / name).mkdir(parents=True)
        for number, pixels in enumerate(random.integers(0, 128, (30, 32, 32, 3), np.uint8)):
            Image.fromarray(pixels + np.uint8(127 * label)).save(folder / name / f"{number}.png")
    return str(folder)


@pytest.mark.slow
def test_the_readmes_commands_on_cifar_10_run_on_images_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text().split("## On CIFAR-10\n")[1]
    block = section.split("```console\n")[1].split("```")[0]
    activate, *commands = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    assert activate == ["source", ".venv/bin/activate"]
    assert commands.pop() == ["study", "ui"], "tests/whole/test_ui.py runs it"
    settings = {"STUDY_DATASET": two_classes(tmp_path / "images"), **SMALL, **THREADS}
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40)).save("photo.jpg")
    assert len(commands) > 6
    for program, *arguments in commands:
        assert program == "study"
        few = [{"40": "2"}.get(word, word) for word in arguments]
        ended = study_here(*few, home=tmp_path, **settings)
        assert ended.code == 0, (arguments, ended)
