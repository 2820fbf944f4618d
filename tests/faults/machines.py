"""Three machines on one search, and what can happen to them: trials and runs are exact, and nobody repairs anything.

`python -m tests.faults.machines` starts `study tune` on three machines (homes, host names and boot ids of their own),
on one PostgreSQL server and one MLflow server, at the same second and on empty databases. One machine is killed, one
is frozen for longer than the grace period of its heartbeats and woken, one is cut off from the database; PostgreSQL and
the MLflow server are restarted. It prints what happened, and what is wrong afterwards (nothing).
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

from tests.faults import invariants
from tests.faults.invariants import Broken
from tests.faults.places import Place
from tests.faults.victims import Victim, surroundings
from tests.support.fork_server import fork_server
from tests.support.postgres import Cluster, running_cluster
from tests.support.proxy import Line
from tests.support.server import Server

SEARCH = "machines"
HEARTBEAT = 2.0
"""Seconds; the grace period is five times as long."""
TIMEOUT = 900
RUNNING_ON = """
    SELECT number, state FROM trials JOIN studies USING (study_id) JOIN trial_user_attributes USING (trial_id)
    WHERE study_name = :search AND key = 'worker' AND value_json LIKE :worker AND state = 'RUNNING'
    AND trial_id IN (SELECT trial_id FROM trial_user_attributes WHERE key = 'mlflow_run')
"""
"""The trials that a machine trains: they have a run."""
STATES = "SELECT number, state FROM trials JOIN studies USING (study_id) WHERE study_name = :search"
TABLES = "SELECT table_name FROM information_schema.tables"


@dataclass
class Machine:
    """A machine on which `study tune` runs."""

    name: str
    folder: Path
    storage: str
    server: str
    started: list[Victim] = field(default_factory=list)

    def start(self, *arguments: str) -> Victim:
        """Starts a command on the machine."""
        boot, log = self.folder / "boot_id", self.folder / "log"
        if not boot.exists():
            self.folder.mkdir()
            boot.write_text(f"{uuid4()}\n")
        stores = ("--tracking-uri", self.server, "--storage", self.storage)
        variables = {"STUDY_TEST_MACHINE": str(boot), "STUDY_HEARTBEAT": str(HEARTBEAT)}
        with log.open("ab") as written, Path(os.devnull).open("rb") as nothing:
            streams = (nothing.fileno(), written.fileno(), written.fileno())
            environment = surroundings(self.folder) | variables
            self.started.append(Victim(fork_server().start((*arguments, *stores), environment, streams), log))
        return self.started[-1]

    def send(self, number: int) -> None:
        """Sends a signal to all processes of its last command."""
        self.started[-1].stop(number, whole=True)


class Scenario:
    """The machines, their stores, and what happens to them."""

    def __init__(self, folder: Path, cluster: Cluster, stack: ExitStack, say: Callable[[str], object] = print):
        self.cluster, self.say = cluster, say
        tracking, storage = cluster.new(), cluster.new()
        (folder / "server").mkdir(parents=True)
        self.server = Server(folder / "server", tracking)
        stack.callback(self.server.stop)
        self.server.start()
        self.place = Place(
            folder, tracking, storage, ("--tracking-uri", self.server.address), folder / "server" / "kept"
        )
        self.line = Line(cluster.port)
        stack.callback(self.line.close)
        self.killed, self.frozen, self.cut = self.machines = [
            Machine(name, folder / name, url, self.server.address)
            for name, url in (
                ("killed", storage),
                ("frozen", storage),
                ("cut", storage.replace(f":{cluster.port}/", f":{self.line.port}/")),
            )
        ]
        stack.callback(self._clear)

    def _clear(self) -> None:
        for machine in self.machines:
            for victim in machine.started:
                victim.clear()
                victim.ended(TIMEOUT)

    def finished(self) -> int:
        """How many trials are finished."""
        tables = invariants.read(self.place.storage, TABLES)
        if "trials" not in set(tables["table_name"]):
            return 0
        states = invariants.read(self.place.storage, STATES, search=SEARCH)["state"]
        return int(states.isin(invariants.COUNTED).sum())

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        """Waits until the condition holds.

        Raises:
            RuntimeError: where it does not, or a machine fails meanwhile.
        """
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            for machine in (self.frozen, self.cut):
                if machine.started[-1].ended() and machine.started[-1].code:
                    raise RuntimeError(f"{machine.name} failed: {machine.started[-1].output()[-3000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not come")
            time.sleep(0.2)

    def trial_on(self, machine: Machine) -> list[int]:
        """The trial that the machine works on."""
        table = invariants.read(self.place.storage, RUNNING_ON, search=SEARCH, worker=f'"{machine.name} %')
        return [int(number) for number in table["number"]]

    def stop_in_a_trial(self, machine: Machine) -> int:
        """Stops all processes of the machine in the middle of a trial, whose number it returns."""
        while True:
            self.wait_for(f"a trial on {machine.name}", partial(self.trial_on, machine))
            machine.send(signal.SIGSTOP)
            time.sleep(0.5)
            if trials := self.trial_on(machine):
                return trials[0]
            machine.send(signal.SIGCONT)

    def is_taken_over(self, number: int) -> bool:
        """Whether the trial and its run were ended, and its parameters are tried again."""
        trials = invariants.trials_of(self.place, SEARCH)
        runs = invariants.runs_of(self.place, stage="trial", search=SEARCH, optuna_trial=str(number))
        retries = [trial for trial in trials if trial.attributes.get("retry_of") == number]
        ended = {trial.number: trial.state for trial in trials}.get(number)
        return ended == "FAIL" and [run.status for run in runs] == ["KILLED"] and bool(retries)

    def run(self, trials: int, *, away: float, cut: float) -> list[str]:
        """Runs the search to its end; returns what is wrong.

        Args:
            trials: the total.
            away: seconds for which PostgreSQL, and then the MLflow server, is stopped.
            cut: seconds for which a machine is cut off.
        """
        settings = ("--dataset", "digits", "--model", "ffnn", "--epochs", "4", "--threads", "1", "--no-retrain")
        for machine in self.machines:
            machine.start("tune", *settings, "--search", SEARCH, "--trials", str(trials))
        self.wait_for("the first trials", lambda: self.finished() >= 3)
        dead, stalled = self.stop_in_a_trial(self.killed), self.stop_in_a_trial(self.frozen)
        self.killed.send(signal.SIGKILL)
        self.say(f"trial {dead} killed, trial {stalled} frozen after {self.finished()} finished trials")
        self.wait_for("the takeover", lambda: self.is_taken_over(dead) and self.is_taken_over(stalled))
        self.say(f"both taken over after {self.finished()}")
        self.frozen.send(signal.SIGCONT)
        self.cluster.control("stop", "-m", "fast")
        time.sleep(away)
        self.cluster.control("start")
        self.say(f"PostgreSQL was restarted after {self.finished()}")
        self.server.stop()
        time.sleep(away)
        self.server.start()
        self.say(f"the MLflow server was restarted after {self.finished()}")
        self.line.cut()
        time.sleep(cut)
        self.line.mend()
        self.say(f"a machine was cut off until after {self.finished()}")
        return self._wrong(trials)

    def _wrong(self, trials: int) -> list[str]:
        broken = Broken()
        for machine in (self.frozen, self.cut):
            victim = machine.started[-1]
            if not victim.ended(TIMEOUT):
                broken.other.append(f"{machine.name} hangs: {victim.output()[-2000:]}")
            elif victim.code or "Traceback" in victim.output():
                broken.other.append(f"{machine.name} ended with {victim.code}: {victim.output()[-3000:]}")
        retried = invariants.check_search(self.place, SEARCH, trials, {}, broken)
        invariants.check_ended(self.place, 0, broken)
        self.say(f"{retried} trials were retries")
        doctor = self.cut.start("doctor")
        if not doctor.ended(TIMEOUT) or doctor.code:
            broken.other.append(f"study doctor ended with {doctor.code}: {doctor.output()[-3000:]}")
        return broken.all()


def main() -> int:
    """Runs the scenario; returns 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.machines", description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--away", type=float, default=6)
    parser.add_argument("--cut", type=float, default=20)
    options = parser.parse_args()
    begun = time.monotonic()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="study-machines-"))
        cluster = stack.enter_context(running_cluster(durable=True))
        scenario = Scenario(Path(folder), cluster, stack, partial(print, flush=True))
        wrong = scenario.run(options.trials, away=options.away, cut=options.cut)
    print(
        f"{options.trials} trials on three machines in {time.monotonic() - begun:.0f} s: {len(wrong)} things are wrong."
    )
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
