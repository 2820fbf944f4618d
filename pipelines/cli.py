"""The command `study`: options to settings, settings to a stage. Heavy imports wait until a command needs them."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.config import (
    AFTER_DATASET,
    EXPERIMENTS,
    MODELS,
    STAGES,
    AnalysisConfig,
    DataConfig,
    ExperimentConfig,
    Home,
    Range,
    SearchConfig,
    default_home,
    model_config,
)
from study.errors import StudyError, unknown

if TYPE_CHECKING:
    from pipelines.context import Context
    from study.tracking import Store

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Search, retrain and look into the networks of “Tracing the Convolutions of a CNN”, every run tracked.",
    epilog="Every option can also be set by its environment variable. Start with `study reproduce --dataset digits`.",
)


def _option(name: str, help: str, variable: str = "", **more: Any) -> Any:
    variable = variable or "STUDY_" + name.strip("-").replace("-", "_").upper()
    return typer.Option(name, help=help, envvar=variable, **more)


def _number(name: str, help: str, least: int = 0, most: int = sys.maxsize, variable: str = "") -> Any:
    """An option that is a whole number from `least` to `most`; typer's own messages do not name the bad value."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise StudyError(f"{name} is {text!r}: it must be a whole number.") from None
        if not least <= value <= most:
            bounds = f"at least {least}" if most == sys.maxsize else f"from {least} to {most}"
            raise StudyError(f"{name} is {value}: it must be {bounds}.")
        return value

    return _option(name, help, variable, parser=parse, metavar="INTEGER")


Dataset = Annotated[str, _option("--dataset", help="cifar10, digits, or the path of an image folder.")]
SomeDataset = Annotated[str, _option("--dataset", help="cifar10, digits or an image folder; empty: the latest run's.")]
Skip = Annotated[bool, _option("--skip-unreadable", help="Leave out image files that cannot be read.")]
Model = Annotated[str, _option("--model", help="cnn or ffnn.")]
Trials = Annotated[
    int | None,
    _number("--trials", help="Total of finished trials that the search ends with; default 40, grid 64.", least=1),
]
Epochs = Annotated[int, _number("--epochs", help="Passes over the training images in a trial.", least=1)]
RetrainEpochs = Annotated[
    int, _number("--retrain-epochs", help="Passes over all training images in a retraining.", least=1)
]
Seed = Annotated[int, _number("--seed", help="Base of every seed.")]
RunSpec = Annotated[str, _option("--run", help="best, best:ffnn, a run id, a unique prefix of one, or a run name.")]
Device = Annotated[str, _option("--device", help="auto (a GPU where there is one), cpu, cuda or cuda:N.")]
Precision = Annotated[str, _option("--precision", help="auto (bf16 where the hardware has it), float32 or bf16.")]
Threads = Annotated[int, _number("--threads", help="CPU threads; 0 leaves it to torch.", most=1024)]
Workers = Annotated[
    int,
    _number(
        "--workers",
        help="Trials at a time, on a CPU each in a process of its own, on a GPU in turns in one; 0: 1 or 4 of them.",
        most=256,
    ),
]
HomeOption = Annotated[str, _option("--home", help="Folder of mlruns/, reports/ and data/; empty: the project's.")]
Uri = Annotated[
    str, _option("--tracking-uri", help="MLflow store; empty: inside the home folder.", variable="MLFLOW_TRACKING_URI")
]
Storage = Annotated[str, _option("--storage", help="Optuna storage URL; empty: inside the home folder.")]
Image = Annotated[str, _option("--image", help="train:6, test:12, a class, class/3, or a file; empty: the first bird.")]
Layer = Annotated[str, _option("--layer", help="conv1 or conv2; empty: both.")]
Filter = Annotated[int | None, _number("--filter", help="Which filter is followed, from 0; default 12, the report's.")]
Every = Annotated[int, _number("--epochs-every", help="Show every how many epochs.", least=1)]


def _home(folder: str) -> Home:
    if folder:
        return Home(root=Path(folder).expanduser().resolve())
    home = default_home()
    if home.root == Path.cwd() and not (home.root / "pyproject.toml").is_file():
        print(f"mlruns/, reports/ and data/ are kept in {home.root} (STUDY_HOME chooses another folder).")
    return home


def _store(home: str, uri: str) -> "Store":
    from study.tracking import Store

    return Store(_home(home), uri or None)


def _context(home: str, uri: str, storage: str, device: str, precision: str, threads: int) -> "Context":
    from pipelines.context import Context
    from pipelines.progress import Display
    from study.device import prepare
    from study.search import default_storage

    machine = prepare(device, precision, threads)
    if storage and storage == uri:
        raise StudyError(
            f"{storage} cannot hold both MLflow's runs and Optuna's trials: give --storage another database."
        )
    store = _store(home, uri)
    return Context(store.home, store, storage or default_storage(store.home), machine, Display())


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a stage in order: what is under way is closed in the stores, and the exit code tells."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        print("Interrupted; the same command continues.", file=sys.stderr)
        raise typer.Exit(128 + (error.args[0] if error.args else signal.SIGINT)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _stage(command: Callable[..., None]) -> Callable[..., None]:
    @wraps(command)
    def run(**options: Any) -> None:
        with _interruptible():
            command(**options)

    return run


@app.command()
@_stage
def data(dataset: Dataset = "cifar10", skip_unreadable: Skip = False, home: HomeOption = "") -> None:
    """Fetch or check the images; show their splits and the count of each class."""
    from pipelines.show import show_data

    show_data(DataConfig(dataset=dataset, skip_unreadable=skip_unreadable), _home(home))


@app.command()
@_stage
def tune(
    model: Model = "cnn",
    trials: Trials = None,
    dataset: Dataset = "cifar10",
    sampler: Annotated[str, _option("--sampler", help="tpe, random, or grid (the report's 8 × 8).")] = "tpe",
    pruner: Annotated[str, _option("--pruner", help="percentile, hyperband, median or none.")] = "percentile",
    lr: Annotated[str, _option("--lr", help="Learning rates, LOW:HIGH.")] = "1e-5:1e-1",
    decay: Annotated[str, _option("--decay", help="Weight decays, LOW:HIGH.")] = "1e-6:1e-1",
    epochs: Epochs = 10,
    search: Annotated[str, _option("--search", help="The search's name; empty: <dataset>-<model>.")] = "",
    seed: Seed = 0,
    no_retrain: Annotated[bool, _option("--no-retrain", help="Stop after the search.")] = False,
    retrain_epochs: RetrainEpochs = 30,
    skip_unreadable: Skip = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
    workers: Workers = 0,
    home: HomeOption = "",
    tracking_uri: Uri = "",
    storage: Storage = "",
) -> None:
    """Search learning rate and weight decay; then retrain the best. The same command continues a search."""
    settings = SearchConfig(
        name=search or AFTER_DATASET,
        model=model_config(model),
        trials=(64 if sampler == "grid" else 40) if trials is None else trials,
        sampler=sampler,
        pruner=pruner,
        learning_rate=Range.parse(lr),
        weight_decay=Range.parse(decay),
        epochs=epochs,
        seed=seed,
    )
    from pipelines.reproduce import search_and_retrain

    images = DataConfig(dataset=dataset, skip_unreadable=skip_unreadable)
    context = _context(home, tracking_uri, storage, device, precision, threads)
    loaded = context.load(images)
    search_and_retrain(settings, images, loaded, context, epochs=0 if no_retrain else retrain_epochs, workers=workers)


@app.command()
@_stage
def retrain(
    model: Annotated[str, _option("--model", help="cnn or ffnn; empty: that of --run, for best the CNN.")] = "",
    run: RunSpec = "best",
    dataset: SomeDataset = "",
    epochs: Annotated[
        int, _number("--epochs", "Passes over all training images.", least=1, variable="STUDY_RETRAIN_EPOCHS")
    ] = 30,
    seed: Annotated[
        int | None, _number("--seed", help="Of initial weights and order; default: the search's.", least=0)
    ] = None,
    seeds: Annotated[
        int | None, _number("--seeds", help="Retrain so many seeds, counted from --seed; skips those done.", least=1)
    ] = None,
    skip_unreadable: Skip = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
    home: HomeOption = "",
    tracking_uri: Uri = "",
) -> None:
    """Train a trial's settings on all training images, keeping the weights of every epoch."""
    if model:
        model_config(model)
    from pipelines import retrain as stage
    from study.selection import choose_trial

    context = _context(home, tracking_uri, "", device, precision, threads)
    if dataset:
        images = DataConfig(dataset=dataset, skip_unreadable=skip_unreadable)
        loaded = context.load(images)
        trial = choose_trial(context.store, run, model or "cnn", loaded.key)
    else:
        trial = choose_trial(context.store, run, model or "cnn")
        images = DataConfig.from_params(trial.params)
        loaded = context.load(images)
    if model and trial.params["model"] != model:
        raise StudyError(f"--run {run} is a {trial.params['model']}, not a {model}: leave out --model, or --run.")
    if seeds:
        stage.retrain_seeds(trial, images, loaded, context, epochs=epochs, seed=seed, seeds=seeds)
    else:
        stage.retrain(trial, images, loaded, context, epochs=epochs, seed=seed)


@app.command()
@_stage
def analyse(
    run: RunSpec = "best",
    dataset: SomeDataset = "",
    image: Image = "",
    layer: Layer = "",
    filter: Filter = None,
    epochs_every: Every = 2,
    per_map: Annotated[bool, _option("--per-map", help="Give each feature map a scale of its own.")] = False,
    ablation: Annotated[
        str, _option("--ablation", help="What replaces a filter's map: mean (over the test images) or zero.")
    ] = "mean",
    only: Annotated[
        str,
        _option("--only", help="Make these figures alone, NAME[,NAME…], and show them in only.html; empty: all."),
    ] = "",
    skip_unreadable: Skip = False,
    home: HomeOption = "",
    tracking_uri: Uri = "",
) -> None:
    """Make a retrained run's figures, tables and report, and log them to it."""
    settings = AnalysisConfig(
        image=image,
        layer=layer,
        filter=filter,
        epochs_every=epochs_every,
        per_map=per_map,
        ablation=ablation,
        only=tuple(name.strip() for name in only.split(",") if name.strip()),
    )
    from pipelines.analyse import analyse as stage

    images = DataConfig(dataset=dataset, skip_unreadable=skip_unreadable) if dataset else None
    made = stage(run, settings, _context(home, tracking_uri, "", "cpu", "float32", 0), images)
    raise typer.Exit(1 if made.missing else 0)


@app.command()
@_stage
def experiment(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(EXPERIMENTS)}.")] = "",
    model: Annotated[str, _option("--model", help="For winner, cnn or ffnn; empty: the CNN.")] = "",
    dataset: Annotated[
        str, _option("--dataset", help="cifar10, digits or an image folder; empty: cifar10, for winner the latest's.")
    ] = "",
    epochs: Annotated[
        int | None,
        _number(
            "--epochs",
            "Of each training; default 5, for winner the search's.",
            least=1,
            variable="STUDY_EXPERIMENT_EPOCHS",
        ),
    ] = None,
    seeds: Annotated[int, _number("--seeds", help="Trainings of each of the settings.", least=1)] = 3,
    seed: Annotated[int, _number("--seed", help="The first of the seeds.")] = 0,
    top: Annotated[int | None, _number("--top", help="For winner, how many trials; default 3.", least=2)] = None,
    skip_unreadable: Skip = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
    home: HomeOption = "",
    tracking_uri: Uri = "",
) -> None:
    """Compare settings over seeds on the validation split: dead-filters, or a search's winner and its runners-up."""
    settings = ExperimentConfig(name=name, model=model, epochs=epochs, seeds=seeds, seed=seed, top=top)
    from pipelines.experiment import experiment as stage

    images = DataConfig(dataset=dataset, skip_unreadable=skip_unreadable) if dataset else None
    stage(settings, _context(home, tracking_uri, "", device, precision, threads), images)


@app.command()
@_stage
def reproduce(
    dataset: Dataset = "cifar10",
    trials: Annotated[int, _number("--trials", help="Total of finished trials of each model's search.")] = 40,
    epochs: Epochs = 10,
    retrain_epochs: RetrainEpochs = 30,
    seed: Seed = 0,
    skip_unreadable: Skip = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
    workers: Workers = 0,
    home: HomeOption = "",
    tracking_uri: Uri = "",
    storage: Storage = "",
) -> None:
    """Search, retrain and analyse both models; show the report's Table 2 beside ours."""
    searches = [
        SearchConfig(name=AFTER_DATASET, model=model_config(model), trials=trials, epochs=epochs, seed=seed)
        for model in MODELS
    ]
    from pipelines.reproduce import reproduce as stage

    images = DataConfig(dataset=dataset, skip_unreadable=skip_unreadable)
    context = _context(home, tracking_uri, storage, device, precision, threads)
    made = stage(searches, images, context, retrain_epochs=retrain_epochs, workers=workers)
    raise typer.Exit(1 if made.missing else 0)


@app.command()
@_stage
def runs(
    stage: Annotated[str, _option("--stage", help=f"{', '.join(STAGES)}; empty: all but trials and replicates.")] = "",
    limit: Annotated[int, _number("--limit", help="The latest so many.", least=1)] = 20,
    home: HomeOption = "",
    tracking_uri: Uri = "",
) -> None:
    """List the tracked runs in the terminal, the latest first."""
    if stage not in ("", *STAGES):
        raise unknown("stage", stage, STAGES)
    from pipelines.show import show_runs

    show_runs(_store(home, tracking_uri), stage, limit)


@app.command()
def ui(
    port: Annotated[int, _number("--port", help="Port of the page.", least=1, most=65535)] = 5000,
    host: Annotated[str, _option("--host", help="Address it is served on.")] = "127.0.0.1",
    home: HomeOption = "",
    tracking_uri: Uri = "",
) -> None:
    """Serve MLflow's pages of the tracked runs on this machine."""
    from pipelines.show import serve

    serve(_store(home, tracking_uri), host, port)


def main() -> None:
    """Runs the command; what the user can mend is one sentence and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (StudyError, typer.TyperException) as error:
        text = str(error) if isinstance(error, StudyError) else error.format_message()
        print(f"study: {text}", file=sys.stderr)
        code = 2
    except typer.Abort:
        code = 130
    sys.exit(code or 0)
