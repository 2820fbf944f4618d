"""The commands to interrupt: their arguments, phases, moments worth a kill, and required results."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import invariants
from tests.faults.invariants import Broken, Trial
from tests.faults.places import Place

COMMON = ("--precision", "float32")
BASE = tuple(
    ("tune", "--dataset", "digits", "--model", model, "--trials", "2", "--epochs", "1", "--retrain-epochs", "1")
    for model in ("ffnn", "cnn")
)
"""Commands that make the study which retrainings and analyses start with."""
EPOCHS = {"ffnn": 16, "cnn": 5}
"""Epochs of a retraining, by model."""


@dataclass
class Progress:
    """State of a case, updated after each start of its command."""

    place: Place
    store: str
    """The kind of store."""
    seed: int
    since: int
    """Start of the case, in milliseconds since 1970."""
    started: float = 0
    """Latest start of the command, in seconds since 1970."""
    finished: dict[int, Trial] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    """Output of each start of the command."""
    repeated: int = 0


Moment = Callable[[Progress, str], bool]
"""Whether the moment has come, given the victim's output."""


@dataclass(frozen=True)
class Tune:
    """`study tune` with a number of workers."""

    workers: int
    trials: int

    @property
    def name(self) -> str:
        return f"tune, {self.workers} worker{'s' * (self.workers > 1)}"

    def search(self, seed: int) -> str:
        """Name of the case's own search: a server keeps the searches of all cases."""
        return f"faults-{self.workers}-{seed}"

    def arguments(self, progress: Progress) -> tuple[str, ...]:
        """Arguments of the command."""
        settings = ("--trials", str(self.trials), "--epochs", "4", "--seed", str(progress.seed), "--no-retrain")
        shares = ("--workers", str(self.workers), "--threads", str(self.workers))
        search = ("--search", self.search(progress.seed))
        return ("tune", "--dataset", "digits", "--model", "ffnn", *settings, *shares, *search, *progress.place.stores)

    def phase(self, progress: Progress, output: str) -> str:
        """The phase that it is in, by its output."""
        if f"Search {self.search(progress.seed)}" in output:
            return "end"
        if "\ntrial " in output:
            return "trials"
        return "first trial" if "training and" in output else "start"

    def moments(self) -> dict[str, Moment]:
        """The moments worth a kill by name, the end last."""

        def running(progress: Progress, output: str) -> bool:
            query = "SELECT trial_id FROM trials WHERE state = 'RUNNING'"
            return "training and" in output and len(invariants.read(progress.place.storage, query)) > 0

        return {
            "a trial is RUNNING": running,
            "a trial has ended": lambda progress, output: "\ntrial " in output,
            "the search has ended": lambda progress, output: self.phase(progress, output) == "end",
        }

    def _trials(self, progress: Progress) -> list[Trial]:
        return invariants.trials_of(progress.place, self.search(progress.seed))

    def look(self, progress: Progress) -> None:
        """Records, after a kill, the finished trials, which must not be lost."""
        progress.finished |= invariants.finished(self._trials(progress))

    def check(self, progress: Progress, broken: Broken, kills: int) -> None:
        """Checks the results of the completed command."""
        search = self.search(progress.seed)
        progress.repeated = invariants.check_search(progress.place, search, self.trials, progress.finished, broken)
        if progress.repeated > kills * self.workers:
            broken.other.append(f"{progress.repeated} trials are repeated after {kills} kills")


@dataclass(frozen=True)
class Retrain:
    """`study retrain` of either model, by the seed."""

    expected: Callable[[str, int], Path]
    """Returns the artifacts of an uninterrupted retraining, by model and seed."""
    name = "retrain"

    def settings(self, seed: int) -> tuple[str, int]:
        """Model and training seed of a case; each has its own seed, since cases on a server share its runs."""
        return ("ffnn", "cnn")[seed % 2], 1 + seed

    def arguments(self, progress: Progress) -> tuple[str, ...]:
        """Arguments of the command."""
        return (*self.base_arguments(*self.settings(progress.seed)), *progress.place.options)

    def base_arguments(self, model: str, seed: int) -> tuple[str, ...]:
        """Arguments without those of the store."""
        settings = ("--model", model, "--epochs", str(EPOCHS[model]), "--seed", str(seed), "--threads", "1")
        return ("retrain", *settings, *COMMON)

    def phase(self, progress: Progress, output: str) -> str:
        """The phase that it is in, by its output."""
        model, _ = self.settings(progress.seed)
        if "Retrained" in output:
            return "end"
        if f"epoch {EPOCHS[model]}/" in output:
            return "results"
        return "epochs" if "\nepoch " in output else "first epoch" if "training and" in output else "start"

    def moments(self) -> dict[str, Moment]:
        """The moments worth a kill by name, the end last."""
        return {
            "an epoch has ended": lambda progress, output: "\nepoch " in output,
            "the third epoch's weights appear": lambda progress, output: self._weights(progress, 3),
            "the last epoch has ended": lambda progress, output: self.phase(progress, output) == "results",
            "the retraining has ended": lambda progress, output: self.phase(progress, output) == "end",
        }

    def _weights(self, progress: Progress, count: int) -> bool:
        root = progress.place.kept or progress.place.home
        return _count_written(progress, root.glob(f"**/weights/epoch_{count:03d}.safetensors")) > 0

    def look(self, progress: Progress) -> None:
        """Records nothing: `check` reads the epochs from the output."""

    def check(self, progress: Progress, broken: Broken, kills: int) -> None:
        """Checks the results of the completed command."""
        model, seed = self.settings(progress.seed)
        begun = invariants.runs_of(progress.place, stage="retrain", model=model, seed=str(seed))
        runs = [run for run in begun if run.started >= progress.since]
        if [run.status for run in runs] != ["FINISHED"]:
            broken.disagreements.append(f"the retrainings are {[run.status for run in runs]}")
        for run in runs:
            invariants.check_retrained(run, EPOCHS[model], self.expected(model, seed), broken)
        lines = [line for output in progress.outputs for line in output.splitlines() if line.startswith("epoch ")]
        trained = [line.split(":")[0] for line in lines]
        progress.repeated = len(trained) - len(set(trained))
        if progress.repeated > kills:
            broken.other.append(f"{progress.repeated} epochs were trained again after {kills} kills: {trained}")


@dataclass(frozen=True)
class Analyse:
    """`study analyse` of some figures."""

    expected: Callable[[str], dict[str, bytes]]
    """Returns the tables of an uninterrupted analysis, by the kind of store."""
    name = "analyse"
    only = "table2,confusion,samples,image,kernels_conv1,maps_conv1,filter_health,patches_conv1"

    def arguments(self, progress: Progress) -> tuple[str, ...]:
        """Arguments of the command."""
        return ("analyse", "--only", self.only, *progress.place.options)

    def phase(self, progress: Progress, output: str) -> str:
        """The phase that it is in, by its output."""
        if "Report: " in output:
            return "end"
        return "figures" if "training and" in output else "start"

    def moments(self) -> dict[str, Moment]:
        """The moments worth a kill by name, the end last."""

        def written(count: int) -> Moment:
            return lambda progress, output: (
                _count_written(progress, progress.place.home.glob("reports/**/*.csv")) >= count
            )

        return {
            "the first table appears": written(1),
            "the fifth table appears": written(5),
            "the report is written": lambda progress, output: self.phase(progress, output) == "end",
        }

    def look(self, progress: Progress) -> None:
        """Records nothing: the report is made again."""

    def check(self, progress: Progress, broken: Broken, kills: int) -> None:
        """Checks the results of the completed command."""
        [run] = analysed(progress.place)
        invariants.check_analysed(run, self.expected(progress.store), broken)


def _count_written(progress: Progress, files: Iterable[Path]) -> int:
    """How many of these files the latest start of the command has written."""
    count = 0
    for file in files:
        # A temporary file may be renamed meanwhile.
        with suppress(FileNotFoundError):
            count += file.stat().st_mtime >= progress.started
    return count


def analysed(place: Place) -> list[invariants.RecordedRun]:
    """The retraining that `best` selects: that of the CNN in the base study."""
    runs = invariants.runs_of(place, stage="retrain", model="cnn", seed="0")
    return sorted(runs, key=lambda run: run.started)[:1]


Command = Tune | Retrain | Analyse
