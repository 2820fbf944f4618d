import io
import re
from contextlib import ExitStack

import pytest
from rich.console import Console
from rich.progress import Task

from pipelines.session.display import Display


class Clock:
    """A time that goes on only when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(trials: list[float], sure_from: float = 0) -> list[str]:
    """The time left that a bar of 20 trials shows after each of these, in seconds, has ended."""
    clock, display, texts = Clock(), Display(), []
    display.console = Console(force_terminal=True, file=io.StringIO(), width=120, get_time=clock)
    with display.bar("search", 20) as bar:
        bar.sure_from(sure_from)
        progress = display._progress
        assert progress
        column = next(each for each in progress.columns if type(each).__name__ == "_TimeLeft")
        for seconds in trials:
            clock.now += seconds
            bar.advance()
            task: Task = progress.tasks[0]
            texts.append(column.render(task).plain)
    return texts


def test_the_time_left_is_told_by_the_latest_trials_since_pruning_makes_them_shorter():
    assert shown([60] * 5 + [10] * 12)[-1] == "0:00:30"


def test_the_time_left_of_equal_steps_is_theirs_however_long_they_are():
    assert shown([600] * 4)[-2:] == ["2:50:00", "2:40:00"]


def test_no_time_left_is_shown_before_it_can_be_told():
    assert shown([60] * 6, sure_from=5) == ["-:--:--"] * 4 + ["0:15:00", "0:14:00"]
    assert shown([60]) == ["-:--:--"]


def screen_of(notes: dict[str, str], width: int = 80) -> list[str]:
    """The lines of a display with these bars, by name, and their notes."""
    display = Display()
    display.console = Console(force_terminal=True, file=io.StringIO(), width=width)
    with ExitStack() as bars:
        for name, note in notes.items():
            bar = bars.enter_context(display.bar(name, 40))
            bar.advance(14)
            bar.note(note)
        progress = display._progress
        assert progress
        shown = Console(file=io.StringIO(), width=width)
        shown.print(progress.get_renderable())
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue().splitlines()


NOTES = {
    "search digits-cnn-architecture": "14/40 · best 0.9792",
    "  trial 14": "val 0.840 · 12,261 images/s",
    "retraining resnet18": "epoch 12/30 · test 0.917",
}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_notes_of_a_search_and_a_retraining_fit_beside_their_bars(width: int):
    for line, note in zip(screen_of(NOTES, width), NOTES.values(), strict=True):
        assert note in line
        assert "35 %" in line
        assert "left" in line
        assert len(line) <= width


def test_a_longer_note_is_cut_off_and_its_bar_stays_on_one_line():
    [line] = screen_of({"dead-filters": "epoch 2/10 · val 0.612 · 3/45 lr 0.00268, 100 warm-up steps, AdamW, seed 0"})
    assert "epoch 2/10 · val 0.612" in line
    assert line.rstrip().endswith("…")


def test_what_is_said_stands_above_the_bars_and_progress_only_where_there_are_none(
    capsys: pytest.CaptureFixture[str],
):
    display = Display()
    display.console = Console(force_terminal=True, file=io.StringIO(), width=80)
    with display.bar("search", 4):
        display.say("trial 0 has ended")
        display.log("trial 1 goes on", after=0)
    assert isinstance(display.console.file, io.StringIO)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", display.console.file.getvalue())
    assert "trial 0 has ended\n" in screen
    assert "goes on" not in screen
    Display().log("trial 1 goes on", after=0)
    assert capsys.readouterr().out == "trial 1 goes on\n"


def test_a_quiet_display_says_nothing(capsys: pytest.CaptureFixture[str]):
    Display(is_quiet=True).say("trial 0 has ended")
    assert capsys.readouterr().out == ""
