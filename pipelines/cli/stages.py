"""The commands of the stages, which train, analyse and explain: options to settings to calls."""

from collections.abc import Mapping
from dataclasses import replace

import typer

from pipelines.cli import options
from pipelines.cli.images import data_of, images_of
from pipelines.config import AnalysisConfig, ExperimentConfig
from pipelines.session.engine import LOCAL, EngineConfig
from pipelines.session.setup import context_of, home_of, store_of
from study.config import (
    AFTER_DATASET,
    MODELS,
    OBJECTIVES,
    REPORT_SETTINGS,
    SPACES,
    CustomConfig,
    DataConfig,
    ModelConfig,
    Range,
    SearchConfig,
    TrainConfig,
    default_trials,
    fixed_search,
    model_config,
)
from study.errors import StudyError, require, require_known
from study.ranges import Choices
from study.system.torchrun import rank, world_size

app = typer.Typer()
SEARCH = SearchConfig(name=AFTER_DATASET)
"""The defaults of a search."""


@app.command()
def data(
    dataset: options.Dataset = DataConfig.dataset,
    image_size: options.ImageSize = DataConfig.image_size,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    json: options.Json = False,
    home: options.Home = "",
) -> None:
    """Fetch or check the images; show the splits and class counts."""
    from pipelines.show import show_data

    show_data(data_of(dataset, image_size, skip_unreadable), home_of(home), json)


@app.command()
def tune(
    model: options.Model = SEARCH.model.name,
    trials: options.Trials = None,
    dataset: options.Dataset = DataConfig.dataset,
    image_size: options.ImageSize = DataConfig.image_size,
    sampler: options.Sampler = SEARCH.sampler,
    pruner: options.Pruner = "",
    objective: options.Objective = OBJECTIVES[0],
    prefer: options.Prefer = "accuracy",
    lr: options.LearningRates = str(SEARCH.learning_rate),
    decay: options.WeightDecays = str(SEARCH.weight_decay),
    epochs: options.DrawnEpochs = "",
    space: options.Space = SPACES[0],
    kernel: options.Kernel = "",
    filters: options.Filters = "",
    padding: options.Padding = "",
    stride: options.Stride = "",
    dilation: options.Dilation = "",
    pool: options.Pool = "",
    pooling: options.Pooling = "",
    hidden: options.Hidden = "",
    optimiser: options.Optimiser = "",
    warmup: options.Warmup = "",
    schedule: options.Schedule = "",
    argument: options.Arguments = None,
    search: options.Search = "",
    seed: options.Seed = SEARCH.seed,
    no_retrain: options.NoRetrain = False,
    retrain_epochs: options.SomeRetrainEpochs = None,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: options.Workers = 0,
    trial_timeout: options.TrialTimeout = SEARCH.trial_timeout,
    engine: options.Engine = LOCAL.name,
    address: options.Address = LOCAL.address,
    gpus_per_trial: options.GpusPerTrial = LOCAL.gpus_per_trial,
    dry_run: options.DryRun = False,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    storage: options.Storage = "",
    quiet: options.Quiet = False,
) -> None:
    """Search hyperparameters, then retrain the best of all searches.

    The same command continues a search that was interrupted, or adds trials where --trials is larger.
    """
    _require_said(dry_run, quiet)
    on = EngineConfig(name=engine, address=address, gpus_per_trial=gpus_per_trial, workers=workers)
    given = {
        "kernel": kernel,
        "filters": filters,
        "padding": padding,
        "stride": stride,
        "dilation": dilation,
        "pool": pool,
        "pooling": pooling,
        "hidden": hidden,
        "optimiser": optimiser,
        "warmup_steps": warmup,
        "schedule": schedule,
        "epochs": epochs,
    }
    arguments = options.assignments(argument)
    objectives = tuple(name.strip() for name in objective.split(","))
    settings = SearchConfig(
        name=search or (AFTER_DATASET if space == SPACES[0] else f"{AFTER_DATASET}-{space}"),
        model=_network(model, arguments),
        trials=default_trials(sampler) if trials is None else trials,
        sampler=sampler,
        pruner=pruner or (SEARCH.pruner if len(objectives) == 1 else "none"),
        objectives=objectives,
        learning_rate=Range.parse(lr, "--lr"),
        weight_decay=Range.parse(decay, "--decay"),
        seed=seed,
        image_size=image_size,
        trial_timeout=trial_timeout,
    )
    from pipelines.reproduce import search_and_retrain
    from study.search.space import in_space
    from study.tracking.best import least_accuracy

    settings = in_space(settings, space, {name: text for name, text in given.items() if text} | arguments)
    least_accuracy(prefer)

    context = context_of(home_of(home), tracking_uri, storage, device, precision, threads, quiet, on)
    loaded = context.load(data_of(dataset, image_size, skip_unreadable))
    retrained_for = 0 if no_retrain else retrain_epochs
    search_and_retrain(settings, loaded, context, epochs=retrained_for, prefer=prefer, workers=workers, dry_run=dry_run)


@app.command()
def retrain(
    model: options.RetrainedModel = "",
    run: options.Run = "best",
    dataset: options.SomeDataset = "",
    image_size: options.SomeImageSize = None,
    epochs: options.RetrainOnlyEpochs = None,
    lr: options.GivenRate = "",
    decay: options.GivenDecay = "",
    preset: options.Preset = "",
    seed: options.RetrainSeed = None,
    seeds: options.RetrainSeeds = None,
    again: options.RetrainAgain = False,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: options.EngineWorkers = 0,
    engine: options.Engine = LOCAL.name,
    address: options.Address = LOCAL.address,
    gpus_per_trial: options.GpusPerTrial = LOCAL.gpus_per_trial,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    storage: options.Storage = "",
    quiet: options.Quiet = False,
) -> None:
    """Train a trial's settings; keep the weights of every epoch.

    On all training images, the validation split included.
    """
    on = EngineConfig(name=engine, address=address, gpus_per_trial=gpus_per_trial, workers=workers)
    require(not (seeds and again), "--seeds trains those that are missing: leave it out, or --again.")
    require(world_size() == 1 or engine == LOCAL.name, f"torchrun does what --engine {engine} does: leave out one.")
    if rank():
        from pipelines.ranks import follow

        follow(home_of(home), device, precision, threads)
        return
    given = _given_search(model or "cnn", run, lr, decay, preset)
    model = model_config(model).name if ":" in model else model
    from pipelines.retrain import retrain as retrain_again
    from pipelines.seeds import retrain_once, retrain_seeds
    from pipelines.session.ties import say_ties
    from study.tracking.best import choose_trial, default_epochs

    context = context_of(home_of(home), tracking_uri, storage, device, precision, threads, quiet, on)
    if world_size() > 1:
        from pipelines.ranks import lead

        context = lead(context)
    if given:
        # Draws the search's figures, whose imports other retrainings need not wait for.
        from pipelines.reproduce import run_only_trial

        size = image_size or DataConfig.image_size
        loaded = context.load(data_of(dataset or DataConfig.dataset, size, skip_unreadable))
        trial = run_only_trial(given, loaded, context)
    elif images := images_of(context.store, run, dataset, image_size, skip_unreadable, stage="trial", model=model):
        loaded = context.load(images)
        trial = choose_trial(context.store, run, model or "cnn", loaded.key, loaded.config)
    else:
        trial = choose_trial(context.store, run, model or "cnn")
        loaded = context.load(trial.data_config)
    if not given:
        say_ties(run, trial, context.store, context.display.say)
    if model and trial.model != model:
        raise StudyError(f"--run {run} is a {trial.model}, not a {model}: leave out --model, or --run.")
    epochs = epochs or default_epochs(context.store, trial)
    if seeds:
        retrain_seeds(trial, loaded, context, epochs=epochs, seed=seed, seeds=seeds)
    else:
        train = retrain_again if again else retrain_once
        train(trial, loaded, context, epochs=epochs, seed=seed)


def _given_search(model: str, run: str, lr: str, decay: str, preset: str) -> SearchConfig | None:
    """The search of one trial at the given settings; None where --run names the trial."""
    if not (lr or decay or preset):
        return None
    require(run == "best", f"--run {run} has settings of its own: leave it out, or --lr, --decay and --preset.")
    if preset:
        require_known("preset", preset, ["report"])
        require(
            not (lr or decay), f"--preset {preset} has a learning rate and a weight decay: leave out --lr and --decay."
        )
        require(model in REPORT_SETTINGS, f"--preset {preset} is for {' and '.join(REPORT_SETTINGS)}, not for {model}.")
        return fixed_search(model, *REPORT_SETTINGS[model])
    require(bool(lr and decay), "A retraining at given settings needs both --lr and --decay.")
    return replace(fixed_search(model, lr, decay), model=_network(model))


def _require_said(dry_run: bool, quiet: bool) -> None:
    require(not (dry_run and quiet), "--dry-run prints an estimate, and --quiet prints none: leave out one.")


def _network(model: str, arguments: Mapping[str, str] | None = None) -> ModelConfig:
    """The settings of the network that --model names, with these further arguments."""
    config = model_config(model)
    if not isinstance(config, CustomConfig) and not arguments:
        return config
    # Imports torch, which a message about another option need not wait for.
    from study.custom import network_settings

    values = {name: Choices.parse(text, f"--argument {name}") for name, text in (arguments or {}).items()}
    return network_settings(model, values)


@app.command()
def analyse(
    run: options.Run = "best",
    dataset: options.SomeDataset = "",
    image_size: options.SomeImageSize = None,
    image: options.Image = AnalysisConfig.image,
    layer: options.Layer = AnalysisConfig.layer,
    filter: options.Filter = AnalysisConfig.filter,
    epochs_every: options.EpochsEvery = AnalysisConfig.epochs_every,
    per_map: options.PerMap = AnalysisConfig.per_map,
    ablation: options.Ablation = AnalysisConfig.ablation,
    explorer_images: options.ExplorerImages = AnalysisConfig.explorer_images,
    only: options.Only = "",
    again: options.AnalyseAgain = False,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    threads: options.Threads = 0,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    quiet: options.Quiet = False,
) -> None:
    """Make the figures, tables and report of a retrained run.

    They are logged to the run, too. Where nothing has changed, nothing is made again.
    """
    settings = AnalysisConfig(
        image=image,
        layer=layer,
        filter=filter,
        epochs_every=epochs_every,
        per_map=per_map,
        ablation=ablation,
        explorer_images=explorer_images,
        only=tuple(name.strip() for name in only.split(",") if name.strip()),
    )
    from pipelines.analyse import analyse as stage

    context = context_of(home_of(home), tracking_uri, threads=threads, is_quiet=quiet)
    images = images_of(context.store, run, dataset, image_size, skip_unreadable)
    analysis = stage(run, settings, context, images, again=again)
    raise typer.Exit(1 if analysis.missing else 0)


@app.command()
def explain(
    run: options.Run = "best",
    image: options.Image = "",
    against: options.Against = "",
    faithfulness: options.Faithfulness = False,
    dataset: options.SomeDataset = "",
    image_size: options.SomeImageSize = None,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    threads: options.Threads = 0,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    quiet: options.Quiet = False,
) -> None:
    """Explain one answer: which filters spoke for it, and where.

    Beside the exact shares of the filters stands what every attribution method says.
    """
    from pipelines.explain import explain as stage

    context = context_of(home_of(home), tracking_uri, threads=threads, is_quiet=quiet)
    images = images_of(context.store, run, dataset, image_size, skip_unreadable)
    stage(run, image, against, context, images, faithful=faithfulness)


@app.command()
def predict(
    photos: options.Photos,
    run: options.Run = "best",
    dataset: options.BestDataset = "",
    json: options.Json = False,
    csv: options.Csv = False,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
) -> None:
    """Classify photos of any size: classes with probabilities."""
    if json and csv:
        raise StudyError("--json and --csv are two forms of the same output: give one.")
    from pipelines.predict import predict as stage
    from pipelines.session.display import Display

    form = "json" if json else "csv" if csv else "table"
    is_whole = stage(photos, run, store_of(home, tracking_uri), Display(is_quiet=form != "table"), form, dataset)
    raise typer.Exit(0 if is_whole else 2)


@app.command()
def experiment(
    name: options.ExperimentName = "",
    model: options.ExperimentModel = ExperimentConfig.model,
    dataset: options.ExperimentDataset = "",
    image_size: options.SomeImageSize = None,
    epochs: options.ExperimentEpochs = ExperimentConfig.epochs,
    seeds: options.ExperimentSeeds = ExperimentConfig.seeds,
    seed: options.FirstSeed = ExperimentConfig.seed,
    top: options.Top = ExperimentConfig.top,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: options.EngineWorkers = 0,
    engine: options.Engine = LOCAL.name,
    address: options.Address = LOCAL.address,
    gpus_per_trial: options.GpusPerTrial = LOCAL.gpus_per_trial,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    quiet: options.Quiet = False,
) -> None:
    """Compare settings over seeds: dead-filters, winner or recipe.

    dead-filters: why filters fall silent. winner: the best trials of a search, with other seeds. recipe: what each
    choice of training brings. All on the validation split.
    """
    on = EngineConfig(name=engine, address=address, gpus_per_trial=gpus_per_trial, workers=workers)
    settings = ExperimentConfig(name=name, model=model, epochs=epochs, seeds=seeds, seed=seed, top=top)
    from pipelines.experiment import experiment as stage

    context = context_of(home_of(home), tracking_uri, "", device, precision, threads, quiet, on)
    images = images_of(context.store, "best", dataset, image_size, skip_unreadable, stage="trial", model=model)
    stage(settings, context, images)


@app.command()
def reproduce(
    dataset: options.Dataset = DataConfig.dataset,
    image_size: options.ImageSize = DataConfig.image_size,
    trials: options.Trials = None,
    epochs: options.Epochs = SEARCH.epochs,
    retrain_epochs: options.RetrainEpochs = TrainConfig.epochs,
    seed: options.Seed = SEARCH.seed,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: options.Workers = 0,
    trial_timeout: options.TrialTimeout = SEARCH.trial_timeout,
    dry_run: options.DryRun = False,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    storage: options.Storage = "",
    quiet: options.Quiet = False,
) -> None:
    """Search, retrain and analyse both models, as the report did.

    For CIFAR-10 the report's Table 2 stands beside ours.
    """
    _require_said(dry_run, quiet)
    searches = [
        SearchConfig(
            name=AFTER_DATASET,
            model=model_config(model),
            trials=default_trials(SEARCH.sampler) if trials is None else trials,
            epochs=epochs,
            seed=seed,
            trial_timeout=trial_timeout,
        )
        for model in MODELS
    ]
    from pipelines.reproduce import reproduce as stage

    images = data_of(dataset, image_size, skip_unreadable)
    context = context_of(home_of(home), tracking_uri, storage, device, precision, threads, quiet)
    analysis = stage(searches, images, context, retrain_epochs=retrain_epochs, workers=workers, dry_run=dry_run)
    raise typer.Exit(1 if analysis and analysis.missing else 0)
