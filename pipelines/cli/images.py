"""The images that the options of a command name: --dataset, --image-size and --skip-unreadable."""

from typing import TYPE_CHECKING

from study.config import DataConfig
from study.errors import require

if TYPE_CHECKING:
    from pipelines.session.context import Context
    from study.data import Dataset
    from study.tracking.runs import Run
    from study.tracking.store import Store


def data_of(dataset: str, image_size: int, skip_unreadable: bool) -> DataConfig:
    """The settings of a data set."""
    return DataConfig(dataset=dataset, image_size=image_size, skip_unreadable=skip_unreadable)


def images_of(
    store: "Store",
    run: str,
    dataset: str,
    image_size: int | None,
    skip_unreadable: bool,
    *,
    stage: str = "retrain",
    model: str = "",
) -> DataConfig | None:
    """The settings of a data set on which `run`, of `stage`, is chosen; None where the run's own images are meant.

    Without an image size, it is that of the run, whose unreadable files are left out too if it left them out. `model`
    is the one that `best` means, by default the CNN.

    Raises:
        StudyError: for an image size without a data set, or an unknown run or model.
    """
    if not dataset:
        require(image_size is None, "--image-size goes with --dataset: a run's own images have the size it recorded.")
        return None
    from study.tracking import best

    # Before the images are loaded, which may take minutes.
    best.require_possible(store, run, model or "cnn")
    like = best.read_as(store, run, stage, dataset)
    return data_of(dataset, image_size or like.image_size, skip_unreadable or like.skip_unreadable)


def trial_and_images(run: str, model: str, images: DataConfig | None, context: "Context") -> "tuple[Run, Dataset]":
    """The trial that --run and --model name, and the data set: the one of `images`, or its own where they are None.

    Raises:
        StudyError: where there is no such trial, or several, or the images cannot be loaded.
    """
    from pipelines.session.ties import say_ties
    from study.tracking.best import choose_trial

    loaded = context.load(images) if images else None
    known = (loaded.key, loaded.config) if loaded else (None, None)
    trial = choose_trial(context.store, run, model or "cnn", *known)
    loaded = loaded or context.load(trial.data_config)
    say_ties(run, trial, context.store, context.display.say)
    return trial, loaded
