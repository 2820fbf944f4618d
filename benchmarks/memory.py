"""Peak resident memory of `study tune` and `study analyse`, each run as a process.

python -m benchmarks.memory --dataset IMAGES

One trial and one epoch on all images: memory peaks in the first epoch. The stores are in a temporary home, which shares
the decoded images of the default home. The baseline is a process that only imports the same libraries.

The peak of one process comes from the kernel (`ru_maxrss`). That of several is sampled: the sum of their private pages,
plus the largest amount of shared pages, such as the code of libraries.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import typer

from benchmarks.commands import IMPORTS, STUDY, environment, with_data
from benchmarks.measure import surroundings
from benchmarks.output import JsonOption, conclude, show
from study.device import prepare

MB = 1e6
SAMPLED = 0.5
"""Seconds between two samples of several processes: a sample takes time, and the peak lasts for seconds."""

# A process inherits the peak of its parent: a small launcher starts the measured one.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


@dataclass(frozen=True)
class Peak:
    """Peak memory of a command in bytes: of its largest process, and of all its processes together."""

    largest: float
    together: float


def main(
    dataset: str = "cifar10",
    threads: int = 0,
    device: str = "cpu",
    precision: str = "auto",
    write: JsonOption = None,
) -> None:
    """Run the commands one after the other and show their peaks."""
    machine = prepare(device, precision, threads)
    data = ("--dataset", dataset)
    how = ("--device", device, "--precision", machine.precision, "--threads", str(threads))
    brief = (*data, *how, "--epochs", "1")
    with tempfile.TemporaryDirectory() as folder:
        home = with_data(Path(folder))
        peak_of((STUDY, "data", *data), home)
        peaks = {
            "imports": peak_of(IMPORTS, home),
            "tune": peak_of((STUDY, "tune", *brief, "--trials", "1", "--retrain-epochs", "1"), home),
            "analyse": peak_of((STUDY, "analyse", *data), home),
            "tune_two_workers": peak_of(
                (STUDY, "tune", *brief, "--trials", "2", "--workers", "2", "--no-retrain", "--search", "two"),
                home,
                several=True,
            ),
        }
    rows = [(name, peak.largest / MB, peak.together / MB) for name, peak in peaks.items()]
    show("Peak resident memory, MB", ("command", "largest process", "all processes"), rows)
    figures = {f"{name}_peak_mb": peak.largest / MB for name, peak in peaks.items() if name in ("tune", "analyse")}
    figures["tune_two_workers_peak_mb"] = peaks["tune_two_workers"].together / MB
    figures["imports_mb"] = peaks["imports"].largest / MB
    figures["tune_over_imports"] = figures["tune_peak_mb"] / figures["imports_mb"]
    conclude({**surroundings(machine), "dataset": Path(dataset).name, **figures}, write)


def peak_of(command: Sequence[str], home: Path, *, several: bool = False) -> Peak:
    """Runs `command` and returns its peak memory; shows its output only if it fails.

    `several`: whether to sample the sum over its processes, too.
    """
    together = 0.0
    with tempfile.NamedTemporaryFile("r") as peak, tempfile.TemporaryFile("w+") as output:
        launcher = (sys.executable, "-S", "-E", "-c", LAUNCHER, peak.name, *command)
        with subprocess.Popen(launcher, env=environment(home), stdout=output, stderr=subprocess.STDOUT) as process:
            while several and process.poll() is None:
                together = max(together, _together(psutil.Process(process.pid)))
                time.sleep(SAMPLED)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read()}")
        # Linux counts in KiB, macOS in bytes.
        largest = int(peak.read()) * (1 if sys.platform == "darwin" else 1024)
    return Peak(largest, max(together, largest))


def _together(launcher: psutil.Process) -> float:
    own, shared = 0, [0]
    for process in _descendants(launcher):
        with suppress(psutil.Error):  # the process may have ended
            memory = process.memory_full_info()
            own += memory.uss
            shared.append(memory.rss - memory.uss)
    return own + max(shared)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


if __name__ == "__main__":
    typer.run(main)
