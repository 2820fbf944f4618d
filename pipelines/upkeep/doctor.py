"""`study doctor`: checks both stores against each other and against the files, and with `--fix` repairs what can be.

Prints the findings as a table. Before anything is changed both databases are copied.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.drawing.wording import counted
from pipelines.session.context import Stores
from pipelines.upkeep import check_runs, findings
from pipelines.upkeep.check_figures import check_figures
from pipelines.upkeep.check_files import check_files, read_files
from pipelines.upkeep.check_registry import check_registry
from pipelines.upkeep.findings import Facts, Finding
from pipelines.upkeep.relocate import Tables, local
from study.errors import StoreFault, StudyError
from study.home import Home
from study.search.records import Searches
from study.search.storage import storage_failures_explained
from study.system import interruption
from study.system.backups import back_up, damage
from study.system.databases import exists
from study.system.heartbeat import LONGEST_CHECK, HeartbeatMonitor, grace
from study.system.redaction import masked, redacted
from study.tracking.hints import command_at

ROUNDS = 3
"""Maximum number of repeats of a check and its repairs: a repair may uncover another finding."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `study doctor` may do."""

    fix: bool = False
    """Repair what can be repaired."""
    all_hosts: bool = False
    """Count processes that cannot be seen from here as dead, without waiting for a sign of life."""
    backup: bool = True
    """Copy the databases before anything in them is changed."""

    def others(self) -> list[str]:
        """The options of the command besides `--fix`, as they are typed."""
        return ["--all-hosts"] * self.all_hosts + ["--no-backup"] * (not self.backup)


@dataclass
class Result:
    """The findings of an examination."""

    repaired: list[Finding] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)
    """Findings that remain."""


def as_json(result: Result) -> str:
    """The findings as JSON: for each the text, the place, the remedy, and whether it was repaired or can be."""
    findings = [(finding, True) for finding in result.repaired] + [(finding, False) for finding in result.left]
    rows = [
        {
            "what": finding.message,
            "where": finding.where,
            "remedy": finding.remedy,
            "is_repaired": is_repaired,
            "is_repairable": finding.repair is not None,
        }
        for finding, is_repaired in findings
    ]
    return redacted(json.dumps(rows, indent=2))


def require_whole(home: Home, uri: str, storage: str) -> None:
    """Checks, before MLflow or Optuna opens them, that there are databases and that SQLite finds no damage in them.

    Raises:
        StudyError: where there are none, or one is damaged.
    """
    databases = [uri or home.tracking_uri, storage or home.storage_url]
    if not any(exists(url) for url in databases):
        first = command_at(home, databases[0], "tune")
        raise StudyError(f"There is nothing to check in {home.store}: `{first}` makes the first runs.")
    for url in databases:
        if reason := damage(url):
            raise StudyError(
                f"The database {masked(url)} is damaged ({reason}): put a backup in its place (--fix keeps them in "
                f"{home.store}/backup-…), or read what is left with `sqlite3 FILE .recover`."
            )


def examine(context: Stores, options: Options) -> Result:
    """Prints what is wrong, and repairs it with `options.fix`.

    Args:
        context: the stores and the display.
        options: what it may do.

    Raises:
        StudyError: where something is under way that would be repaired, or a database cannot be copied.
    """
    with storage_failures_explained(context.storage):
        # Opening a new database migrates it, and two processes doing that at once crash.
        with context.locked():
            examination = _Examination(context, options)
        examination.watch()
        with context.locked() if options.fix else nullcontext():
            return examination.run()


class _Examination:
    def __init__(self, context: Stores, options: Options):
        self.context, self.options = context, options
        self.searches = Searches(context.storage)
        self.tables = None if context.store.uri.startswith("http") else Tables(context.store.uri)
        self.to_back_up = options.backup
        self.result = Result()
        self.files = 0
        self.dead: set[str] = set()
        self.is_misplaced = False

    def watch(self) -> None:
        """Waits for a sign of life of each process that cannot be seen from here; one that gives none is dead."""
        begun = time.monotonic()
        waiting = findings.signs_from_elsewhere(self._facts())
        # Both stores are read for each look.
        monitor = HeartbeatMonitor(max(LONGEST_CHECK, 3 * (time.monotonic() - begun)))
        if waiting:
            number = counted(len(waiting), "process")
            say = self.context.display.say
            say(f"Looking for signs of life of {number} on other machines, for up to {grace():.0f} s.")
        while waiting:
            now = findings.signs_from_elsewhere(self._facts())
            stopped = {worker for worker, sign in now.items() if monitor.has_stopped(worker, sign)}
            self.dead |= stopped & waiting.keys()
            # One that has changed lives, or has ended.
            silent = {worker for worker, sign in waiting.items() if now.get(worker) == sign}
            waiting = {worker: waiting[worker] for worker in silent - stopped}
            if waiting:
                interruption.sleep(min(1.0, monitor.every))

    def run(self) -> Result:
        self.facts = self._facts()
        if self.options.fix:
            self._require_nothing_under_way()
        self._examine(self._places)
        # With wrong locations every file would seem to be missing.
        self.is_misplaced = bool(self.result.left)
        self._examine(check_runs.check_experiments)
        self._examine(check_runs.check_searches)
        self._examine(self._trials)
        self._examine(check_runs.check_others)
        self._examine(check_runs.check_retrained)
        if not self.is_misplaced:
            self._examine(self._files)
        self._say()
        return self.result

    def _facts(self) -> Facts:
        life = partial(findings.life, dead=self.dead, all_hosts=self.options.all_hosts)
        return findings.read_facts(self.context, self.searches, life)

    def _require_nothing_under_way(self) -> None:
        for work in findings.under_way(self.facts):
            if work.is_known:
                raise StudyError(
                    f"{work.where[0].upper()}{work.where[1:]} is under way (process {work.worker}): --fix does not "
                    "wait for it; stop it, or wait until it has ended."
                )

    def _examine(self, check: Callable[[Facts], Iterator[Finding]]) -> None:
        current = list(check(self.facts))
        for _ in range(ROUNDS if self.options.fix else 0):
            fixable = [finding for finding in current if finding.repair]
            if not fixable:
                break
            self._repair(fixable)
            self.facts = self._facts()
            current = list(check(self.facts))
            self.result.repaired += [finding for finding in fixable if finding not in current]
        self.result.left += current

    def _repair(self, fixable: Sequence[Finding]) -> None:
        repairs = dict.fromkeys(finding.repair for finding in fixable if finding.repair)
        # Before the backup: one who may not repair needs none.
        findings.require_permissions(self.facts, repairs)
        if self.to_back_up:
            self._back_up()
        self.to_back_up = False
        with self.context.display.bar("repairing", len(repairs)) as bar:
            for repair in repairs:
                interruption.check()
                with self._refusal_explained(repair):
                    repair()
                bar.advance()

    @contextmanager
    def _refusal_explained(self, repair: Callable[[], object]) -> Iterator[None]:
        """Where the server refuses a repair, raises the error with the command that grants the permission."""
        try:
            yield
        except StoreFault:
            findings.require_permissions(self.facts, [repair])
            findings.require_permission(self.facts, "EDIT", self.facts.runs)
            raise

    def _back_up(self) -> None:
        folder = self.context.home.store / f"backup-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        databases = {"optuna": self.context.storage}
        if self.tables:
            databases["mlflow"] = self.context.store.uri
        back_up(databases, folder)
        what = "both databases" if self.tables else "Optuna's database (MLflow's is the server's)"
        self.context.display.say(f"Backup of {what}: {folder}")

    def _places(self, facts: Facts) -> Iterator[Finding]:
        root = self.context.store.artifacts_root
        if self.tables and root:
            for old, new in self.tables.moved(root):
                message = f"MLflow looks for these files in {old}, outside this home{_old_folder_warning(old)}."
                yield Finding(message, new, "corrects the location", partial(self.tables.move, old, new))

    def _trials(self, facts: Facts) -> Iterator[Finding]:
        total = sum(len(search.trials) for search in facts.searches)
        with self.context.display.bar("comparing trials", total) as bar:
            yield from check_runs.check_trials(facts, bar)

    def _files(self, facts: Facts) -> Iterator[Finding]:
        runs = [run for run in facts.of_stage("retrain") if run.status != "RUNNING"]
        with self.context.display.bar("checking files", len(runs)) as bar:
            files = [read_files(run, facts.store, bar) for run in runs]
        self.files = sum(len(of_run.listed) for of_run in files)
        yield from check_files(files, facts.store)
        yield from check_registry(facts, files)
        yield from check_figures(facts)

    def _say(self) -> None:
        display, result = self.context.display, self.result
        rows = [(finding, "repaired") for finding in result.repaired] + [(finding, "") for finding in result.left]
        if rows:
            # Not a terminal: wide enough for most rows, and for grep.
            console = (
                display.console if display.console.is_terminal else Console(width=200, quiet=display.console.quiet)
            )
            console.print(_table(rows, fixed=self.options.fix))
        for work in findings.under_way(self.facts):
            state = "is under way" if work.is_known else "is under way on another machine, which gives signs of life"
            display.say(f"{work.where} {state} (process {work.worker}).")
        self._say_skipped()
        display.say(self._summary())

    def _say_skipped(self) -> None:
        if self.tables is None:
            self.context.display.say("Not checked on a server: the locations of files, which only its database has.")
        if self.is_misplaced:
            self.context.display.say("Not checked until the location is corrected: the files and registered models.")

    def _summary(self) -> str:
        facts = self.facts
        checked = (
            f"Checked: {counted(len(facts.searches), 'search')}, "
            f"{counted(sum(len(search.trials) for search in facts.searches), 'trial')}, "
            f"{counted(len(facts.runs), 'run')}, {counted(self.files, 'file')}."
        )
        left, repaired = self.result.left, self.result.repaired
        if not (left or repaired):
            return f"{checked} No problems found."
        if self.options.fix:
            return f"{checked} Repaired: {len(repaired)}; not repaired: {len(left)}."
        fixable = sum(bool(finding.repair) for finding in left)
        command = self.context.search_command("doctor", "--fix", *self.options.others())
        repairs = f"`{command}` repairs {fixable} of them." if fixable else "--fix can repair none of them."
        return f"{checked} {counted(len(left), 'problem')} found; {repairs}"


def _old_folder_warning(place: str) -> str:
    """The end of a message where the old folder still exists."""
    return ", and would write new ones there" if local(place).is_dir() else ""


def _table(rows: Sequence[tuple[Finding, str]], *, fixed: bool) -> Table:
    table = Table(show_lines=True)
    for heading in ("what", "where", "done" if fixed else "--fix"):
        # Folded, since a path that is cut is of no use.
        table.add_column(heading, overflow="fold")
    for finding, done in rows:
        remedy = f"{done}: {finding.remedy}" if done else finding.remedy
        table.add_row(*map(escape, (finding.message, finding.where, remedy)))
    return table
