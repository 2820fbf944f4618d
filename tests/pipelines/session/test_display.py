import io

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
