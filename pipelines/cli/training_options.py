"""The options of the commands that train: of their searches, trainings, experiments and the machines these run on."""

from typing import Annotated, Any

import typer

from pipelines.cli.values import LARGEST_SEED, MACHINE, checked, completion, decimal, number, option, require_dataset
from pipelines.config import DEAD_FILTERS_EPOCHS, EXPERIMENTS, WINNER_TOP
from study.architectures import ARCHITECTURES, MODELS
from study.config import PRUNERS, SAMPLERS, SPACES, SearchConfig, TrainConfig, default_trials
from study.errors import require_known
from study.ranges import least_accuracy

MOST_WORKERS = 256
"""Maximum number of trainings at a time."""
CLUSTER = {"rich_help_panel": "Cluster"}
DRAWN = {"rich_help_panel": "Search space (one value, several: 3,5, or a range: 8:64)"}
"""Groups of options in the help."""
NETWORKS = completion([*MODELS, *ARCHITECTURES])


def drawn(name: str, help: str) -> Any:
    """An option of a hyperparameter that a search can draw; left empty, --space decides."""
    return option(name, help, **DRAWN)


# Of tune and reproduce.
Model = Annotated[
    str,
    option(
        "--model", help=f"cnn, ffnn, {', '.join(ARCHITECTURES)}, or your function: package.module:function.", **NETWORKS
    ),
]
Trials = Annotated[
    int | None,
    number(
        "--trials",
        help=f"Total number of finished trials; default {SearchConfig.trials}, grid {default_trials('grid')}.",
        least=1,
    ),
]
Sampler = Annotated[str, option("--sampler", help="tpe, random, or grid (the report's 8 × 8).", **completion(SAMPLERS))]
Pruner = Annotated[
    str,
    option(
        "--pruner",
        help="percentile, hyperband, median or none.",
        show_default=f"{SearchConfig.pruner}; none with two objectives",
        **completion(PRUNERS),
    ),
]
Objective = Annotated[
    str, option("--objective", help="accuracy, or accuracy,parameters: also few parameters, without pruning.")
]
Prefer = Annotated[
    str,
    checked(
        "--prefer",
        least_accuracy,
        "Which trial is retrained: accuracy (the highest), or parameters:0.70 (the smallest that reaches it).",
    ),
]
LearningRates = Annotated[str, option("--lr", help="Learning rates, LOW:HIGH, or one value.")]
WeightDecays = Annotated[str, option("--decay", help="Weight decays, LOW:HIGH, or one value.")]
Epochs = Annotated[int, number("--epochs", help="Passes over the training images in a trial.", least=1)]


Space = Annotated[
    str,
    checked(
        "--space",
        lambda text: require_known("space", text, SPACES),
        "report (learning rate and weight decay) or architecture (and the network and how it trains).",
        **completion(SPACES),
        **DRAWN,
    ),
]
Kernel = Annotated[str, drawn("--kernel", "Side of the kernels in pixels.")]
Filters = Annotated[str, drawn("--filters", "Filters of each convolution; FIRST/SECOND for different ones.")]
Padding = Annotated[str, drawn("--padding", "Zero padding in pixels.")]
Stride = Annotated[str, drawn("--stride", "Stride of the convolutions in pixels.")]
Dilation = Annotated[str, drawn("--dilation", "Spacing between kernel elements in pixels.")]
Pool = Annotated[str, drawn("--pool", "Side of the pooling windows in pixels.")]
Pooling = Annotated[str, drawn("--pooling", "max or average.")]
Hidden = Annotated[str, drawn("--hidden", "Hidden units of the FFNN.")]
Arguments = Annotated[
    list[str] | None,
    drawn("--argument", "Of a network of your own: NAME=VALUES, a further argument of its function; may be repeated."),
]
Optimiser = Annotated[str, drawn("--optimiser", "adam or adamw.")]
Warmup = Annotated[str, drawn("--warmup", "Steps over which the learning rate rises to its value; 0: none.")]
Schedule = Annotated[
    str, drawn("--schedule", "Learning rate after the warm-up: constant, or cosine (falls to 0 by the end).")
]
DrawnEpochs = Annotated[
    str,
    option(
        "--epochs",
        help="Passes over the training images in a trial; LOW:HIGH draws their number.",
        show_default=f"{SearchConfig.epochs}; architecture: 5:20",
    ),
]
Search = Annotated[
    str,
    option(
        "--search",
        help="The search's name; empty: <dataset>-<model>, or <dataset>-<model>-architecture.",
    ),
]
Seed = Annotated[int, number("--seed", help="Base of every seed.", most=LARGEST_SEED)]
NoRetrain = Annotated[bool, option("--no-retrain", help="Stop after the search.")]
RetrainEpochs = Annotated[
    int, number("--retrain-epochs", help="Passes over all training images in a retraining.", least=1)
]
SomeRetrainEpochs = Annotated[
    int | None,
    number(
        "--retrain-epochs",
        help="Passes over all training images in a retraining.",
        least=1,
        show_default=f"{TrainConfig.epochs}; those of the trial where they are drawn",
    ),
]
Workers = Annotated[
    int,
    number(
        "--workers",
        help="Trials at a time, on a CPU each in a process of its own, on a GPU in turns in one; 0: 1 or 4 of them, on "
        "Ray as many as it has room for.",
        most=MOST_WORKERS,
        **MACHINE,
    ),
]
Engine = Annotated[str, option("--engine", help="local, or ray: the nodes of a Ray cluster.", **CLUSTER)]
Address = Annotated[
    str, option("--address", help="HOST:PORT of the Ray cluster; empty: the one this machine is in.", **CLUSTER)
]
GpusPerTrial = Annotated[
    float,
    option(
        "--gpus-per-trial",
        help="GPUs of each training on Ray: up to 1, or a whole number; 0: it trains on CPUs.",
        parser=decimal("--gpus-per-trial"),
        metavar="NUMBER",
        **CLUSTER,
    ),
]
EngineWorkers = Annotated[
    int,
    number("--workers", help="Trainings at a time on Ray; 0: as many as fit.", most=MOST_WORKERS, **CLUSTER),
]
DryRun = Annotated[bool, option("--dry-run", help="Only say how long it would take; train and record nothing.")]
TrialTimeout = Annotated[
    int,
    number(
        "--trial-timeout",
        help="Stop a worker after so many seconds without a finished epoch, and retry its trial; 0: never.",
        most=10**9,
        **MACHINE,
    ),
]

# Of retrain.
RetrainedModel = Annotated[
    str, option("--model", help="As for tune; empty: that of --run, for best the CNN.", **NETWORKS)
]
RetrainOnlyEpochs = Annotated[
    int | None,
    number(
        "--epochs",
        "Passes over all training images.",
        least=1,
        variable="STUDY_RETRAIN_EPOCHS",
        show_default=f"{TrainConfig.epochs}; those of the trial where its search drew them",
    ),
]
GivenRate = Annotated[
    str, option("--lr", help="Learning rate, with --decay, in place of --run's.", variable="STUDY_RETRAIN_LR")
]
GivenDecay = Annotated[
    str, option("--decay", help="Weight decay, with --lr, in place of --run's.", variable="STUDY_RETRAIN_DECAY")
]
Preset = Annotated[
    str,
    option(
        "--preset",
        help="report: the learning rate and weight decay of the report; a trial of 10 epochs is trained first.",
    ),
]
RetrainSeed = Annotated[
    int | None, number("--seed", help="Seed of initial weights and order; default: the search's.", most=LARGEST_SEED)
]
RetrainSeeds = Annotated[
    int | None,
    number("--seeds", help="Number of seeds to retrain, from --seed on; skips those that are done.", least=1),
]
RetrainAgain = Annotated[bool, option("--again", help="Train again even if it was retrained already.")]

# Of experiment.
ExperimentName = Annotated[
    str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(EXPERIMENTS)}.", **completion(EXPERIMENTS))
]
ExperimentModel = Annotated[
    str, option("--model", help="For winner and recipe, cnn, ffnn or another network; empty: the CNN.", **NETWORKS)
]
ExperimentDataset = Annotated[
    str,
    checked(
        "--dataset",
        require_dataset,
        "cifar10, digits or an image folder; empty: cifar10, for winner and recipe the latest's.",
    ),
]
ExperimentEpochs = Annotated[
    int | None,
    number(
        "--epochs",
        f"Epochs of each training; default {DEAD_FILTERS_EPOCHS}, for winner the search's, for recipe "
        f"{TrainConfig.epochs}.",
        least=1,
        variable="STUDY_EXPERIMENT_EPOCHS",
    ),
]
ExperimentSeeds = Annotated[int, number("--seeds", help="Number of seeds for each setting.", least=1)]
FirstSeed = Annotated[int, number("--seed", help="The first seed.", most=LARGEST_SEED)]
Top = Annotated[int | None, number("--top", help=f"For winner, number of trials; default {WINNER_TOP}.", least=2)]
