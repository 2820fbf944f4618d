"""Trainings that take turns: several at a time in one process, while a cluster's nodes compute."""

from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import TypeVar

from study.config import MAX_RETRIES
from study.errors import Lost, StudyError

T = TypeVar("T")


def take_turns(
    trainings: Iterable[Generator[None, None, T]], places: int, on_end: Callable[[], None] = lambda: None
) -> list[T]:
    """Advances up to `places` trainings in turns, and returns what each returned, in their order.

    After each `on_end` is called. Where one raises an exception, the others are interrupted, and it passes.
    """
    waiting = iter(enumerate(trainings))
    under_way = dict(islice(waiting, places))
    results: dict[int, T] = {}
    try:
        while under_way:
            for number, training in tuple(under_way.items()):
                try:
                    next(training)
                except StopIteration as end:
                    results[number] = end.value
                    del under_way[number]
                    on_end()
                    under_way.update(islice(waiting, 1))
    except BaseException:
        _interrupt(under_way.values())
        raise
    return [results[number] for number in sorted(results)]


def _interrupt(trainings: Iterable[Generator[None, None, T]]) -> None:
    for training in trainings:
        try:
            # Not closed: their runs are to be recorded as interrupted. The one that failed has ended.
            training.throw(KeyboardInterrupt())
        except BaseException:
            continue


def retried(
    begin: Callable[[], Generator[None, None, T]], name: str, say: Callable[[str], None]
) -> Generator[None, None, T]:
    """The training that `begin` starts, and starts again where its worker was lost.

    Args:
        begin: starts the training, or continues it.
        name: what it is called when its loss is told.
        say: called with a sentence about a loss.

    Raises:
        StudyError: where it was lost `MAX_RETRIES` times and once more.
    """
    failures = 0
    while True:
        try:
            return (yield from begin())
        except Lost as end:
            failures += end.is_failure
            if failures > MAX_RETRIES:
                raise StudyError(f"{name} was lost {failures} times, the last time since {end}.") from None
            say(f"{name}: {end}; it is trained again.")
