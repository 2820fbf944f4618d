"""`study predict`: the classes of photos with their probabilities, by the weights of a retrained run.

It loads the run's weights, checked by their hash, and not its MLflow model, which is for others to serve.
"""

import json
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.drawing.wording import counted, model_label
from pipelines.session.display import Display
from pipelines.session.lines import say
from pipelines.session.ties import say_ties
from study.errors import StudyError
from study.models import trained_model
from study.pictures.decoding import Photo, read_photo, why_unreadable
from study.served import Served
from study.sources.listing import images_below
from study.system import interruption
from study.system.redaction import one_line
from study.tracking.artifacts import weights_path
from study.tracking.best import choose_retrained_on
from study.tracking.hints import retraining
from study.tracking.runs import Run
from study.tracking.store import Store

STDIN = "-"
FORMS = ("table", "json", "csv")
RUNNERS_UP = 2
"""Number of classes after the first that the table shows."""

Source = tuple[str, Path | bytes]
"""A photo's name, and its file or its bytes."""


def predict(
    names: Sequence[str], spec: str, store: Store, display: Display, form: str = "table", dataset: str = ""
) -> bool:
    """Prints the class of each photo with the probabilities; returns whether all could be read.

    Args:
        names: image files, folders of them, or `-` for the bytes of one on the standard input.
        spec: see `best.choose_retrained_on`, also for `dataset`.
        store: where the run is recorded.
        display: shows the progress.
        form: one of `FORMS`.
        dataset: that of best.

    Raises:
        StudyError: for an unknown run, or one that is not finished or whose weights are missing or altered.
    """
    run = choose_retrained_on(store, spec, dataset)
    say_ties(spec, run, store, display.say)
    model = load(store, run)
    side = model.side
    sources, left_out = _sources(names)
    photos, failures = _read(sources, side, display)
    table = model.classify([photo.pixels for _, photo in photos])
    table.insert(0, "image", [name for name, _ in photos])
    {"table": _print_table, "json": _print_json, "csv": _print_csv}[form](table, run)
    summary = _summary(run, side, [photo for _, photo in photos])
    if photos:
        say(summary, sys.stdout if form == "table" else sys.stderr)
    for sentence in left_out:
        say(sentence, sys.stderr)
    for name, why in failures.items():
        say(f"study: {one_line(name)} cannot be read as an image ({one_line(why)}).", sys.stderr)
    return not failures


def load(store: Store, run: Run) -> Served:
    """The network of a retrained run with its last weights, on the CPU.

    Raises:
        StudyError: where it is not finished, or they are missing or altered.
    """
    if run.status != "FINISHED":
        raise StudyError(
            f"Run {run.name} ({run.id}) is {run.status.lower()}, not finished: `{retraining(store, run)}` continues it."
        )
    classes = store.classes(run.id)
    weights, _ = store.load_tensors(run.id, weights_path(run.epochs))
    model = trained_model(run.train_config.model, weights, classes=len(classes), side=run.image_size)
    return Served(model, classes, run.image_size)


def _sources(names: Collection[str]) -> tuple[list[Source], list[str]]:
    """Each photo that `names` name, of a folder all images below it; and sentences on what is not read of folders."""
    sources, left_out = list[Source](), list[str]()
    for name in names:
        path = Path(name).expanduser()
        if name == STDIN:
            sources.append((name, sys.stdin.buffer.read()))
        elif path.is_dir():
            images, sentence = images_below(path)
            sources += [(str(file), file) for file in images] or [(name, path)]
            left_out += [sentence] if sentence else []
        else:
            sources.append((name, path))
    return sources, left_out


def _read(sources: Sequence[Source], side: int, display: Display) -> tuple[list[tuple[str, Photo]], dict[str, str]]:
    """The photos with their names, and by name why others cannot be read."""
    photos, failures = list[tuple[str, Photo]](), dict[str, str]()
    decoded = partial(_decoded, side=side)
    with display.bar("reading photos", len(sources)) as bar, ThreadPoolExecutor() as threads:
        for (name, source), photo in zip(sources, threads.map(decoded, (of for _, of in sources)), strict=True):
            interruption.check()
            bar.advance()
            if isinstance(photo, str):
                is_folder = isinstance(source, Path) and source.is_dir()
                what = "The standard input" if name == STDIN else name
                failures[what] = "the folder holds no images" if is_folder else photo
            else:
                photos.append((name, photo))
    return photos, failures


def _decoded(source: Path | bytes, side: int) -> Photo | str:
    """The photo, or why it cannot be read."""
    try:
        return read_photo(source, side)
    # Whatever Pillow's decoders raise.
    except Exception as error:
        return why_unreadable(error)


def _summary(run: Run, side: int, photos: Collection[Photo]) -> str:
    count = sum(photo.size != (side, side) for photo in photos)
    how = f"; {count} resized to {side} × {side} pixels, as for training" if count else ""
    pages = sum(photo.has_more for photo in photos)
    how += f"; of {pages} with several pages or frames, the first" if pages else ""
    network = f"{model_label(run.model)} of run {run.id}"
    return f"{counted(len(photos), 'image')} classified by the {network} ({one_line(run.dataset_key)}){how}."


def _print_table(table: pd.DataFrame, run: Run) -> None:
    console = Console(highlight=False)
    # Not a terminal: so wide that nothing is cut.
    console.width = console.width if console.is_terminal else 200
    shown = Table(box=None, padding=(0, 1))
    shown.add_column("image", overflow="fold")
    shown.add_column("class", no_wrap=True)
    shown.add_column("probability", justify="right", no_wrap=True)
    shown.add_column("then", overflow="fold")
    probabilities = table.filter(regex="^p_").rename(columns=lambda name: one_line(name.removeprefix("p_")))
    for (_, row), (_, values) in zip(table.iterrows(), probabilities.iterrows(), strict=True):
        ranked = values.sort_values(ascending=False, kind="stable")[1 : 1 + RUNNERS_UP]
        runners_up = ", ".join(f"{name} {share:.1%}" for name, share in ranked.items())
        cells = one_line(row["image"]), one_line(row["class"]), f"{row['probability']:.1%}", runners_up
        shown.add_row(*map(Text, cells))
    if len(table):
        console.print(shown)


def _print_json(table: pd.DataFrame, run: Run) -> None:
    classes = [name for name in table.columns if name.startswith("p_")]
    predictions = [
        {
            "image": row["image"],
            "class": row["class"],
            "probability": row["probability"],
            "probabilities": {name.removeprefix("p_"): row[name] for name in classes},
        }
        for row in table.to_dict("records")
    ]
    print(json.dumps({"run": run.id, "predictions": predictions}, indent=2))


def _print_csv(table: pd.DataFrame, run: Run) -> None:
    table.to_csv(sys.stdout, index=False)
