"""Runs one case: stops a command repeatedly until it has completed, then checks the invariants."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults import invariants
from tests.faults.commands import Command, Progress
from tests.faults.invariants import Broken
from tests.faults.places import Kind, ServerKind
from tests.faults.victims import GLANCE, Victim, start_cold, start_forked

TIMEOUT = 600
"""Seconds after which a command, also one that was sent a signal, counts as hanging."""
MAX_STARTS = 14
STOPPED = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}
"""Exit codes of commands that were sent a signal."""
AT_RANDOM = "at random"


@dataclass(frozen=True)
class Case:
    """The command to stop, its kind of store, and the seed of the moments and signals."""

    command: str
    store: str
    seed: int
    kills: int

    def __str__(self) -> str:
        return f"{self.command}/{self.store}/{self.seed}"


@dataclass(frozen=True)
class Kill:
    """A signal that was sent, and when."""

    signal: str
    target: str
    moment: str
    phase: str
    seconds: float
    """Seconds since the start of the command."""


@dataclass
class CaseResult:
    """The outcome of a case."""

    case: Case
    kills: list[Kill] = field(default_factory=list)
    server_stops: int = 0
    starts: int = 0
    completed: bool = False
    repeated: int = 0
    seconds: float = 0
    broken: Broken = field(default_factory=Broken)

    @property
    def failed(self) -> bool:
        return not self.completed or bool(self.broken.all())


@dataclass
class Durations:
    """Estimated durations of commands, updated as they run; random moments are spread over them."""

    guesses: dict[tuple[str, str, bool], float] = field(default_factory=dict)

    def of(self, command: str, store: str, cold: bool) -> float:
        """Estimated seconds from the start to the end."""
        return self.guesses.get((command, store, cold), 15.0 if cold else 8.0)

    def learn(self, seconds: float, is_whole: bool, command: str, store: str, cold: bool) -> None:
        """Updates the estimate with a whole run of `seconds`, or with one that had not ended by then."""
        guess = self.of(command, store, cold)
        self.guesses[command, store, cold] = (guess + seconds) / 2 if is_whole else max(guess, 1.3 * seconds)


class CaseRunner:
    """Runs cases, one at a time."""

    def __init__(self, folder: Path, durations: Durations):
        self.folder, self.durations = folder, durations

    def run(
        self, case: Case, command: Command, kind: Kind, base: Any, doctor: Callable[[Progress], list[str]] | None
    ) -> CaseResult:
        """Runs a case to its end; keeps its files and databases where something is broken.

        Args:
            case: the case.
            command: the command to stop.
            kind: the kind of its stores.
            base: the place that it starts with a copy of; None for an empty one.
            doctor: returns the findings of `study doctor` at the end.
        """
        home = self.folder / str(case).replace("/", "-").replace(", ", "-").replace(" ", "-")
        progress = Progress(kind.place(home, base), case.store, case.seed, time.time_ns() // 1_000_000)
        result, begun = CaseResult(case), time.monotonic()
        attempts = _Attempts(self, case, command, kind, progress, result)
        while not result.completed and result.starts < MAX_STARTS:
            attempts.start()
        if result.completed:
            command.check(progress, result.broken, len(result.kills))
            invariants.check_ended(progress.place, progress.since, result.broken)
            if doctor and not result.broken.all():
                result.broken.other += doctor(progress)
        result.repeated, result.seconds = progress.repeated, time.monotonic() - begun
        if not result.failed:
            kind.clear(progress.place)
        return result


class _Attempts:
    """The starts of one case."""

    def __init__(
        self, runner: CaseRunner, case: Case, command: Command, kind: Kind, progress: Progress, result: CaseResult
    ):
        self.runner, self.case, self.command, self.kind = runner, case, command, kind
        self.progress, self.result = progress, result
        self.chance = random.Random(str(case))
        self.log = progress.place.home / "log"
        self.server_stopped = False
        self.victims: list[Victim] = []

    def start(self) -> None:
        """Starts the command once, and stops it or lets it complete."""
        self.result.starts += 1
        cold = self.chance.random() < 0.2
        self.progress.started = time.time()
        starting = start_cold if cold else start_forked
        victim = starting(self.command.arguments(self.progress), self.progress.place.home, self.log)
        self.victims.append(victim)
        self.server_stopped, was_signalled = False, False
        while not was_signalled and self._may_stop() and self._wait(victim, cold):
            was_signalled = self._stop(victim)
        if not victim.ended(TIMEOUT):
            self.result.broken.other.append(f"it hangs: {victim.output()[-500:]}")
            victim.clear()
        self._record_end(victim, was_signalled, cold)
        self.command.look(self.progress)

    def _may_stop(self) -> bool:
        kills = self.result.kills
        # A command killed in its last phase has nothing left to interrupt.
        has_more = not kills or kills[-1].phase != "end"
        return has_more and len(kills) + self.result.server_stops < self.case.kills

    def _wait(self, victim: Victim, cold: bool) -> bool:
        """Waits for a randomly chosen moment; returns whether the victim still runs then."""
        moments = self.command.moments()
        # The last moment is the end, with nothing left to interrupt: not among the first two kills.
        names = [AT_RANDOM] * 3 + [*moments][: None if len(self.result.kills) > 1 else -1]
        latest = 1.15 if len(self.result.kills) > 1 else 0.7
        self.moment, fraction = self.chance.choice(names), self.chance.uniform(0, latest)
        what = (self.command.name, self.kind.name, cold)
        whole = self.runner.durations.of(*what)
        if self.moment == AT_RANDOM:
            while time.monotonic() < victim.begun + fraction * whole:
                if victim.ended(GLANCE):
                    return False
            if fraction > 1:
                self.runner.durations.learn(time.monotonic() - victim.begun, False, *what)
        else:
            has_come = moments[self.moment]
            while not has_come(self.progress, victim.output()):
                if victim.ended(5 * GLANCE):
                    return False
            # A short random delay, to stop in whatever comes next.
            victim.ended(self.chance.expovariate(1 / 0.1))
        return not victim.ended()

    def _stop(self, victim: Victim) -> bool:
        """Sends a random signal to a random target; returns whether the command itself should end."""
        number = self.chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM))
        workers = victim.workers()
        targets = ["process", "group"] + ["worker"] * 2 * bool(workers)
        if isinstance(self.kind, ServerKind):
            targets += ["server"] * 2
        target = self.chance.choice(targets)
        if target == "server":
            self._stop_server(number)
            return False
        phase = self.command.phase(self.progress, victim.output())
        kill = Kill(number.name, target, self.moment, phase, round(time.monotonic() - victim.begun, 2))
        if target == "worker":
            try:
                self.chance.choice(workers).send_signal(number)
            except psutil.NoSuchProcess:
                # It ended meanwhile: nothing was killed.
                return False
        else:
            victim.stop(number, target == "group")
        self.result.kills.append(kill)
        return target != "worker"

    def _stop_server(self, number: int) -> None:
        assert isinstance(self.kind, ServerKind)
        self.result.server_stops += 1
        self.server_stopped = True
        self.kind.stop(number)
        time.sleep(self.chance.uniform(0, 5))
        self.kind.start()

    def _record_end(self, victim: Victim, was_signalled: bool, cold: bool) -> None:
        output, code = victim.output(), victim.code
        self.progress.outputs.append(output)
        if "Traceback" in output:
            self.result.broken.other.append(f"a traceback: {output[output.index('Traceback') :][-1500:]}")
        if code == 0:
            # It may have completed before the signal.
            self.result.completed = True
            if self.result.starts == 1:
                what = (self.command.name, self.kind.name, cold)
                self.runner.durations.learn(time.monotonic() - victim.begun, True, *what)
        elif not (was_signalled and code in STOPPED) and not (self.server_stopped and code in (1, 2)):
            killed = sum(kill.target == "worker" for kill in self.result.kills)
            if not (code == 2 and killed > 3):
                self.result.broken.other.append(f"exit code {code}: {output[-500:]}")
        # Half of the starts meet processes that the last one left.
        if self.result.completed or self.chance.random() < 0.5:
            self._wait_for_all()

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + TIMEOUT / 5
        for victim in self.victims:
            while (left := victim.session()) and time.monotonic() < deadline:
                time.sleep(0.1)
            if left:
                self.result.broken.other.append(f"processes are left: {[process.cmdline() for process in left]}")
                victim.clear()
        self.victims.clear()
