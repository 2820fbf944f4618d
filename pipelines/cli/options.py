"""The options of several commands, and of those that analyse, explain and predict.

Each can be set by its environment variable too.
"""

from typing import Annotated

import typer

from pipelines.cli.values import MACHINE, checked, number, option, require_dataset, require_device
from pipelines.cli.versions import show_versions
from pipelines.config import MOST_EXPLORER_IMAGES, REPORT_FILTER
from study.config import LARGEST_IMAGE, PRECISIONS, SMALLEST_IMAGE
from study.errors import require_known

STORES = {"rich_help_panel": "Stores"}
"""Group of options in the help."""

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
Dataset = Annotated[str, checked("--dataset", require_dataset, "cifar10, digits, or the path of an image folder.")]
SomeDataset = Annotated[
    str, checked("--dataset", require_dataset, "cifar10, digits or an image folder; empty: the latest run's.")
]
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
Device = Annotated[
    str, checked("--device", require_device, "auto (a GPU where there is one), cpu, cuda or cuda:N.", **MACHINE)
]
Precision = Annotated[
    str,
    checked(
        "--precision",
        lambda text: require_known("precision", text, PRECISIONS),
        "auto (bf16 where the hardware has it), float32 or bf16.",
        **MACHINE,
    ),
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
