"""The flag, in this process and in processes that signals really kill."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from study.system import interruption

ENDLESS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, also for the tests
for name in sys.argv[2:]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
from study.system import interruption
with interruption.signals_noted():
    if sys.argv[1] == "checks":
        interruption.check()
    print("ready", flush=True)
    while not interruption.requested():
        time.sleep(0.01)
    print("noted", flush=True)
    # In one call of native code that a handler of Python's would have to wait for.
    time.sleep(600)
"""


@pytest.fixture
def noted() -> Iterator[None]:
    """Signals set the flag, as after the first check of a command; those that a shell has ignored here too."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in interruption.SIGNALS}
    with interruption.signals_noted():
        interruption.check()
        yield
    for number, handler in before.items():
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, handler)


def started(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert line(process) == "ready"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.usefixtures("noted")
@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_signal_raises_at_the_next_check_and_only_there(number: int, capfd: pytest.CaptureFixture[str]):
    signal.raise_signal(number)
    assert interruption.requested() == number
    assert capfd.readouterr().err == f"{interruption.STOPPING}\n"
    with pytest.raises(KeyboardInterrupt) as raised:
        interruption.check()
    assert raised.value.args == (number,)


@pytest.mark.usefixtures("noted")
def test_without_a_signal_nothing_is_raised():
    interruption.check()
    interruption.sleep(0)
    assert interruption.requested() == 0


@pytest.mark.usefixtures("noted")
def test_cleaning_up_after_an_interruption_is_not_interrupted():
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        interruption.check()
    interruption.check()
    interruption.sleep(0)
    assert interruption.requested() == signal.SIGTERM


@pytest.mark.usefixtures("noted")
def test_a_signal_that_is_sent_twice_at_once_counts_once():
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)
    assert interruption.requested() == signal.SIGTERM


@pytest.mark.usefixtures("noted")
def test_other_threads_are_left_to_the_main_one():
    raised: list[BaseException] = []

    def checked() -> None:
        try:
            interruption.check()
        except BaseException as error:
            raised.append(error)

    signal.raise_signal(signal.SIGTERM)
    thread = threading.Thread(target=checked)
    thread.start()
    thread.join()
    assert raised == []
    with pytest.raises(KeyboardInterrupt):
        interruption.check()


@pytest.mark.usefixtures("noted")
@pytest.mark.parametrize(
    "waiting",
    [
        lambda: interruption.sleep(3600),
        lambda: interruption.wait(threading.Event(), 3600),
        lambda: interruption.in_thread(threading.Event().wait),
    ],
    ids=["sleep", "wait", "in_thread"],
)
def test_waiting_ends_with_a_signal(waiting):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt):
        waiting()


def test_waiting_ends_with_its_event():
    event = threading.Event()
    assert not interruption.wait(event, 0)
    threading.Timer(0.05, event.set).start()
    assert interruption.wait(event, 3600)


def test_what_runs_in_a_thread_returns_or_raises_here():
    assert interruption.in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        interruption.in_thread(lambda: 1 // 0)


@pytest.mark.usefixtures("noted")
def test_afterwards_signals_do_what_they_did_before():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with interruption.signals_noted():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_no_handler_is_installed():
    before = [signal.getsignal(number) for number in interruption.SIGNALS]
    within: list[object] = []

    def use() -> None:
        with interruption.signals_noted():
            within.extend(signal.getsignal(number) for number in interruption.SIGNALS)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert within == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_before_the_first_check_a_signal_ends_the_process_with_the_signals_code(number: int):
    process = started("imports")
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", f"{interruption.STOPPED}\n")
    assert process.returncode == 128 + number


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGINT"), ("SIGHUP", "SIGTERM")])
def test_a_second_signal_kills_at_once(first: str, second: str):
    process = started("checks")
    process.send_signal(getattr(signal, first))
    assert line(process) == "noted"
    time.sleep(2 * interruption.REPEATED)
    process.send_signal(getattr(signal, second))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -getattr(signal, second)
    assert errors == f"{interruption.STOPPING}\n"


def test_a_signal_that_was_ignored_stays_ignored():
    process = started("checks", "SIGHUP", "SIGINT")
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert line(process) == "noted"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    time.sleep(2 * interruption.REPEATED)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def test_a_worker_notes_the_first_signal_alone(noted: None):
    interruption.note(signal.SIGTERM)
    interruption.note(signal.SIGHUP)
    assert interruption.requested() == signal.SIGTERM
