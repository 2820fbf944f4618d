"""What the documentation marks as runnable runs as it stands: commands on the digits, and Python."""

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import environment, study

ROOT = Path(__file__).parents[2]
RUNNABLE = re.compile(r"^<!-- runnable -->\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TUTORIAL = ROOT / "docs" / "tutorial.md"
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
            subprocess.run([sys.executable, "-c", text], cwd=home, env=environment(home, **THREADS), check=True)
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
