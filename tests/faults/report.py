"""Summarizes the results of all cases: a table, and how to repeat each failed case."""

import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from tests.faults.cases import CaseResult

COLUMNS = (
    "command",
    "store",
    "cases",
    "SIGKILL",
    "SIGTERM",
    "of a worker",
    "server stops",
    "completed",
    "lost finished trials",
    "disagreements",
    "unequal weights or tables",
    "other failures",
    "repeated trials or epochs",
    "seconds",
)


def table(results: Sequence[CaseResult], command: str) -> str:
    """A Markdown table with a row for each command and store, followed by the command, commit and machine."""
    ordered = sorted(results, key=_place)
    rows = [_row(*place, list(group)) for place, group in groupby(ordered, key=_place)]
    rows.append(_row("all", "", list(results)))
    lines = ["| " + " | ".join(row) + " |" for row in (COLUMNS, ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2), *rows)]
    phases = Counter((result.case.command, kill.phase) for result in results for kill in result.kills)
    counts = ", ".join(f"{command}: {phase} {count}" for (command, phase), count in sorted(phases.items()))
    return "\n".join([*lines, "", f"Kills by phase: {counts}.", "", f"`python {command}`, {_environment()}.", ""])


def _place(result: CaseResult) -> tuple[str, str]:
    return result.case.command, result.case.store


def _row(command: str, store: str, results: list[CaseResult]) -> list[str]:
    kills = [kill for result in results for kill in result.kills]
    broken = [result.broken for result in results]
    counts = [
        len(results),
        sum(kill.signal == "SIGKILL" for kill in kills),
        sum(kill.signal == "SIGTERM" for kill in kills),
        sum(kill.target == "worker" for kill in kills),
        sum(result.server_stops for result in results),
        sum(result.completed for result in results),
        sum(len(violations.lost) for violations in broken),
        sum(len(violations.disagreements) for violations in broken),
        sum(len(violations.unequal) for violations in broken),
        sum(len(violations.other) for violations in broken),
        sum(result.repeated for result in results),
        round(sum(result.seconds for result in results)),
    ]
    return [command, store, *(f"{count:,}" for count in counts)]


def failures(results: Sequence[CaseResult]) -> Iterator[str]:
    """Yields lines about each failed case, with the command that repeats it."""
    for result in results:
        if result.failed:
            yield f'\nFailed: {result.case}; repeat it with: python -m tests.faults --case "{result.case}"'
            yield from (f"  {line}" for line in result.broken.all() or ["it never completed"])
            yield from (f"  after {kill}" for kill in result.kills)


def _environment() -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    lscpu = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    facts = dict(line.split(":", 1) for line in lscpu.splitlines() if ":" in line)
    processor = facts.get("Model name", platform.machine()).strip()
    return f"commit {commit.stdout.strip()}, {facts.get('CPU(s)', '?').strip()} cores of {processor}"
