"""One case: a command that is stopped again and again until it has completed, and what is then to be seen."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import invariants
from tests.faults.commands import Command, Progress
from tests.faults.invariants import Broken
from tests.faults.places import Kind, ServerKind
from tests.faults.victims import GLANCE, Victim, start_cold, start_forked

TIMEOUT = 600
"""Seconds after which a command hangs, and after which one that was told to stop does."""
MAX_STARTS = 14
STOPPED = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}
"""Exit codes of what was told to stop."""
AT_RANDOM = "at random"


@dataclass(frozen=True)
class Case:
    """What is stopped, where, and the seed of when and how."""

    command: str
    store: str
    seed: int
    kills: int

    def __str__(self) -> str:
        return f"{self.command}/{self.store}/{self.seed}"


@dataclass(frozen=True)
class Kill:
    """A signal, and when it came."""

    signal: str
    target: str
    moment: str
    phase: str
    seconds: float
    """Since the command was started."""


@dataclass
class Result:
    """What came of a case."""

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
    """How long commands take, so that random moments are spread over all of it; learned as they run."""

    guesses: dict[tuple[str, str, bool], float] = field(default_factory=dict)

    def of(self, command: str, store: str, cold: bool) -> float:
        """Seconds from the start to the end."""
        return self.guesses.get((command, store, cold), 15.0 if cold else 8.0)

    def learn(self, seconds: float, is_whole: bool, command: str, store: str, cold: bool) -> None:
        """Takes how long one took, or (not `is_whole`) that it had not ended by then."""
        guess = self.of(command, store, cold)
        self.guesses[command, store, cold] = (guess + seconds) / 2 if is_whole else max(guess, 1.3 * seconds)


class CaseRunner:
    """Runs cases, one at a time."""

    def __init__(self, folder: Path, durations: Durations):
        self.folder, self.durations = folder, durations

    def run(
        self, case: Case, command: Command, kind: Kind, base: Any, doctor: Callable[[Progress], list[str]] | None
    ) -> Result:
        """Runs the case to its end; what it left is kept where something is broken.

        Args:
            case: what is done.
            command: what is stopped.
            kind: where it keeps its study.
            base: the place that it begins with; None for an empty one.
            doctor: what `study doctor` finds in the end.
        """
        home = self.folder / str(case).replace("/", "-").replace(", ", "-").replace(" ", "-")
        progress = Progress(kind.place(home, base), case.store, case.seed, time.time_ns() // 1_000_000)
        result, begun = Result(case), time.monotonic()
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
        self, runner: CaseRunner, case: Case, command: Command, kind: Kind, progress: Progress, result: Result
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
        self.server_stopped, told = False, False
        while not told and self._may_stop() and self._wait(victim, cold):
            told = self._stop(victim)
        if not victim.ended(TIMEOUT):
            self.result.broken.other.append(f"it hangs: {victim.said()[-500:]}")
            victim.clear()
        self._note_end(victim, told, cold)
        self.command.look(self.progress)

    def _may_stop(self) -> bool:
        kills = self.result.kills
        # What had all but ended has nothing more to be interrupted.
        has_more = not kills or kills[-1].phase != "end"
        return has_more and len(kills) + self.result.server_stops < self.case.kills

    def _wait(self, victim: Victim, cold: bool) -> bool:
        """Waits for a moment that chance chooses; whether the victim lives to see it."""
        named = [*self.command.moments()]
        # The last is the end, after which there is nothing more to be interrupted.
        names = [AT_RANDOM] * 3 + named[: None if len(self.result.kills) > 1 else -1]
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
            come = self.command.moments()[self.moment]
            while not come(self.progress, victim.said()):
                if victim.ended(5 * GLANCE):
                    return False
            # From right then to a little later, whatever comes next.
            victim.ended(self.chance.expovariate(1 / 0.1))
        return not victim.ended()

    def _stop(self, victim: Victim) -> bool:
        """Sends what chance chooses to what it chooses; whether the command itself is to end of it."""
        number = self.chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM))
        workers = victim.workers()
        targets = ["process", "group"] + ["worker"] * 2 * bool(workers)
        if isinstance(self.kind, ServerKind):
            targets += ["server"] * 2
        target = self.chance.choice(targets)
        if target == "server":
            self._stop_server(number)
            return False
        phase = self.command.phase(self.progress, victim.said())
        kill = Kill(number.name, target, self.moment, phase, round(time.monotonic() - victim.begun, 2))
        if target == "worker":
            self.chance.choice(workers).send_signal(number)
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

    def _note_end(self, victim: Victim, told: bool, cold: bool) -> None:
        said, code = victim.said(), victim.code
        self.progress.said.append(said)
        if "Traceback" in said:
            self.result.broken.other.append(f"a traceback: {said[said.index('Traceback') :][-1500:]}")
        if code == 0:
            # What was told to stop too late has completed.
            self.result.completed = True
            if self.result.starts == 1:
                what = (self.command.name, self.kind.name, cold)
                self.runner.durations.learn(time.monotonic() - victim.begun, True, *what)
        elif not (told and code in STOPPED) and not (self.server_stopped and code in (1, 2)):
            killed = sum(kill.target == "worker" for kill in self.result.kills)
            if not (code == 2 and killed > 3):
                self.result.broken.other.append(f"exit code {code}: {said[-500:]}")
        # Every other time the next start meets what the last one left.
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
