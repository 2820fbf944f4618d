"""Speed of a whole search, with pruning and all records, against the same trials run to the end by a textbook loop.

    python -m benchmarks.search --dataset IMAGES

The search is run as a whole. Of the textbook loop only some epochs are, and their median is extrapolated; what it would
need besides (sampling, validation, records) is not counted.
"""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.images import fewer
from benchmarks.measure import seconds, surroundings
from benchmarks.output import JsonOption, conclude, show
from benchmarks.textbook import Textbook
from pipelines.session.context import Context
from pipelines.session.display import Display
from pipelines.tune import tune
from study.config import DataConfig, SearchConfig, TrainConfig, model_config
from study.data import load_dataset
from study.device import prepare
from study.home import Home, default_home
from study.search.search import open_search, trials_table
from study.tracking.store import Store


def main(
    dataset: str = "cifar10",
    model: Annotated[str, typer.Option(help="cnn or ffnn.")] = "cnn",
    images: Annotated[int, typer.Option(help="Training images of each class; 0: all.")] = 0,
    trials: int = 40,
    epochs: int = 10,
    textbook_epochs: Annotated[int, typer.Option(help="Epochs of the textbook loop that are run and timed.")] = 3,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    write: JsonOption = None,
) -> None:
    """Run the search, time the textbook loop, and print the ratio."""
    machine = prepare(device, precision, threads)
    loaded = load_dataset(DataConfig(dataset=dataset), default_home(), print)
    loaded = replace(loaded, train=fewer(loaded.train, images))
    train = loaded.splits.train
    config = SearchConfig(name="benchmark", model=model_config(model), trials=trials, epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(root=Path(folder))
        context = Context(home, Store(home), home.storage_url, machine, display=Display())
        ours = seconds(lambda: tune(config, loaded, context))
        table = trials_table(open_search(config, context.storage, digest=loaded.digest))
    with Textbook(train, TrainConfig(model=config.model), str(machine.device), machine.threads) as textbook:
        epoch = statistics.median([textbook.epoch() for _ in range(textbook_epochs + 1)][1:])
    theirs, spent = epoch * trials * epochs, int(table["epochs"].sum())
    show(
        f"{trials} trials of at most {epochs} epochs of {len(train):,} images, {model}, {machine}",
        ["", "epochs", "seconds"],
        [
            ["textbook loop, to the end (extrapolated)", trials * epochs, theirs],
            ["this search, with validation and records", spent, ours],
        ],
    )
    figures = {
        "search_speedup": theirs / ours,
        "share_of_epochs": spent / (trials * epochs),
        "search_seconds": ours,
        "textbook_seconds_per_epoch": epoch,
        "textbook_seconds_extrapolated": theirs,
        "best_val_accuracy": float(table.query("state == 'complete'")["val_accuracy"].max()),
    }
    about = {"model": model, "images": len(train), "trials": trials, "epochs": epochs, "dataset": loaded.key}
    conclude({**surroundings(machine), **about, **figures}, write)


if __name__ == "__main__":
    typer.run(main)
