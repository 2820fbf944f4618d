"""Progress of a stage: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from pipelines.session.lines import fitted
from study.system.redaction import one_line, redacted

WIDE = 110
"""Characters from which a terminal has room for a long bar and the time so far."""
LONG, SHORT = (30, 24, 29), (24, 8, 21)
"""Characters of a description at most, of the bar, and of share and times: on a wide terminal, and on others."""
RECENT, SHORTEST = 1 / 3, 30
"""The share of the time so far, and its minimum in seconds, whose speed tells the time left."""


class Bar:
    """One line of progress; `advance` moves it and `note` says where things stand."""

    def __init__(self, update: Callable[..., object]):
        """Takes the callback for each change, with the arguments of rich's `Progress.update`."""
        self.update = update

    def advance(self, amount: float = 1) -> None:
        """Moves the bar by `amount` of its total."""
        self.update(advance=amount)

    def to(self, done: float, total: float) -> None:
        """Moves the bar to `done` of `total`."""
        self.update(completed=done, total=total)

    def note(self, text: str) -> None:
        """Shows `text` beside the bar."""
        self.update(note=text)

    def sure_from(self, done: float) -> None:
        """Shows the time left only from `done` of the total on, where the first steps say little about the later."""
        self.update(sure_from=done)


class _TimeLeft(TimeRemainingColumn):
    """The time left, -:--:-- until it can be told."""

    def render(self, task: Task) -> Text:
        known = task.completed >= task.fields["sure_from"] and task.time_remaining is not None
        return super().render(task) if known else Text("-:--:--", style="progress.remaining")


class Display:
    """Prints lines and shows progress bars; bars only on a terminal, where nested ones show below one another."""

    def __init__(self, is_quiet: bool = False) -> None:
        """A quiet one prints and shows nothing."""
        self.console = Console(highlight=False, soft_wrap=True, quiet=is_quiet)
        self._progress: Progress | None = None
        self._said = time.monotonic()

    @property
    def has_bars(self) -> bool:
        """Whether there is a terminal to show bars on."""
        return self.console.is_terminal and not self.console.quiet

    def say(self, text: str) -> None:
        """Prints a line, above any bars."""
        self._said = time.monotonic()
        self.console.print(fitted(redacted(text), self.console), markup=False)

    def heading(self, text: str) -> None:
        """Prints the heading of a part, set apart from the lines before it."""
        if self.has_bars:
            self.console.rule(Text(redacted(text)), align="left")
        else:
            self.say(f"\n{text}")

    def log(self, text: str, after: float) -> None:
        """Prints a line of progress where there are no bars to show it, and no line for `after` seconds."""
        if not self.has_bars and time.monotonic() - self._said >= after:
            # Here too, since a worker's `say` is another one.
            self._said = time.monotonic()
            self.say(text)

    @contextmanager
    def bar(self, description: str, total: float) -> Iterator[Bar]:
        """A progress bar, removed when its block ends."""
        if not self.has_bars:
            yield Bar(lambda **change: None)
            return
        outermost = self._progress is None
        progress = self._progress = self._progress or self._open()
        number = progress.add_task(_indented(description), total=total, note="", sure_from=0)
        task = progress.tasks[-1]

        def update(**change: Any) -> None:
            # By default the last 30 seconds count, in which a long trial may not move the bar at all.
            progress.speed_estimate_period = max(SHORTEST, RECENT * (task.elapsed or 0))
            progress.update(number, **change)

        try:
            yield Bar(update)
        finally:
            progress.remove_task(number)
            if outermost:
                progress.stop()
                self._progress = None

    def _open(self) -> Progress:
        is_wide = self.console.width >= WIDE
        longest_name, bar, times = LONG if is_wide else SHORT
        name = Column(no_wrap=True, overflow="ellipsis", max_width=longest_name)
        # Cut off, so that what is before it keeps its width.
        rest = max(1, self.console.width - longest_name - bar - times)
        note = Column(no_wrap=True, overflow="ellipsis", max_width=rest)
        progress = Progress(
            # Names are not markup.
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(bar_width=bar),
            TextColumn("{task.percentage:>3.0f} %"),
            *([TimeElapsedColumn()] if is_wide else []),
            TextColumn("left"),
            _TimeLeft(),
            TextColumn("{task.fields[note]}", markup=False, table_column=note),
            console=self.console,
            transient=True,
        )
        progress.start()
        return progress


def full_width(table: Table, console: Console) -> int:
    """The width in characters at which no cell of a table is folded."""
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _indented(description: str) -> str:
    """The description on one line, with the spaces before it: a bar below another one is indented."""
    text = description.lstrip(" ")
    return " " * (len(description) - len(text)) + one_line(text)
