"""Lines on a terminal are broken between words, and what is copied from them is whole."""

import io

import pytest
from rich.console import Console

from pipelines.session.lines import fitted, say

SENTENCE = (
    "A few epochs hardly train a network, and the trials take at most a minute, much less with pruning of trials."
)
COPIED = [
    "`study reproduce --dataset digits --home /home/ada/my study/of/pictures --tracking-uri http://a.server:5000`",
    "/home/ada/my study/reports/digits-cnn-0123456789-abcdefgh/of/this/very/long/name/index.html",
    "~/my study/reports/digits-cnn-0123456789-abcdefgh/of/this/very/long/name/page/index.html",
    "sqlite:////home/ada/my study/mlruns/a/folder/with/a/name/that/is/longer/than/a/line/mlflow.db",
    "http://127.0.0.1:5000/#/experiments/1/runs/0123456789abcdef0123456789abcdef?viewStateShareKey=0123456789",
]


def on_a_terminal(text: str, width: int = 80) -> str:
    return fitted(text, Console(file=io.StringIO(), force_terminal=True, width=width))


def test_a_sentence_is_broken_between_words():
    lines = on_a_terminal(SENTENCE).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert " ".join(lines) == SENTENCE


@pytest.mark.parametrize("copied", COPIED)
def test_what_is_copied_is_on_one_line_and_what_is_around_it_is_broken(copied: str):
    text = on_a_terminal(f"{SENTENCE} See {copied}, since this comes afterwards. {SENTENCE}")
    assert copied in text
    assert text.replace("\n", " ") == f"{SENTENCE} See {copied}, since this comes afterwards. {SENTENCE}"
    assert all(len(line) <= 80 for line in text.splitlines() if copied not in line)


@pytest.mark.parametrize("indent", ["", "  ", "To import it: "])
def test_a_command_without_quotation_marks_is_whole(indent: str):
    command = "study import '/home/ada/a long name/of/an/export.zip' --home /home/ada/another/folder --max-size 20"
    assert on_a_terminal(f"{indent}{command}").endswith(command)


def test_wide_characters_count_as_two():
    assert on_a_terminal("图像 分类 网络", 11) == "图像 分类\n网络"


def test_line_ends_and_indents_stay():
    assert on_a_terminal("\n  heading\n- a point") == "\n  heading\n- a point"


def test_elsewhere_a_line_stays_one(capsys: pytest.CaptureFixture[str]):
    say(SENTENCE)
    assert capsys.readouterr().out == f"{SENTENCE}\n"
