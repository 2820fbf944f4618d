"""The options of the commands that train and analyse; each can be set by its environment variable too."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from pipelines.cli.versions import show_versions
from pipelines.config import DEAD_FILTERS_EPOCHS, EXPERIMENTS, MOST_EXPLORER_IMAGES, REPORT_FILTER, WINNER_TOP
from study.config import (
    ARCHITECTURES,
    LARGEST_IMAGE,
    MOST,
    SMALLEST_IMAGE,
    SearchConfig,
    TrainConfig,
    default_trials,
)
from study.errors import StudyError, require
from study.system.debugging import VARIABLE
from study.system.redaction import masked

MOST_WORKERS = 256
"""Maximum number of trainings at a time."""
LARGEST_SEED = 2**31 - 1
"""Maximum seed: some generators take 32 bits, and a trial's seed is the base plus the number of its draw."""
LONGEST = 60
"""Maximum length of a bad value that an error quotes."""


def option(name: str, help: str, variable: str = "", short: str = "", **more: Any) -> Any:
    """An option that can also be set by the environment's `variable`; by default STUDY_ and its name."""
    help += f" [env var: {variable}]" if variable else ""
    variable = variable or "STUDY_" + name.strip("-").replace("-", "_").upper()
    names = (name, short) if short else (name,)
    return typer.Option(*names, help=help, envvar=variable, show_envvar=False, **more)


def number(name: str, help: str, least: int = 0, most: int = MOST, variable: str = "", **more: Any) -> Any:
    """An option that is a whole number from `least` to `most`; typer's own messages do not name the bad value."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise StudyError(f"{name} is {_quoted(text)}: it must be a whole number.") from None
        if not least <= value <= most:
            bounds = f"at least {least}" if value < least and most == MOST else f"from {least} to {most}"
            raise StudyError(f"{name} is {value}: it must be {bounds}.")
        return value

    return option(name, help, variable, parser=parse, metavar="INTEGER", **more)


def _decimal(name: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise StudyError(f"{name} is {_quoted(text)}: it must be a number.") from None
        return value

    return parse


def variables_behind(text: str, environment: Mapping[str, str]) -> str:
    """A sentence on the variables of the `environment` whose values the error `text` quotes, but does not name.

    A value that is on the command line too is taken to come from there.
    """
    # Values in a suggested command do not count.
    text = re.sub("`.*?`", "", text)
    given = {name: value for name, value in environment.items() if name.startswith(("STUDY_", "MLFLOW_TRACKING_URI"))}
    given.pop(VARIABLE, None)
    hidden = {name: value for name, value in given.items() if value and value not in sys.argv and name not in text}
    named = [name for name, value in hidden.items() if _is_named(value, text) or _is_named(masked(value), text)]
    return f" (It comes from {' and '.join(sorted(named))}.)" if named else ""


def variable_of(error: typer.TyperException, environment: Mapping[str, str]) -> str:
    """A sentence on the variable of the `environment` with the value that typer refuses; empty where it was typed."""
    option: Any = getattr(error, "param", None)
    variable = getattr(option, "envvar", None)
    if not isinstance(variable, str) or not environment.get(variable) or {*option.opts} & {*sys.argv}:
        return ""
    return f" ({variable} is {_quoted(environment[variable])}.)"


def _is_named(value: str, text: str) -> bool:
    # Longer values count as whole words; a short one may occur by chance.
    whole = rf"(?<![\w/]){re.escape(value)}(?![\w/])"
    return repr(value) in text or f" is {value}:" in text or (len(value) > 4 and bool(re.search(whole, text)))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


MACHINE: dict[str, Any] = {"rich_help_panel": "Machine"}
STORES: dict[str, Any] = {"rich_help_panel": "Stores"}
CLUSTER: dict[str, Any] = {"rich_help_panel": "Cluster"}
"""Groups of options in the help."""

# Of the command itself.
Config = Annotated[
    str, option("--config", help="TOML file of option values; empty: tool.study in ./pyproject.toml, if any.")
]
Version = Annotated[
    bool,
    typer.Option(
        "--version",
        help="Show the versions of study, Python, torch, MLflow and Optuna.",
        callback=show_versions,
        is_eager=True,
    ),
]

# Of several commands.
Dataset = Annotated[str, option("--dataset", help="cifar10, digits, or the path of an image folder.")]
SomeDataset = Annotated[str, option("--dataset", help="cifar10, digits or an image folder; empty: the latest run's.")]
BestDataset = Annotated[
    str,
    option("--dataset", help="For best, what it was trained on: its key, or as for tune; empty: the latest run's."),
]
ImageSize = Annotated[
    int,
    number(
        "--image-size",
        help="Side in pixels of the squares that images are resized to.",
        least=SMALLEST_IMAGE,
        most=LARGEST_IMAGE,
    ),
]
SomeImageSize = Annotated[
    int | None,
    number(
        "--image-size",
        help="Side in pixels that --dataset's images are resized to; default: the run's.",
        least=SMALLEST_IMAGE,
        most=LARGEST_IMAGE,
    ),
]
Skip = Annotated[bool, option("--skip-unreadable", help="Skip image files that cannot be read.")]
Run = Annotated[
    str,
    option(
        "--run",
        help="best, best:ffnn, best:parameters:0.70 (the smallest that reaches it), a run id, its prefix or a name.",
    ),
]
Device = Annotated[str, option("--device", help="auto (a GPU where there is one), cpu, cuda or cuda:N.", **MACHINE)]
Precision = Annotated[
    str, option("--precision", help="auto (bf16 where the hardware has it), float32 or bf16.", **MACHINE)
]
Threads = Annotated[int, number("--threads", help="CPU threads; 0 leaves it to torch.", most=1024, **MACHINE)]
Home = Annotated[str, option("--home", help="Folder of mlruns/, reports/ and data/; empty: the project's.", **STORES)]
Uri = Annotated[
    str,
    option(
        "--tracking-uri", help="MLflow store; empty: inside the home folder.", variable="MLFLOW_TRACKING_URI", **STORES
    ),
]
Storage = Annotated[str, option("--storage", help="Optuna storage URL; empty: inside the home folder.", **STORES)]

Quiet = Annotated[bool, option("--quiet", help="Print errors only, and show no progress.", short="-q")]
Json = Annotated[bool, option("--json", help="Print JSON instead of a table.")]

# Of tune and reproduce.
Model = Annotated[
    str, option("--model", help=f"cnn, ffnn, {', '.join(ARCHITECTURES)}, or your function: package.module:function.")
]
Trials = Annotated[
    int | None,
    number(
        "--trials",
        help=f"Total number of finished trials; default {SearchConfig.trials}, grid {default_trials('grid')}.",
        least=1,
    ),
]
Sampler = Annotated[str, option("--sampler", help="tpe, random, or grid (the report's 8 × 8).")]
Pruner = Annotated[
    str,
    option(
        "--pruner",
        help="percentile, hyperband, median or none.",
        show_default=f"{SearchConfig.pruner}; none with two objectives",
    ),
]
Objective = Annotated[
    str, option("--objective", help="accuracy, or accuracy,parameters: also few parameters, without pruning.")
]
Prefer = Annotated[
    str,
    option(
        "--prefer",
        help="Which trial is retrained: accuracy (the highest), or parameters:0.70 (the smallest that reaches it).",
    ),
]
LearningRates = Annotated[str, option("--lr", help="Learning rates, LOW:HIGH, or one value.")]
WeightDecays = Annotated[str, option("--decay", help="Weight decays, LOW:HIGH, or one value.")]
Epochs = Annotated[int, number("--epochs", help="Passes over the training images in a trial.", least=1)]


def assignments(words: list[str] | None) -> dict[str, str]:
    """The values of each ``NAME=VALUES``, by name.

    Raises:
        StudyError: for a word that is none, or a name that is given twice.
    """
    values: dict[str, str] = {}
    for word in words or ():
        name, _, text = word.partition("=")
        require(text != "", f"--argument is {_quoted(word)}: write NAME=VALUES, e.g. width=8:64.")
        require(name.strip() not in values, f"--argument {name} is given twice: list all values in one: width=8,16.")
        values[name.strip()] = text
    return values


def drawn(name: str, help: str, variable: str = "") -> Any:
    """An option of a hyperparameter that a search can draw; left empty, --space decides."""
    return option(name, help, variable, rich_help_panel="Search space (one value, several: 3,5, or counts: 8:64)")


Space = Annotated[
    str,
    drawn("--space", "report (learning rate and weight decay) or architecture (and the network and how it trains)."),
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
        parser=_decimal("--gpus-per-trial"),
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
RetrainedModel = Annotated[str, option("--model", help="As for tune; empty: that of --run, for best the CNN.")]
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

# Of analyse.
Image = Annotated[
    str, option("--image", help="train:6 or 6, test:12, a class, class/3, or a file; empty: the first bird.")
]
Layer = Annotated[
    str, option("--layer", help="Convolutions, conv1[,conv2…]; empty: both, of other networks the first and the last.")
]
Filter = Annotated[
    int | None,
    number(
        "--filter",
        help=f"Number of the filter to follow, from 0; default {REPORT_FILTER}, the report's, and the most important.",
    ),
]
EpochsEvery = Annotated[int, number("--epochs-every", help="Interval between the epochs that are shown.", least=1)]
PerMap = Annotated[bool, option("--per-map", help="Give each map of a layer its own colour scale.")]
Ablation = Annotated[
    str, option("--ablation", help="What replaces a filter's map: mean (over the test images) or zero.")
]
ExplorerImages = Annotated[
    int | None,
    number(
        "--explorer-images",
        "Images on the explorer's page; default: the chosen one and one of each class.",
        least=1,
        most=MOST_EXPLORER_IMAGES,
    ),
]
Only = Annotated[
    str, option("--only", help="Make only these figures, NAME[,NAME…], in the report's folder only/; empty: all.")
]
AnalyseAgain = Annotated[
    bool, option("--again", help="Draw and compute everything again, even where nothing has changed.")
]

# Of explain.
Against = Annotated[
    str, option("--against", help="The rival class; empty: the runner-up, where the image is misclassified its class.")
]
Faithfulness = Annotated[
    bool,
    option("--faithfulness", help="Measure on 100 test images which methods can be believed, once for the run."),
]

# Of predict.
Photos = Annotated[
    list[str],
    typer.Argument(metavar="PHOTO…", help="Image files, folders of them, or - for one on the standard input."),
]
Csv = Annotated[bool, option("--csv", help="Print CSV instead of a table.")]

# Of experiment.
ExperimentName = Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(EXPERIMENTS)}.")]
ExperimentModel = Annotated[
    str, option("--model", help="For winner and recipe, cnn, ffnn or another network; empty: the CNN.")
]
ExperimentDataset = Annotated[
    str,
    option("--dataset", help="cifar10, digits or an image folder; empty: cifar10, for winner and recipe the latest's."),
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
