"""Does bf16 change a conclusion? Paired trainings, equal but for the precision, and the interval of their difference.

    python -m benchmarks.precision --dataset IMAGES

Test accuracy after 10 epochs, %, five seeds trained in both precisions; the difference is bf16 − float32 in percentage
points, with its 95 % interval (paired t). CIFAR-10, JPEG re-encoded; one thread, `--epochs 10`:

| model | training images | n | float32 | bf16 | difference | interval |
|---|---|---|---|---|---|---|
| FFNN | 50,000 | 5 | 51.62 | 51.58 | −0.04 | −0.51 to 0.43 |
| CNN (`--images 400`) | 4,000 | 5 | 53.26 | 53.34 | +0.08 | −0.31 to 0.48 |

The processor, a Xeon without bf16 units, emulates bf16: it rounds the same, but may add in another order. Since that is
slow, the CNN was trained on few images.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from scipy import stats

from benchmarks.images import fewer
from benchmarks.measure import surroundings
from benchmarks.output import JsonOption, conclude, show
from study.architectures import MODELS
from study.config import DataConfig, TrainConfig, model_config
from study.data import load_dataset
from study.device import Machine, prepare
from study.home import default_home
from study.images import Labelled
from study.models import build_model
from study.training import Epoch, TrainingState, fit, resident

SETTINGS = {"cnn": (1.39e-3, 6.9e-4), "ffnn": (7.6e-4, 2.2e-5)}
"""Learning rate and weight decay of the best trials in docs/results.md."""


def main(
    dataset: str = "cifar10",
    models: Annotated[str, typer.Option(help="cnn, ffnn or cnn,ffnn.")] = ",".join(MODELS),
    images: Annotated[int, typer.Option(help="Training images of each class; 0: all.")] = 0,
    epochs: int = 30,
    seeds: int = 5,
    threads: int = 0,
    device: str = "auto",
    file: Annotated[Path | None, typer.Option(help="A CSV that keeps each training as it ends, to continue.")] = None,
    write: JsonOption = None,
) -> None:
    """Train `seeds` pairs of each model and compare their test accuracies."""
    loaded = load_dataset(DataConfig(dataset=dataset), default_home(), print)
    machines = {precision: prepare(device, precision, threads) for precision in ("float32", "bf16")}
    table = pd.read_csv(file) if file and file.exists() else pd.DataFrame(columns=["model", "seed", "precision"])
    for model in models.split(","):
        for seed in range(seeds):
            for precision, machine in machines.items():
                if len(table.query("model == @model and seed == @seed and precision == @precision")):
                    continue
                train, test = (resident(part, machine) for part in (fewer(loaded.train, images), loaded.test))
                accuracy = _test_accuracy(_config(model, epochs, seed), train, test, machine)
                row = {"model": model, "seed": seed, "precision": precision, "test_accuracy": accuracy}
                table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
                print(*row.values(), flush=True)
                if file:
                    table.to_csv(file, index=False)
    differences = paired(table)
    show(
        "Test accuracy, bf16 − float32, percentage points",
        differences.columns.tolist(),
        differences.to_numpy().tolist(),
    )
    about = surroundings(replace(machines["bf16"], precision="float32 and bf16"))
    conclude({**about, "epochs": epochs, "differences": differences.to_dict("records")}, write)


def _config(model: str, epochs: int, seed: int) -> TrainConfig:
    rate, decay = SETTINGS[model]
    return TrainConfig(model=model_config(model), learning_rate=rate, weight_decay=decay, epochs=epochs, seed=seed)


def _test_accuracy(config: TrainConfig, train: Labelled, test: Labelled, machine: Machine) -> float:
    """Test accuracy after the last epoch; the others are not evaluated."""
    model = build_model(config.model, classes=10, seed=config.seed)
    state = TrainingState(model, config, machine)
    fit(state, train, replace(config, epochs=config.epochs - 1), machine, evaluate={}, on_epoch=lambda epoch: None)
    evaluated: list[Epoch] = []
    fit(state, train, config, machine, evaluate={"test": test}, on_epoch=evaluated.append)
    return evaluated[-1].metrics["test_accuracy"]


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """Per model: n, both means, the mean paired difference and the ends of its 95 % t-interval, in points."""
    rows = []
    for model, runs in table.groupby("model"):
        pairs = 100 * runs.pivot(index="seed", columns="precision", values="test_accuracy").dropna()
        difference = pairs["bf16"] - pairs["float32"]
        low, high = stats.t.interval(0.95, len(pairs) - 1, loc=difference.mean(), scale=stats.sem(difference))
        rows.append((model, len(pairs), *pairs[["float32", "bf16"]].mean(), difference.mean(), low, high))
    return pd.DataFrame(rows, columns=["model", "n", "float32", "bf16", "difference", "low", "high"])


if __name__ == "__main__":
    typer.run(main)
