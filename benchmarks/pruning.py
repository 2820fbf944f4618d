"""Compares pruners by the epochs they save and the accuracy they cost, on replayed learning curves.

    python -m benchmarks.pruning                                       # replays benchmarks/curves/*.csv
    python -m benchmarks.pruning record cnn curves.csv --dataset IMAGES  # trains 40 trials to the end

A replay reports the same trials, in a random order, to an Optuna pruner, as a search would. Its regret is the best
validation accuracy of all trials run to the end, minus that of the trials that the pruner let finish. A replay ignores
that the sampler would have drawn other trials after a pruned one.

Result, means (and the highest) over 20 orders of 40 trials of 10 epochs, as `study tune --pruner none` draws them:

| pruner | CNN: regret, points | epochs | FFNN: regret, points | epochs |
|---|---|---|---|---|
| percentile: best 60 % after 5 trials (the default) | 0.00 (0.00) | 0.45 (0.62) | 0.08 (0.22) | 0.44 (0.68) |
| median, Optuna's default: best 50 % after 5 trials | 0.12 (2.35) | 0.39 (0.58) | 0.11 (0.22) | 0.39 (0.59) |
| Hyperband from epoch 2, factor 4 (`--pruner hyperband`) | 0.00 (0.00) | 0.55 (0.67) | 0.07 (0.22) | 0.54 (0.66) |
| Hyperband from epoch 1, factor 3 (the default before this) | 0.62 (2.50) | 0.47 (0.61) | 0.16 (0.24) | 0.48 (0.69) |

The curves: CIFAR-10, JPEG re-encoded; the FFNN's on all training images (45,000, and 5,000 to validate), the CNN's on
1,000 of each class (8,000, and 2,000 to validate), since 400 epochs on all images would have taken hours on the machine
used: 2 cores of a Xeon without bf16 units, float32, one thread each. `--images 1000 --validation 0.2` made the CNN's.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import optuna
import pandas as pd
import typer
from filelock import FileLock
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, PercentilePruner
from optuna.pruners import SuccessiveHalvingPruner as Halving
from optuna.trial import TrialState

from benchmarks.images import fewer
from benchmarks.output import JsonOption, conclude, show
from study.config import PRUNERS, DataConfig, SearchConfig, model_config
from study.data import load_dataset
from study.device import Machine, prepare
from study.home import default_home
from study.images import Labelled
from study.models import build_model
from study.search import sampling, search
from study.search.loop import Training, optimise
from study.search.trial import Score, Suggestion
from study.training import TrainingState, epochs, resident

ORDERS = 20
RECORDED = Path(__file__).parent / "curves"

app = typer.Typer(add_completion=False)


def candidates(epochs: int) -> dict[str, BasePruner]:
    """The compared pruners for trials of at most `epochs`, those of `study tune` first."""
    own: dict[str, BasePruner] = {f"--pruner {name}": sampling.pruner_of(name, epochs) for name in PRUNERS}
    hyperband = {
        f"hyperband, from epoch {least}, factor {factor}": HyperbandPruner(least, epochs, factor)
        for least in (1, 2, 3)
        for factor in (2, 3, 4)
    }
    halving = {
        f"successive halving, from epoch {least}, factor {factor}": Halving(least, factor)
        for least in (1, 2, 3)
        for factor in (2, 3)
    }
    median = {
        f"median after {trials} trials, from epoch {least}": MedianPruner(trials, n_warmup_steps=least)
        for trials in (5, 10)
        for least in (1, 2, 3)
    }
    percentile = {
        f"best {share:.0f} % after 5 trials, from epoch {least}": PercentilePruner(share, 5, n_warmup_steps=least)
        for share in (25.0, 33.0, 60.0)
        for least in (1, 2, 3)
    }
    return own | hyperband | halving | median | percentile


@app.callback(invoke_without_command=True)
def replay(context: typer.Context, write: JsonOption = None) -> None:
    """Replay every recorded set of curves to every pruner."""
    if context.invoked_subcommand:
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    figures: dict[str, object] = {}
    for file in sorted(RECORDED.glob("*.csv")):
        curves = read(file)
        table = compare(curves)
        best = max(max(curve) for curve in curves)
        title = f"{file.stem}: {len(curves)} curves, {sum(map(len, curves))} epochs, best {best:.4f}; {ORDERS} orders"
        show(title, table.columns.tolist(), table.to_numpy().tolist())
        figures[file.stem] = table.to_dict("records")
    conclude(figures, write)


def read(file: Path) -> list[list[float]]:
    """The validation accuracies of each recorded trial, epoch by epoch."""
    table = pd.read_csv(file).sort_values(["number", "epoch"])
    return [group.tolist() for _, group in table.groupby("number")["val_accuracy"]]


def compare(curves: list[list[float]]) -> pd.DataFrame:
    """Mean and highest regret (percentage points) and share of the epochs per pruner, sorted by mean regret."""
    epochs = max(map(len, curves))
    rows = []
    for name in candidates(epochs):
        # Pruners keep state of a search: each order needs a new one.
        runs = np.array([replayed(curves, candidates(epochs)[name], order) for order in range(ORDERS)])
        rows.append((name, *runs.mean(0), *runs.max(0)))
    columns = ["pruner", "regret", "epochs", "highest regret", "most epochs"]
    return pd.DataFrame(rows, columns=columns).sort_values("regret", kind="stable")


def replayed(curves: list[list[float]], pruner: BasePruner, order: int) -> tuple[float, float]:
    """Regret (percentage points) and share of the epochs, for the curves in the order drawn with the seed `order`."""
    # Hyperband assigns trials to brackets by the name of the search and the number of the trial.
    study = optuna.create_study(study_name=f"order {order}", direction="maximize", pruner=pruner)
    for number in np.random.default_rng(order).permutation(len(curves)):
        _replay_curve(study, curves[number], epochs=max(map(len, curves)))
    complete = [trial.value or 0.0 for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    spent = sum(len(trial.intermediate_values) for trial in study.get_trials())
    best = max(max(curve) for curve in curves)
    return 100 * (best - max(complete, default=0.0)), spent / sum(map(len, curves))


def _replay_curve(study: optuna.Study, curve: list[float], epochs: int) -> None:
    trial = study.ask()
    for epoch, accuracy in enumerate(curve, start=1):
        trial.report(accuracy, epoch)
        if epoch < epochs and trial.should_prune():
            break
    else:
        # A shorter curve belongs to a diverged trial, which a search records as PRUNED too.
        if len(curve) == epochs:
            study.tell(trial, max(curve))
            return
    study.tell(trial, state=TrialState.PRUNED)


@app.command()
def record(
    model: Annotated[str, typer.Argument(help="cnn or ffnn.")],
    file: Annotated[Path, typer.Argument(help="The CSV to write; the search is kept beside it.")],
    dataset: str = "cifar10",
    images: Annotated[int, typer.Option(help="Training images of each class; 0: all.")] = 0,
    validation: Annotated[float, typer.Option(help="The share of them that is held out.")] = 0.1,
    trials: int = 40,
    epochs: int = 10,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
) -> None:
    """Train what the default search draws, every trial to its end; an interrupted recording continues.

    Several processes that are given the same FILE share the work.
    """
    machine = prepare(device, precision, threads)
    config = SearchConfig(
        name=f"curves-{model}", model=model_config(model), trials=trials, epochs=epochs, pruner="none"
    )
    data = DataConfig(dataset=dataset, validation_fraction=validation)
    loaded = load_dataset(data, default_home(), print)
    splits = replace(loaded, train=fewer(loaded.train, images)).splits
    digest = f"{loaded.digest[:6]}/{images}/{validation}"
    with FileLock(file.with_suffix(".lock")):
        opened = search.open_search(config, f"sqlite:///{file.with_suffix('.db').resolve()}", digest=digest)

    def recover(running: set[int]) -> None:
        with FileLock(file.with_suffix(".lock")):
            search.close_orphans(opened)
            search.requeue(opened)

    recover(set())
    parts = resident(splits.train, machine), resident(splits.validation, machine)
    optimise(opened, config, partial(_train, *parts, machine), recover)
    _curves(opened).to_csv(file, index=False, float_format="%.6g")


def _curves(opened: search.Search) -> pd.DataFrame:
    """Every epoch of the finished trials: number, learning_rate, weight_decay, epoch, val_accuracy."""
    rows = [
        (trial.number, trial.params["learning_rate"], trial.params["weight_decay"], epoch, value)
        for trial in opened.get_trials(deepcopy=False, states=search.FINISHED_STATES)
        for epoch, value in sorted(trial.intermediate_values.items())
    ]
    return pd.DataFrame(rows, columns=["number", "learning_rate", "weight_decay", "epoch", "val_accuracy"])


def _train(train: Labelled, validation: Labelled, machine: Machine, suggestion: Suggestion) -> Training:
    config, score = suggestion.config, Score(suggestion)
    state = TrainingState(build_model(config.model, classes=10, seed=config.seed), config, machine)
    for pending in epochs(state, train, config, machine, evaluate={"val": validation}):
        yield
        epoch = pending.wait()
        score.update(epoch.number, epoch.metrics["val_accuracy"], epoch.metrics["val_loss"])
    print(f"trial {suggestion.number}: {score.accuracy:.4f}", flush=True)
    return score.accuracy


if __name__ == "__main__":
    app()
