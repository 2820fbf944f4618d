"""Sets up cases: the stores that they start with, and the expected results of uninterrupted commands."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults import invariants
from tests.faults.cases import Case, CaseResult, CaseRunner, Durations
from tests.faults.commands import BASE, COMMON, Analyse, Command, Progress, Retrain, Tune, analysed
from tests.faults.places import Kind, Place, PostgresKind, ServerKind, SQLiteKind
from tests.faults.victims import start_forked
from tests.support.postgres import programs, running_cluster

STORES = ("SQLite", "PostgreSQL", "server")
TIMEOUT = 900


class Harness:
    """Runs cases; makes what they share when it is first needed."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.stack = folder, stack
        self.durations = Durations()
        self.commands: dict[str, Command] = {
            command.name: command
            for command in (Tune(1, 12), Tune(4, 20), Retrain(self._retrained), Analyse(self._analysed))
        }
        # Held while something shared is made, so that it is made once.
        self._lock, self.opening = threading.RLock(), threading.Lock()
        self._kinds: dict[str, Kind] = {}
        self._bases: dict[str, Place] = {}
        self._weights: dict[tuple[str, int], Path] = {}
        self._tables: dict[str, dict[str, bytes]] = {}

    def kind(self, store: str) -> Kind:
        """The kind of store, started where needed."""
        with self.opening:
            if store not in self._kinds:
                self._kinds[store] = self._open(store)
            return self._kinds[store]

    def _open(self, store: str) -> Kind:
        if store == "SQLite":
            return SQLiteKind(self.folder / "sqlite")
        if store == "PostgreSQL":
            return PostgresKind(self.stack.enter_context(running_cluster()))
        server = ServerKind(self.folder / store)
        self.stack.callback(server.stop)
        return server

    def base(self, store: str) -> Place:
        """A place with both models searched and retrained; read-only."""
        with self._lock:
            if store not in self._bases:
                place = self.kind(store).place(self.folder / f"base-{store}")
                for arguments in BASE:
                    self._run((*arguments, "--threads", "1", *COMMON, *place.stores), place.home)
                self._bases[store] = place
            return self._bases[store]

    def _run(self, arguments: tuple[str, ...], home: Path) -> None:
        """Runs a command, uninterrupted."""
        with self._lock:
            victim = start_forked(arguments, home, home / "log")
            if not victim.ended(TIMEOUT) or victim.code:
                raise RuntimeError(f"study {' '.join(arguments)}: exit code {victim.code}: {victim.output()}")

    def _retrained(self, model: str, seed: int) -> Path:
        with self._lock:
            if (model, seed) not in self._weights:
                command, base = self.commands["retrain"], self.base("SQLite")
                assert isinstance(command, Retrain)
                place = self.kind("SQLite").place(self.folder / f"retrained-{model}-{seed}", base)
                self._run(command.base_arguments(model, seed), place.home)
                [run] = invariants.runs_of(place, stage="retrain", model=model, seed=str(seed))
                self._weights[model, seed] = run.artifacts
            return self._weights[model, seed]

    def _analysed(self, store: str) -> dict[str, bytes]:
        with self._lock:
            if store not in self._tables:
                place = self.kind(store).place(self.folder / f"analysed-{store}", self.base(store))
                self._run(self.commands["analyse"].arguments(Progress(place, store, 0, 0)), place.home)
                [run] = analysed(place)
                self._tables[store] = invariants.tables_of(run.artifacts / "report")
                assert self._tables[store]
            return self._tables[store]

    def run(self, case: Case) -> CaseResult:
        """Runs a case to its end."""
        command = self.commands[case.command]
        if isinstance(command, Tune):
            # Searches have their own server: their trials would change what `best` selects in the other cases.
            kind, base = self.kind("server-of-searches" if case.store == "server" else case.store), None
        else:
            kind, base = self.kind(case.store), self.base(case.store)
        if isinstance(command, Analyse):
            assert base
            # Before the removal below: on a server, it writes its report to the same run as the case.
            command.expected(case.store)
            if isinstance(kind, ServerKind):
                shutil.rmtree(analysed(base)[0].artifacts / "report")
        runner = CaseRunner(self.folder / "cases", self.durations)
        runner.folder.mkdir(exist_ok=True)
        doctor = None if isinstance(kind, ServerKind) else _doctor
        return runner.run(case, command, kind, base, doctor)


def _doctor(progress: Progress) -> list[str]:
    place = progress.place
    victim = start_forked(("doctor", *place.stores), place.home, place.home / "log")
    if not victim.ended(TIMEOUT):
        return ["study doctor hangs"]
    return [f"study doctor: {victim.output()[-1500:]}"] if victim.code else []


@contextmanager
def open_harness(folder: Path) -> Iterator[Harness]:
    """A harness with its files in `folder`; stops everything that it started after the block."""
    with ExitStack() as stack:
        harness = Harness(folder, stack)
        try:
            yield harness
        finally:
            # From now on, nothing is opened that would not be closed.
            harness.opening.acquire()


def stores_here() -> tuple[str, ...]:
    """The kinds of store that this machine can run."""
    return STORES if programs() else tuple(store for store in STORES if store != "PostgreSQL")
