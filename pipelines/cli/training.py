"""The commands that train: options to settings to calls."""

import typer

from pipelines.cli import options, training_options
from pipelines.cli.images import data_of, images_of, trial_and_images
from pipelines.cli.searches import given_search, network_of
from pipelines.cli.values import assignments
from pipelines.config import ExperimentConfig
from pipelines.session.engine import LOCAL, EngineConfig
from pipelines.session.setup import context_of, home_of
from study.architectures import MODELS
from study.config import (
    AFTER_DATASET,
    OBJECTIVES,
    SPACES,
    DataConfig,
    SearchConfig,
    TrainConfig,
    default_trials,
    model_config,
)
from study.errors import StudyError, require
from study.ranges import Range
from study.system.torchrun import rank, world_size

SEARCH = SearchConfig(name=AFTER_DATASET)
"""The defaults of a search."""


def tune(
    model: training_options.Model = SEARCH.model.name,
    trials: training_options.Trials = None,
    dataset: options.Dataset = DataConfig.dataset,
    image_size: options.ImageSize = DataConfig.image_size,
    sampler: training_options.Sampler = SEARCH.sampler,
    pruner: training_options.Pruner = "",
    objective: training_options.Objective = OBJECTIVES[0],
    prefer: training_options.Prefer = "accuracy",
    lr: training_options.LearningRates = str(SEARCH.learning_rate),
    decay: training_options.WeightDecays = str(SEARCH.weight_decay),
    epochs: training_options.DrawnEpochs = "",
    space: training_options.Space = SPACES[0],
    kernel: training_options.Kernel = "",
    filters: training_options.Filters = "",
    padding: training_options.Padding = "",
    stride: training_options.Stride = "",
    dilation: training_options.Dilation = "",
    pool: training_options.Pool = "",
    pooling: training_options.Pooling = "",
    hidden: training_options.Hidden = "",
    optimiser: training_options.Optimiser = "",
    warmup: training_options.Warmup = "",
    schedule: training_options.Schedule = "",
    argument: training_options.Arguments = None,
    search: training_options.Search = "",
    seed: training_options.Seed = SEARCH.seed,
    no_retrain: training_options.NoRetrain = False,
    retrain_epochs: training_options.SomeRetrainEpochs = None,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: training_options.Workers = 0,
    trial_timeout: training_options.TrialTimeout = SEARCH.trial_timeout,
    engine: training_options.Engine = LOCAL.name,
    address: training_options.Address = LOCAL.address,
    gpus_per_trial: training_options.GpusPerTrial = LOCAL.gpus_per_trial,
    dry_run: training_options.DryRun = False,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    storage: options.Storage = "",
    quiet: options.Quiet = False,
) -> None:
    """Search hyperparameters, then retrain the best of all searches.

    The same command continues a search that was interrupted, or adds trials where --trials is larger.
    """
    _require_said(dry_run, quiet, is_alone=engine == LOCAL.name)
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
    arguments = assignments(argument)
    objectives = tuple(name.strip() for name in objective.split(","))
    settings = SearchConfig(
        name=search or (AFTER_DATASET if space == SPACES[0] else f"{AFTER_DATASET}-{space}"),
        model=network_of(model, arguments),
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
    from study.search.space import in_space

    settings = in_space(settings, space, {name: text for name, text in given.items() if text} | arguments)
    # Imports torch and MLflow, for which a message about an option need not wait.
    from pipelines.reproduce import search_and_retrain

    context = context_of(home_of(home), tracking_uri, storage, device, precision, threads, quiet, on)
    loaded = context.load(data_of(dataset, image_size, skip_unreadable))
    retrained_for = 0 if no_retrain else retrain_epochs
    search_and_retrain(settings, loaded, context, epochs=retrained_for, prefer=prefer, workers=workers, dry_run=dry_run)


def retrain(
    model: training_options.RetrainedModel = "",
    run: options.Run = "best",
    dataset: options.SomeDataset = "",
    image_size: options.SomeImageSize = None,
    epochs: training_options.RetrainOnlyEpochs = None,
    lr: training_options.GivenRate = "",
    decay: training_options.GivenDecay = "",
    preset: training_options.Preset = "",
    seed: training_options.RetrainSeed = None,
    seeds: training_options.RetrainSeeds = None,
    again: training_options.RetrainAgain = False,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: training_options.EngineWorkers = 0,
    engine: training_options.Engine = LOCAL.name,
    address: training_options.Address = LOCAL.address,
    gpus_per_trial: training_options.GpusPerTrial = LOCAL.gpus_per_trial,
    dry_run: training_options.DryRun = False,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    storage: options.Storage = "",
    quiet: options.Quiet = False,
) -> None:
    """Train a trial's settings; keep the weights of every epoch.

    On all training images, the validation split included.
    """
    on = EngineConfig(name=engine, address=address, gpus_per_trial=gpus_per_trial, workers=workers)
    _require_said(dry_run, quiet, is_alone=engine == LOCAL.name and world_size() == 1)
    require(not (seeds and again), "--seeds trains those that are missing: leave it out, or --again.")
    require(world_size() == 1 or engine == LOCAL.name, f"torchrun does what --engine {engine} does: leave out one.")
    if rank():
        from pipelines.ranks import follow

        follow(home_of(home), device, precision, threads)
        return
    given = given_search(model or "cnn", run, lr, decay, preset)
    model = model_config(model).name if ":" in model else model
    from pipelines.retrain import retrain as retrain_again
    from pipelines.seeds import estimate, retrain_once, retrain_seeds
    from study.tracking.best import default_epochs

    context = context_of(home_of(home), tracking_uri, storage, device, precision, threads, quiet, on)
    if world_size() > 1:
        from pipelines.ranks import lead

        context = lead(context)
    if given:
        # Draws the search's figures, whose imports other retrainings need not wait for.
        from pipelines.reproduce import estimate_given, run_only_trial

        size = image_size or DataConfig.image_size
        loaded = context.load(data_of(dataset or DataConfig.dataset, size, skip_unreadable))
        if dry_run:
            estimate_given(given, loaded, context, epochs=epochs, seeds=seeds or 1)
            return
        trial = run_only_trial(given, loaded, context)
    else:
        images = images_of(context.store, run, dataset, image_size, skip_unreadable, stage="trial", model=model)
        trial, loaded = trial_and_images(run, model, images, context)
    if model and trial.model != model:
        raise StudyError(f"--run {run} is a {trial.model}, not a {model}: leave out --model, or --run.")
    epochs = epochs or default_epochs(context.store, trial)
    if dry_run:
        estimate(trial, loaded, context, epochs=epochs, seed=seed, seeds=seeds or 1, again=again)
    elif seeds:
        retrain_seeds(trial, loaded, context, epochs=epochs, seed=seed, seeds=seeds)
    else:
        train = retrain_again if again else retrain_once
        train(trial, loaded, context, epochs=epochs, seed=seed)


def experiment(
    name: training_options.ExperimentName = "",
    model: training_options.ExperimentModel = ExperimentConfig.model,
    dataset: training_options.ExperimentDataset = "",
    image_size: options.SomeImageSize = None,
    epochs: training_options.ExperimentEpochs = ExperimentConfig.epochs,
    seeds: training_options.ExperimentSeeds = ExperimentConfig.seeds,
    seed: training_options.FirstSeed = ExperimentConfig.seed,
    top: training_options.Top = ExperimentConfig.top,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: training_options.EngineWorkers = 0,
    engine: training_options.Engine = LOCAL.name,
    address: training_options.Address = LOCAL.address,
    gpus_per_trial: training_options.GpusPerTrial = LOCAL.gpus_per_trial,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
    quiet: options.Quiet = False,
) -> None:
    """Compare settings over seeds: dead-filters, winner or recipe.

    dead-filters: why filters fall silent.

    winner: the best trials of a search, with other seeds.

    recipe: what each choice of training brings.

    All on the validation split.
    """
    on = EngineConfig(name=engine, address=address, gpus_per_trial=gpus_per_trial, workers=workers)
    settings = ExperimentConfig(name=name, model=model, epochs=epochs, seeds=seeds, seed=seed, top=top)
    from pipelines.experiment import experiment as stage

    context = context_of(home_of(home), tracking_uri, "", device, precision, threads, quiet, on)
    images = images_of(context.store, "best", dataset, image_size, skip_unreadable, stage="trial", model=model)
    stage(settings, context, images)


def reproduce(
    dataset: options.Dataset = DataConfig.dataset,
    image_size: options.ImageSize = DataConfig.image_size,
    trials: training_options.Trials = None,
    epochs: training_options.Epochs = SEARCH.epochs,
    retrain_epochs: training_options.RetrainEpochs = TrainConfig.epochs,
    seed: training_options.Seed = SEARCH.seed,
    skip_unreadable: options.Skip = DataConfig.skip_unreadable,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    workers: training_options.Workers = 0,
    trial_timeout: training_options.TrialTimeout = SEARCH.trial_timeout,
    dry_run: training_options.DryRun = False,
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


def _require_said(dry_run: bool, quiet: bool, is_alone: bool = True) -> None:
    require(not dry_run or is_alone, "--dry-run times steps on this machine: leave out --engine, and torchrun.")
    require(not (dry_run and quiet), "--dry-run prints an estimate, and --quiet prints none: leave out one.")
