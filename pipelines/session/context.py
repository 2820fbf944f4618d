"""The context of a stage: the stores, the machine that computes, the display."""

import os
import shlex
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.session.display import Display
from study.config import BACKGROUND, BUNDLED, IMAGE_SIZE, DataConfig
from study.errors import StudyError
from study.home import Home
from study.provenance import provenance
from study.system.databases import locked_database
from study.system.files import locked, within
from study.system.redaction import masked
from study.tracking import hints
from study.tracking.runs import Run
from study.tracking.store import Store

if TYPE_CHECKING:
    from pipelines.session.cluster import Cluster
    from study.data import Dataset
    from study.device import Machine


@dataclass(frozen=True)
class Stores:
    """Both stores and the display: the context of a command that needs no torch."""

    home: Home
    store: Store
    storage: str
    """URL of Optuna's storage."""
    _: KW_ONLY
    display: Display = field(default_factory=Display)
    is_part: bool = False
    """Whether it is part of a larger command, which prints the `study ui` command at its own end."""

    def __post_init__(self) -> None:
        """Has the display print the store's messages."""
        self.store.say = self.display.say

    @contextmanager
    def locked(self, *, is_patient: bool = True) -> Iterator[bool]:
        """Holds the locks of the home and of a storage on PostgreSQL: one process of all machines does what is within.

        Not reentrant. Without `is_patient`, does not wait, and yields whether it holds them.

        Raises:
            StudyError: if the folder of the stores cannot be written.
            StoreFault: where the storage is away for too long.
        """
        with locked(self.home, is_patient=is_patient) as is_first:
            if not is_first:
                yield False
                return
            with locked_database(self.storage, is_patient=is_patient) as is_held:
                yield is_held

    def report_folder(self, name: str) -> Path:
        """The folder `name` of the reports, created if needed.

        Raises:
            StudyError: where it cannot be created.
        """
        # The name comes from the store, which is not trusted: it must not lead out of the folder.
        folder = within(self.home.reports, name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"The report cannot be written to {folder}: {error.strerror}.") from None
        return folder

    def say_pages(self, **pages: str) -> None:
        """Prints the addresses of MLflow's pages if a server answers, else the command that starts one."""
        if self.store.uri.startswith("http"):
            for name, page in pages.items():
                self.display.say(f"{name}: {self.store.uri.rstrip('/')}{page}")
        elif not self.is_part:
            self.display.say(f"MLflow's pages of it: {self.ui_command}")

    @property
    def ui_command(self) -> str:
        """The `study ui` that shows this store."""
        return self.command("ui")

    def command(self, *words: str) -> str:
        """A command of this program, by its name and options, on this home and store."""
        return hints.command(self.store, *words)

    def search_command(self, *words: str) -> str:
        """Like `command`, for one that takes the storage of the searches too."""
        named = masked(self.storage)
        # With its password masked it could not be typed: the variable that holds it is read again.
        is_read = named != self.storage == os.environ.get("STUDY_STORAGE")
        is_default = self.storage == self.home.storage_url
        return self.command(*words) + ("" if is_default or is_read else f" --storage {shlex.quote(named)}")

    @property
    def where(self) -> tuple[str, ...]:
        """The options that point a command to this home and store; none for the defaults, and no password."""
        return hints.where(self.home, self.store.uri)


@dataclass(frozen=True)
class Context(Stores):
    """The context of a stage that computes; only `machine` affects the results."""

    machine: "Machine"
    """What trains: this machine, or one of the cluster's nodes."""
    _: KW_ONLY
    cluster: "Cluster | None" = None
    """Where trainings run; None: in this process."""

    def run(
        self,
        training: Callable[..., Generator[Any]],
        images: Any,
        *arguments: Any,
        on_batch: Callable[[int], None],
        timeout: int = 0,
    ) -> Generator[Any | None]:
        """Runs one of the `trainings`; yields its results, and None where others may take their turn.

        Args:
            training: a generator function.
            images: its images.
            *arguments: its further arguments.
            on_batch: called with the number of images after each step in this process.
            timeout: see `Cluster.stream`.
        """
        if self.cluster:
            return self.cluster.stream(training, images, *arguments, timeout=timeout)
        # By this process alone.
        return training(images, replace(self.machine, world_size=1), *arguments, on_batch=on_batch)

    def load(self, config: DataConfig) -> "Dataset":
        """Prints data set, machine and store, and loads the data set."""
        from study.cautions import cautions
        from study.data import load_dataset

        self.display.say(f"Dataset {config.dataset} · {self.machine} · store {masked(self.store.uri)}")
        is_as_published = config.dataset in BUNDLED and config.image_size == IMAGE_SIZE
        with self.display.bar(f"decoding {config.dataset}", 1) as bar:
            dataset = self._as_recorded(load_dataset(config, self.home, self.display.say, bar.to))
        resizing = (
            "" if is_as_published else f", resized to {config.image_size} × {config.image_size} pixels where needed"
        )
        held_out = len(dataset.splits.validation_rows)
        self.display.say(
            f"{dataset.key}: {len(dataset.train):,} training images ({held_out:,} of them for validation) and "
            f"{len(dataset.test):,} test images of {len(dataset.classes)} classes{resizing}."
        )
        for line in self._shortened([*filter(None, [dataset.left_out]), *cautions(dataset)], dataset):
            self.display.say(line)
        return dataset

    def _as_recorded(self, dataset: "Dataset") -> "Dataset":
        """The data set, with the key of earlier runs on the same images where their folder was called differently."""
        if dataset.config.dataset in BUNDLED or self.store.experiments.find(dataset.key):
            return dataset
        for key in self.store.experiments.ending(dataset.key.removeprefix(dataset.name)):
            if any(run.dataset_digest == dataset.digest for run in self.store.runs([key])):
                self.display.say(f"The same images were recorded as {key}: they keep this name.")
                return replace(dataset, key=key)
        return dataset

    def _shortened(self, notices: Sequence[str], dataset: "Dataset") -> Sequence[str]:
        """The notices on a data set; for one that is in the store already, their number if there are several."""
        if len(notices) < 2 or not self.store.client.get_experiment_by_name(dataset.key):
            return notices
        # `study data` takes no --tracking-uri.
        shows = hints.command_at(self.home, self.home.tracking_uri, "data", *hints.images(dataset.config))
        return [f"{len(notices)} notices about these images: `{shows}`."]

    def images_of(self, run: Run, loaded: "Dataset | None") -> "Dataset":
        """The data set that `run` was trained on: `loaded`, or where that is None the one that the run records.

        Raises:
            StudyError: where its images are others, or cannot be loaded.
        """
        dataset = loaded or self.load(run.data_config)
        if run.dataset_digest != dataset.digest:
            raise StudyError(f"Run {run.name} was trained on other images than those of {dataset.source}.")
        return dataset

    def log_dataset(self, run_id: str, dataset: "Dataset", *used: str) -> None:
        """Records the data set and the names of the splits that the run uses as its dataset input."""
        fraction = dataset.config.validation_fraction
        self.store.log_dataset(
            run_id,
            name=dataset.key,
            digest=dataset.digest,
            source=dataset.config.recorded_dataset,
            profile={"train": len(dataset.train), "test": len(dataset.test), "validation_fraction": fraction},
            used=used,
        )
        if dataset.unreadable:
            self.store.log_json(run_id, "unreadable.json", dataset.unreadable)

    def params(self, dataset: "Dataset") -> dict[str, Any]:
        """The params recorded on every run beside its own settings."""
        return {
            "dataset": dataset.config.recorded_dataset,
            "dataset_digest": dataset.digest,
            "background": BACKGROUND,
            "validation_fraction": dataset.config.validation_fraction,
            "split_seed": dataset.config.split_seed,
            "skip_unreadable": dataset.config.skip_unreadable,
            "image_size": dataset.side,
            **self.machine.params(),
            **provenance(),
        }
