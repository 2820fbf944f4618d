"""`make faults`: kills real `study` processes until each has completed, and says what did not hold.

Results are kept case by case in reports/faults.jsonl: the same command goes on where it was stopped. The table goes to
reports/faults.md as well. Exit code 1 where anything failed; each failure says how that one case is repeated.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil

from tests.faults.cases import Case, CaseResult, Kill
from tests.faults.harness import STORES, Harness, open_harness, stores_here
from tests.faults.invariants import Broken
from tests.faults.report import failures, table
from tests.support.fork_server import ROOT

COMMANDS = ("tune, 1 worker", "retrain", "tune, 4 workers", "analyse")
KILLS = 7
"""Maximum number of kills in a case, after which it is left to complete."""


def main() -> int:
    """Runs cases until the number of kills is reached."""
    options = _parse_options()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        options.file.unlink(missing_ok=True)
    results = _load_results(options.file)
    if results and not options.case:
        print(f"{len(results)} cases are in {options.file} already; --fresh starts over.")
    # A short path, since the paths of Unix sockets are limited.
    folder = Path(tempfile.mkdtemp(prefix="study-faults-"))
    before = len(results)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with open_harness(folder) as harness:
            _run_all(options, harness, results)
    finally:
        if any(result.failed for result in results[before:]):
            print(f"What failed was left in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    text = table(results, " ".join(sys.orig_argv[1:]))
    options.file.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    for line in failures(results):
        print(line)
    return 1 if any(result.failed for result in results) else 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many there are to be, with those kept")
    parser.add_argument("--seed", type=int, default=0, help="the first of the cases' seeds")
    parser.add_argument("--only", default="", help=f"commands or stores, split by semicolons: {COMMANDS}, {STORES}")
    parser.add_argument("--case", default="", help="one case, e.g. 'retrain/SQLite/3'")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="cases at a time")
    parser.add_argument("--fresh", action="store_true", help="forget what was kept")
    parser.add_argument("--file", type=Path, default=ROOT / "reports" / "faults.jsonl", help="where results are kept")
    return parser.parse_args()


def _load_results(file: Path) -> list[CaseResult]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [_result(**json.loads(line)) for line in lines]


def _result(case: dict, kills: list[dict], broken: dict, **rest: object) -> CaseResult:
    return CaseResult(Case(**case), kills=[Kill(**kill) for kill in kills], broken=Broken(**broken), **rest)  # type: ignore


def _cases(options: argparse.Namespace, done: set[str]) -> Iterator[Case]:
    if options.case:
        command, store, seed = options.case.split("/")
        yield Case(command, store, int(seed), KILLS)
        return
    chosen = {name.strip() for name in options.only.split(";") if name.strip()}
    stores = [store for store in stores_here() if not chosen & set(STORES) or store in chosen]
    commands = [command for command in COMMANDS if not chosen & set(COMMANDS) or command in chosen]
    for seed in itertools.count(options.seed):
        for command, store in itertools.product(commands, stores):
            case = Case(command, store, seed, KILLS)
            if str(case) not in done:
                yield case


def _run_all(options: argparse.Namespace, harness: Harness, results: list[CaseResult]) -> None:
    cases = _cases(options, {str(result.case) for result in results})
    lock, server, closing = threading.Lock(), threading.Lock(), threading.Event()

    def is_enough() -> bool:
        return not options.case and sum(len(result.kills) for result in results) >= options.kills

    def work() -> None:
        while True:
            with lock:
                case = None if is_enough() else next(cases, None)
            if case is None:
                return
            # One case at a time stops the server.
            with server if case.store == "server" else contextlib.nullcontext():
                result = _run(case, harness)
            with lock:
                # An interrupted case has no result.
                if not closing.is_set():
                    _save(result, results, options.file)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(1 if options.case else options.at_once)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        closing.set()
        # After an interruption: the victims, the fork server and the tracking server.
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for thread in threads:
            thread.join(5)


def _run(case: Case, harness: Harness) -> CaseResult:
    try:
        return harness.run(case)
    except Exception:
        # An error in one case does not end the others.
        return CaseResult(case, broken=Broken(other=[traceback.format_exc()]))


def _save(result: CaseResult, results: list[CaseResult], file: Path) -> None:
    results.append(result)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(result)) + "\n")
    kills = ", ".join(f"{kill.signal} {kill.target} in {kill.phase}" for kill in result.kills)
    state = "FAILED" if result.failed else "held"
    total = sum(len(other.kills) for other in results)
    print(f"{result.case}: {state} after {len(result.kills)} kills ({kills}), {result.seconds:.0f} s; {total} in all")
    for line in failures([result]):
        print(line)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
