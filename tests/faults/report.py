"""What came of all cases, as a table, and how each that failed is repeated."""

import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from tests.faults.cases import Result

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


def table(results: Sequence[Result], command: str) -> str:
    """The table as Markdown, a row for each command and store, with what it was made with."""
    by = sorted(results, key=_place)
    rows = [_row(*place, list(some)) for place, some in groupby(by, key=_place)]
    rows.append(_row("all", "", list(results)))
    lines = ["| " + " | ".join(row) + " |" for row in (COLUMNS, ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2), *rows)]
    phases = Counter((result.case.command, kill.phase) for result in results for kill in result.kills)
    fallen = ", ".join(f"{command}: {phase} {count}" for (command, phase), count in sorted(phases.items()))
    return "\n".join([*lines, "", f"Kills by phase: {fallen}.", "", f"`python {command}`, {_made_with()}.", ""])


def _place(result: Result) -> tuple[str, str]:
    return result.case.command, result.case.store


def _row(command: str, store: str, results: list[Result]) -> list[str]:
    kills = [kill for result in results for kill in result.kills]
    broken = [result.broken for result in results]
    counts = [
        len(results),
        sum(kill.signal == "SIGKILL" for kill in kills),
        sum(kill.signal == "SIGTERM" for kill in kills),
        sum(kill.target == "worker" for kill in kills),
        sum(result.server_stops for result in results),
        sum(result.completed for result in results),
        sum(len(one.lost) for one in broken),
        sum(len(one.disagreements) for one in broken),
        sum(len(one.unequal) for one in broken),
        sum(len(one.other) for one in broken),
        sum(result.repeated for result in results),
        round(sum(result.seconds for result in results)),
    ]
    return [command, store, *(f"{count:,}" for count in counts)]


def failures(results: Sequence[Result]) -> Iterator[str]:
    """What failed, and how it is repeated."""
    for result in results:
        if result.failed:
            yield f'\nFailed: {result.case}; repeat it with: python -m tests.faults --case "{result.case}"'
            yield from (f"  {line}" for line in result.broken.all() or ["it never completed"])
            yield from (f"  after {kill}" for kill in result.kills)


def _made_with() -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    found = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    facts = dict(line.split(":", 1) for line in found.splitlines() if ":" in line)
    processor = facts.get("Model name", platform.machine()).strip()
    return f"commit {commit.stdout.strip()}, {facts.get('CPU(s)', '?').strip()} cores of {processor}"
