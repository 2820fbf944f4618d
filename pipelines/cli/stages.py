"""The commands that show images, analyse, explain and classify: options to settings to calls."""

import typer

from pipelines.cli import options
from pipelines.cli.images import data_of, images_of
from pipelines.config import AnalysisConfig
from pipelines.session.setup import context_of, home_of, store_of
from study.config import DataConfig
from study.errors import StudyError


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


def predict(
    photos: options.Photos,
    run: options.Run = "best",
    dataset: options.BestDataset = "",
    json: options.Json = False,
    csv: options.Csv = False,
    home: options.Home = "",
    tracking_uri: options.Uri = "",
) -> None:
    """Classify photos: classes with probabilities.

    Photos of any size are resized to that of the images which the run was trained on.
    """
    if json and csv:
        raise StudyError("--json and --csv are two forms of the same output: give one.")
    from pipelines.predict import predict as stage
    from pipelines.session.display import Display

    form = "json" if json else "csv" if csv else "table"
    is_whole = stage(photos, run, store_of(home, tracking_uri), Display(is_quiet=form != "table"), form, dataset)
    raise typer.Exit(0 if is_whole else 2)
