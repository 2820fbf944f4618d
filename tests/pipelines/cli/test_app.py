"""The help of every command, and what is said of an option that a command has not."""

import inspect
from collections.abc import Sequence

import pytest
import typer

from pipelines.cli.app import app
from study.home import Home
from tests.support.process import study_here

COMMANDS = list(typer.main.get_command(app).commands.items())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_no_paragraph_of_a_help_is_broken_in_its_source(name: str, command: typer.core.TyperCommand):
    """The help keeps the line ends of all paragraphs but the first."""
    _, *paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    assert [paragraph for paragraph in paragraphs if "\n" in paragraph] == []


def test_the_help_of_an_experiment_fits_80_columns(home: Home):
    ended = study_here("experiment", "--help", home=home.root, COLUMNS="80", TERMINAL_WIDTH="80")
    lines = [line.strip() for line in ended.out.splitlines()]
    assert "recipe: what each choice of training brings." in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tune", "--preset", "report"), "--preset is none of tune's: it goes with `study retrain`."),
        (
            ("retrain", "--trials", "3"),
            "--trials is none of retrain's: it goes with `study tune` or `study reproduce`.",
        ),
    ],
)
def test_an_option_of_another_command_is_told_where_it_goes(words: Sequence[str], message: str, home: Home):
    ended = study_here(*words, home=home.root)
    assert (ended.code, ended.err) == (2, f"study: {message}\n")


def test_an_option_that_no_command_has_is_compared_with_this_commands(home: Home):
    ended = study_here("tune", "--trails", "3", home=home.root)
    assert ended.code == 2
    assert "--trials" in ended.err
