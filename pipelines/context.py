"""What every stage works with: where things are kept, what computes, who is told."""

from dataclasses import dataclass
from typing import Any

from pipelines.progress import Display
from study.config import DataConfig, Home
from study.data import Dataset, load_dataset
from study.device import Machine
from study.provenance import provenance
from study.tracking import Store


@dataclass(frozen=True)
class Context:
    """The surroundings of a stage; none of it changes what is computed but `machine`."""

    home: Home
    store: Store
    storage: str
    """URL of Optuna's storage."""
    machine: Machine
    display: Display

    def load(self, config: DataConfig) -> Dataset:
        """Loads a data set with a bar for what takes long, and says what runs on what, in one line."""
        with self.display.bar(f"decoding {config.dataset}", 1) as bar:
            shown = 0

            def progress(done: int, total: int) -> None:
                nonlocal shown
                bar.advance((done - shown) / total)
                shown = done

            dataset = load_dataset(config, self.home, self.display.say, progress)
        self.display.say(
            f"{dataset.key}: {len(dataset.train):,} training and {len(dataset.test):,} test images, "
            f"{len(dataset.classes)} classes · {self.machine} · store {self.store.uri}"
        )
        if dataset.skipped:
            self.display.say(f"{dataset.skipped} unreadable image files are left out.")
        return dataset

    def params(self, data: DataConfig, dataset: Dataset) -> dict[str, Any]:
        """What is recorded on every run beside its own settings."""
        return {
            "dataset": data.dataset,
            "dataset_digest": dataset.digest,
            "validation_fraction": data.validation_fraction,
            "split_seed": data.split_seed,
            "skip_unreadable": data.skip_unreadable,
            **self.machine.params(),
            **provenance(),
        }
