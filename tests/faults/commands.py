"""What is interrupted: its arguments, its phases, the moments worth a kill, and what must come of it."""

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
"""The study that retrainings and analyses begin with."""
EPOCHS = {"ffnn": 16, "cnn": 5}
"""Of a retraining."""


@dataclass
class Progress:
    """A case so far: what was seen at its kills."""

    place: Place
    store: str
    """The kind of it."""
    seed: int
    since: int
    """When it began, in milliseconds since 1970."""
    started: float = 0
    """When the command was last started, in seconds since 1970."""
    finished: dict[int, Trial] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """What each start of the command wrote."""
    repeated: int = 0


Moment = Callable[[Progress, str], bool]
"""Whether it has come, given what the victim has said."""


@dataclass(frozen=True)
class Tune:
    """`study tune` with so many workers."""

    workers: int
    trials: int

    @property
    def name(self) -> str:
        return f"tune, {self.workers} worker{'s' * (self.workers > 1)}"

    def search(self, seed: int) -> str:
        """A search of its own for each case, since a server keeps those of all."""
        return f"faults-{self.workers}-{seed}"

    def arguments(self, progress: Progress) -> tuple[str, ...]:
        """What is typed."""
        settings = ("--trials", str(self.trials), "--epochs", "4", "--seed", str(progress.seed), "--no-retrain")
        shares = ("--workers", str(self.workers), "--threads", str(self.workers))
        search = ("--search", self.search(progress.seed))
        return ("tune", "--dataset", "digits", "--model", "ffnn", *settings, *shares, *search, *progress.place.stores)

    def phase(self, progress: Progress, said: str) -> str:
        """Where it is, by what it has said."""
        if f"Search {self.search(progress.seed)}" in said:
            return "end"
        if "\ntrial " in said:
            return "trials"
        return "first trial" if "training and" in said else "start"

    def moments(self) -> dict[str, Moment]:
        """The moments worth a kill, the end last."""

        def running(progress: Progress, said: str) -> bool:
            query = "SELECT trial_id FROM trials WHERE state = 'RUNNING'"
            return "training and" in said and len(invariants.read(progress.place.storage, query)) > 0

        return {
            "a trial is RUNNING": running,
            "a trial has ended": lambda progress, said: "\ntrial " in said,
            "the search has ended": lambda progress, said: self.phase(progress, said) == "end",
        }

    def _trials(self, progress: Progress) -> list[Trial]:
        return invariants.trials_of(progress.place, self.search(progress.seed))

    def look(self, progress: Progress) -> None:
        """Notes, after a kill, what must not be lost."""
        progress.finished |= invariants.finished(self._trials(progress))

    def check(self, progress: Progress, broken: Broken, kills: int) -> None:
        """Checks what has come of it."""
        search = self.search(progress.seed)
        progress.repeated = invariants.check_search(progress.place, search, self.trials, progress.finished, broken)
        if progress.repeated > kills * self.workers:
            broken.other.append(f"{progress.repeated} trials are repeated after {kills} kills")


@dataclass(frozen=True)
class Retrain:
    """`study retrain` of either model, by the seed."""

    expected: Callable[[str, int], Path]
    """The artifacts of an uninterrupted retraining, by model and seed."""
    name = "retrain"

    def settings(self, seed: int) -> tuple[str, int]:
        """The model and the seed of its weights; each case has its own, since those of a server share its runs."""
        return ("ffnn", "cnn")[seed % 2], 1 + seed

    def arguments(self, progress: Progress) -> tuple[str, ...]:
        """What is typed."""
        return (*self.typed(*self.settings(progress.seed)), *progress.place.options)

    def typed(self, model: str, seed: int) -> tuple[str, ...]:
        """The command but for where the store is."""
        settings = ("--model", model, "--epochs", str(EPOCHS[model]), "--seed", str(seed), "--threads", "1")
        return ("retrain", *settings, *COMMON)

    def phase(self, progress: Progress, said: str) -> str:
        """Where it is, by what it has said."""
        model, _ = self.settings(progress.seed)
        if "Retrained" in said:
            return "end"
        if f"epoch {EPOCHS[model]}/" in said:
            return "results"
        return "epochs" if "\nepoch " in said else "first epoch" if "training and" in said else "start"

    def moments(self) -> dict[str, Moment]:
        """The moments worth a kill, the end last."""
        return {
            "an epoch has ended": lambda progress, said: "\nepoch " in said,
            "the third epoch's weights appear": lambda progress, said: self._weights(progress, 3),
            "the last epoch has ended": lambda progress, said: self.phase(progress, said) == "results",
            "the retraining has ended": lambda progress, said: self.phase(progress, said) == "end",
        }

    def _weights(self, progress: Progress, count: int) -> bool:
        root = progress.place.kept or progress.place.home
        return _made(progress, root.glob(f"**/weights/epoch_{count:03d}.safetensors")) > 0

    def look(self, progress: Progress) -> None:
        """Notes, after a kill, what must not be lost: that is checked by what it says of its epochs."""

    def check(self, progress: Progress, broken: Broken, kills: int) -> None:
        """Checks what has come of it."""
        model, seed = self.settings(progress.seed)
        begun = invariants.runs_of(progress.place, stage="retrain", model=model, seed=str(seed))
        runs = [run for run in begun if run.started >= progress.since]
        if [run.status for run in runs] != ["FINISHED"]:
            broken.disagreements.append(f"the retrainings are {[run.status for run in runs]}")
        for run in runs:
            invariants.check_retrained(run, EPOCHS[model], self.expected(model, seed), broken)
        said = [line.split(":")[0] for text in progress.said for line in text.splitlines() if line.startswith("epoch ")]
        progress.repeated = len(said) - len(set(said))
        if progress.repeated > kills:
            broken.other.append(f"{progress.repeated} epochs were trained again after {kills} kills: {said}")


@dataclass(frozen=True)
class Analyse:
    """`study analyse` of some figures."""

    expected: Callable[[str], dict[str, bytes]]
    """The tables of an uninterrupted analysis, by the kind of store."""
    name = "analyse"
    only = "table2,confusion,samples,image,kernels_conv1,maps_conv1,filter_health,patches_conv1"

    def arguments(self, progress: Progress) -> tuple[str, ...]:
        """What is typed."""
        return ("analyse", "--only", self.only, *progress.place.options)

    def phase(self, progress: Progress, said: str) -> str:
        """Where it is, by what it has said."""
        if "Report: " in said:
            return "end"
        return "figures" if "training and" in said else "start"

    def moments(self) -> dict[str, Moment]:
        """The moments worth a kill, the end last."""

        def written(count: int) -> Moment:
            return lambda progress, said: _made(progress, progress.place.home.glob("reports/**/*.csv")) >= count

        return {
            "the first table appears": written(1),
            "the fifth table appears": written(5),
            "the report is written": lambda progress, said: self.phase(progress, said) == "end",
        }

    def look(self, progress: Progress) -> None:
        """Notes, after a kill, what must not be lost: nothing, the report is made again."""

    def check(self, progress: Progress, broken: Broken, kills: int) -> None:
        """Checks what has come of it."""
        [run] = analysed(progress.place)
        invariants.check_analysed(run, self.expected(progress.store), broken)


def _made(progress: Progress, files: Iterable[Path]) -> int:
    """How many of these files the last start of the command has written."""
    made = 0
    for file in files:
        # One that is beside its place is renamed meanwhile.
        with suppress(FileNotFoundError):
            made += file.stat().st_mtime >= progress.started
    return made


def analysed(place: Place) -> list[invariants.Run]:
    """The retraining that `best` means: the base study's of the CNN."""
    runs = invariants.runs_of(place, stage="retrain", model="cnn", seed="0")
    return sorted(runs, key=lambda run: run.started)[:1]


Command = Tune | Retrain | Analyse
